"""Firing by the agent itself, while nobody else does: the link is down, or the server has no scheduler (FR-5.4).

The names of executions are those that the server would have given them, so what both fire is still one.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Dict, Iterator, Optional, Set

from quartzflow_agent import schedule
from quartzflow_agent.clock import Clock
from quartzflow_agent.cron import ScheduleError
from quartzflow_agent.engine import Engine
from quartzflow_agent.held import SCHEDULE
from quartzflow_agent.logs import event
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.schedule import FIXED_DELAY, Schedule
from quartzflow_agent.store import executions, tasks
from quartzflow_agent.store.database import StoreError, get_meta
from quartzflow_agent.store.records import CachedTask, utc
from quartzflow_agent.store.thread import StoreThread
from quartzflow_agent.timeline import Timeline

log = logging.getLogger(__name__)

# Meta key: until when, on its own word, somebody on the server was firing (ms).
SERVED_UNTIL = "served_until"
# A scheduler that has died still counts as alive until its lease is over.
LEASE = timedelta(seconds=15)
# It takes so long to notice that nobody fires; what falls into that time is late, not missed.
NOTICE = timedelta(seconds=20)
# What is due so soon after the server is back was given out before, while it could not count on us.
HANDOVER = timedelta(seconds=3)  # the server's lookahead, and some
LOOK = 30.0  # seconds between looks at whether the clock was set back
SET_BACK = 10.0  # seconds; less is a correction
MOST_MISSED = 100  # firings of one task that fire_all makes up for
LEAST_GRACE = timedelta(seconds=60)  # in which a firing may still start


class LocalScheduler:
    """Fires the cached tasks that may be fired here, while `active`."""

    def __init__(self, *, store: StoreThread, clock: Clock, engine: Engine, client_id: str) -> None:
        self._store = store
        self._clock = clock
        self._engine = engine
        self._client_id = client_id
        self._timeline = Timeline(clock, self._fire)
        self._tasks: Dict[str, CachedTask] = {}
        self._next: Dict[str, datetime] = {}
        self._waiting: Set[str] = set()  # fixed_delay tasks whose last run is not over
        self._reload = asyncio.Event()
        self._work: "Set[asyncio.Task[None]]" = set()
        self._registered_at = 0
        self._until = 0  # the last moment (ms) to fire for, once it is no longer active
        self.active = False

    def registered(self) -> None:
        """The server counts on us from now on; what it fired before was for others."""
        self._registered_at = self._clock.server_ms()

    def set_active(self, active: bool, why: str) -> None:
        """Begin or end to fire."""
        if active != self.active:
            self.active = active
            self._until = self._clock.server_ms() + HANDOVER // timedelta(milliseconds=1)
            log.warning(event("local_firing" if active else "server_firing", reason=why))
            self._reload.set()

    def tasks_changed(self) -> None:
        """The configuration has changed."""
        self._reload.set()

    def ended(self, task_id: str, finished_at: int) -> None:
        """An execution of the task is over (ms): a fixed delay counts from now."""
        if task_id in self._waiting and not self._engine.holds_task(task_id):
            self._waiting.discard(task_id)
            task = self._tasks.get(task_id)
            if task is not None and self.active:
                self._plan(task, Schedule.from_task_config(task.config).next_after(utc(finished_at)))

    async def run(self) -> None:
        """Until cancelled."""
        firing = asyncio.ensure_future(self._timeline.run())
        loaded = True
        try:
            while True:
                ahead = self._ahead()
                await self._clock.wait(self._reload, LOOK)
                back = ahead - self._ahead()
                if back > SET_BACK:
                    # What was planned for lies too far ahead now.
                    log.warning(event("clock_set_back", seconds=round(back)))
                    self._reload.set()
                if self._reload.is_set() or not loaded:
                    self._reload.clear()
                    loaded = await self._load()
        finally:
            firing.cancel()

    def _ahead(self) -> float:
        """Changes only when a clock is set, seconds."""
        return self._clock.server_ms() / 1000 - self._clock.monotonic()

    async def _load(self) -> bool:
        """Plan every task anew; False when the store cannot say which there are."""
        for task_id in self._next:
            self._timeline.remove(task_id)
        self._next.clear()
        self._waiting.clear()
        self._tasks = {}
        if not self.active and self._clock.server_ms() >= self._until:
            return True
        try:
            found = await self._store.call(tasks.all_tasks)
            served = int(await self._store.call(lambda db: get_meta(db, SERVED_UNTIL, "0")))
        except StoreError as error:
            log.error(event("store_failed", about="firing", error=error))
            return False
        for task in found:
            if task.config.enabled and task.config.local_firing:
                self._tasks[task.config.id] = task
                try:
                    await self._begin(task, max(utc(served) - LEASE, utc(self._registered_at)))
                except ScheduleError as error:
                    log.error(event("bad_schedule", task=task.config.id, error=error))
                except StoreError as error:
                    log.error(event("store_failed", about="firing", error=error))
                    return False
        return True

    async def _begin(self, task: CachedTask, served: datetime) -> None:
        """Fire what nobody has fired since the server last did, and plan what comes next."""
        plan, task_id = Schedule.from_task_config(task.config), task.config.id
        now = utc(self._clock.server_ms())
        if not self.active:
            self._plan(task, plan.next_after(now))
            return
        begun = max(task.changed_at, task.config.schedule_since)
        since = max(served, utc(begun), utc(task.fired_at))
        if plan.schedule_type == FIXED_DELAY:
            if self._engine.holds_task(task_id):
                self._waiting.add(task_id)
                return
            ended = await self._store.call(lambda db: executions.last_end(db, task_id))
            # One that is overdue begins now: a delay has no times that could be missed.
            overdue = now - timedelta(seconds=plan.interval_seconds)
            self._plan(task, plan.next_after(max(utc(max(ended, begun)), overdue)))
            return
        late = now - NOTICE
        times = plan.missed(since, now, MOST_MISSED, until=late) if since < late else []
        times += self._times(plan, max(since, late), now)
        for moment in times:
            self._emit(task, moment)
        self._plan(task, plan.next_after(now))

    @staticmethod
    def _times(plan: Schedule, after: datetime, until: datetime) -> Iterator[datetime]:
        moment = plan.next_after(after)
        while moment is not None and moment <= until:
            yield moment
            moment = plan.next_after(moment)

    def _plan(self, task: CachedTask, moment: Optional[datetime]) -> None:
        if moment is not None and (self.active or _ms(moment) <= self._until):
            self._next[task.config.id] = moment
            self._timeline.put(task.config.id, _ms(moment))

    def _fire(self, task_id: str) -> None:
        """A task's time has come."""
        task, moment = self._tasks[task_id], self._next.pop(task_id)
        late = utc(self._clock.server_ms()) - moment
        if self.active and late > NOTICE:
            # The machine was suspended, or its clock set: what has passed meanwhile was missed, of all tasks.
            log.warning(event("firings_passed", task=task_id, late_s=round(late.total_seconds())))
            self._reload.set()
            return
        plan = Schedule.from_task_config(task.config)
        if plan.schedule_type == FIXED_DELAY:
            self._waiting.add(task_id)
        else:
            self._plan(task, plan.next_after(moment))
        self._emit(task, moment)

    def _emit(self, task: CachedTask, moment: datetime) -> None:
        work = asyncio.ensure_future(self._run(self._instruction(task.config, moment)))
        self._work.add(work)
        work.add_done_callback(self._work.discard)

    async def _run(self, instruction: task_pb2.TaskExecution) -> None:
        log.info(event("fired", execution=instruction.execution_id, task=instruction.task_id))
        try:
            await self._engine.accept([instruction], local=True)
        except StoreError as error:
            log.error(event("firing_lost", execution=instruction.execution_id, error=error))

    def _instruction(self, config: task_pb2.TaskConfig, moment: datetime) -> task_pb2.TaskExecution:
        """What the server would have sent."""
        delay = schedule.spread_delay_ms(config.id, self._client_id, config.spread_seconds)
        # As the server counts it: what is made up for has its whole grace from now on.
        grace = max(timedelta(seconds=config.misfire_grace), LEAST_GRACE)
        expires = max(moment, utc(self._clock.server_ms())) + grace
        return task_pb2.TaskExecution(
            task_id=config.id,
            task_name=config.name,
            execution_id=schedule.execution_id(config.id, moment, self._client_id),
            executor_type=config.executor_type,
            executor_config=config.executor_config,
            timeout=config.timeout,
            scheduled_time=_ms(moment),
            run_id=schedule.run_id(config.id, moment),
            concurrency=config.concurrency,
            concurrency_policy=config.concurrency_policy,
            task_version=config.version,
            trigger=SCHEDULE,
            expires_at=_ms(expires) + delay,
            delay_ms=delay,
        )


def _ms(moment: datetime) -> int:
    return (moment - schedule.EPOCH) // timedelta(milliseconds=1)
