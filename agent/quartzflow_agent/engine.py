"""What the agent is to run: held until its time, run within its task's limits, recorded, reported (PRD §10.2)."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, Coroutine, Dict, Iterable, List, Mapping, Optional, Sequence, Set

from quartzflow_agent.clock import Clock
from quartzflow_agent.executors.base import Executor
from quartzflow_agent.executors.process import ProcessRunner, process_created
from quartzflow_agent.held import (
    ALIVE_UNTIL,
    OF_WAITING,
    Held,
    former_ends,
    next_attempt,
    refusal,
    renew,
    same_process,
)
from quartzflow_agent.lanes import Lanes, Room, Verdict
from quartzflow_agent.logs import event
from quartzflow_agent.paths import Home
from quartzflow_agent.ports import Listener, Reports
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.runner import AGENT_STOPPED, STOP_LIMIT, Run, log_name, refused
from quartzflow_agent.store import executions, tasks
from quartzflow_agent.store.database import StoreError, get_meta
from quartzflow_agent.store.records import (
    CANCELLED,
    RUNNING,
    STATUS_NAMES,
    Added,
    Ending,
    utc_day,
)
from quartzflow_agent.store.thread import StoreThread
from quartzflow_agent.timeline import Timeline

log = logging.getLogger(__name__)

STORE_RETRY = 1.0  # seconds between two tries to write an end down
# Cancellations may overtake what they cancel; so many are remembered.
CANCELLED_AHEAD = 1000


class Engine:
    """Everything between an instruction and its result. One event loop; nothing here blocks."""

    def __init__(
        self,
        *,
        store: StoreThread,
        clock: Clock,
        reports: Reports,
        listener: Listener,
        executors: Mapping[int, Executor],
        processes: ProcessRunner,
        home: Home,
        log_limit: int,
        most: int = 0,
    ) -> None:
        """log_limit: bytes of one execution's log. most: executions at once; 0: any number."""
        self._store = store
        self._clock = clock
        self._reports = reports
        self._listener = listener
        self._executors = executors
        self._processes = processes
        self._home = home
        self._log_limit = log_limit
        self._held: Dict[str, Held] = {}
        self._lanes = Lanes()
        self._room = Room(most)
        self._configs: Dict[str, task_pb2.TaskConfig] = {}
        self._watched: Set[str] = set()
        self._cancelled_ahead: Dict[str, str] = {}
        self._work: "Set[asyncio.Task[None]]" = set()
        self._hurry = False
        self._wake = asyncio.Event()  # while stopping: something has ended
        self.stopping = False
        # Set when the engine itself is broken: the agent must not go on half alive.
        self.failure: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
        self.timeline = Timeline(clock, self._fire)

    @property
    def running(self) -> int:
        """How many executions run now."""
        return sum(held.run is not None for held in self._held.values())

    def holds_task(self, task_id: str) -> bool:
        """Whether an execution of the task runs or waits here."""
        return any(held.instruction.task_id == task_id for held in self._held.values())

    # --- what comes in ---

    async def recover(self) -> None:
        """Take up what a former life of the agent left: stop and close what ran, hold what waited.

        Raises StoreError.
        """
        cached = await self._store.call(tasks.all_tasks)
        self._configs = {task.config.id: task.config for task in cached}
        found = await self._store.call(executions.open_executions)
        started = [entry for entry in found if entry.status == RUNNING]
        if started:
            await self._processes.stop(
                [entry.pid for entry in started if entry.pid and same_process(entry)],
                [entry.instruction.execution_id for entry in started],
            )
        alive = int(await self._store.call(lambda db: get_meta(db, ALIVE_UNTIL, "0")))
        ends = former_ends(found, self._configs, self._home, self._clock.server_ms(), alive)
        for entry in found:
            execution_id = entry.instruction.execution_id
            held = self._held[execution_id] = Held(entry.instruction, entry.local)
            if execution_id in ends:
                self._end_soon(held, ends[execution_id])
            else:
                self._wait_for(held)

    async def accept(
        self, instructions: Sequence[task_pb2.TaskExecution], *, local: bool = False
    ) -> List[str]:
        """Store instructions and hold them until their time. For each: "" or why it cannot be taken.

        Raises StoreError when nothing of it could be stored.
        """
        good = [instruction for instruction in instructions if not refusal(instruction)]
        new = [
            self._take(instruction, added, local)
            for instruction, added in await self._store.call(lambda db: executions.take(db, good, local))
        ]
        # It may be older than the configuration that came before it.
        await self._renew([held for held in new if held is not None and held.run is None])
        return [refusal(instruction) for instruction in instructions]

    def _take(self, instruction: task_pb2.TaskExecution, added: Added, local: bool) -> Optional[Held]:
        """What was stored; returns what is new."""
        execution_id = instruction.execution_id
        if added is Added.ENDED:
            self._reports.resend()
        elif added is Added.ADOPTED and execution_id in self._held:
            held = self._held[execution_id]
            held.instruction.CopyFrom(instruction)
            if held.run is not None:
                held.run.report_again()
        elif added is Added.NEW:
            held = self._held[execution_id] = Held(instruction, local)
            self._listener.started(utc_day(instruction.scheduled_time))
            if execution_id in self._cancelled_ahead:
                self._cancel(held, self._cancelled_ahead.pop(execution_id))
            else:
                self._wait_for(held)
            return held
        return None

    def _wait_for(self, held: Held) -> None:
        instruction = held.instruction
        self.timeline.put(instruction.execution_id, instruction.scheduled_time + instruction.delay_ms)

    def cancel(self, execution_ids: Iterable[str], reason: str) -> None:
        """Do not run these, or stop them."""
        for execution_id in execution_ids:
            held = self._held.get(execution_id)
            if held is not None:
                # The server may not know yet that it has begun.
                if held.run is None or reason not in OF_WAITING:
                    self._cancel(held, reason or "cancelled_by_user")
            else:
                self._cancelled_ahead[execution_id] = reason or "cancelled_by_user"
        while len(self._cancelled_ahead) > CANCELLED_AHEAD:
            del self._cancelled_ahead[next(iter(self._cancelled_ahead))]

    def _cancel(self, held: Held, reason: str) -> None:
        if held.run is not None:
            held.run.end(reason)
        else:
            self._end_soon(held, refused(reason, "", self._clock.server_ms(), CANCELLED))

    async def config_changed(self, changes: tasks.Changes) -> None:
        """Tasks were changed or taken away: what waits runs by the new definition, or not at all.

        Raises StoreError.
        """
        self._configs.update(changes.tasks)
        for task_id in changes.removed:
            self._configs.pop(task_id, None)
        waiting = [held for held in self._held.values() if held.run is None]
        for held in waiting:
            if held.instruction.task_id in changes.removed:
                self._cancel(held, "task_deleted")
        await self._renew([held for held in waiting if held.instruction.task_id in changes.tasks])

    async def _renew(self, waiting: Sequence[Held]) -> None:
        renewed: List[task_pb2.TaskExecution] = []
        for held in waiting:
            config, before = self._configs.get(held.instruction.task_id), held.instruction.task_version
            reason = renew(held, config) if config is not None else ""
            if reason:
                self._cancel(held, reason)
            elif held.instruction.task_version != before:
                renewed.append(held.instruction)
        if renewed:
            await self._store.call(lambda db: executions.renew(db, renewed))

    def watch(self, execution_id: str, watched: bool) -> None:
        """Somebody looks at this execution's output, or no longer does."""
        held = self._held.get(execution_id)
        if held is None or not watched:
            self._watched.discard(execution_id)
        else:
            self._watched.add(execution_id)
        if held is not None and held.run is not None:
            held.run.watch(watched)

    def report_running(self) -> None:
        """Tell a new connection what runs."""
        for held in self._held.values():
            if held.run is not None:
                held.run.report_again()

    # --- what happens then ---

    def _fire(self, execution_id: str) -> None:
        """Its time has come."""
        held = self._held.get(execution_id)
        if held is None or held.over or self.stopping:
            return
        instruction, now = held.instruction, self._clock.server_ms()
        if instruction.expires_at and now > instruction.expires_at:
            late = (now - instruction.scheduled_time) // 1000
            self._end_soon(held, refused("expired", f"came {late} s after its time", now))
            return
        admission = self._lanes.admit(
            instruction.task_id, execution_id, instruction.concurrency, instruction.concurrency_policy
        )
        too_many = refused("concurrency", "an earlier execution of the task still ran", now, CANCELLED)
        for dropped in admission.dropped:
            self._end_soon(self._held[dropped], too_many)
        if admission.stopped is not None:
            self._cancel(self._held[admission.stopped], "concurrency")
        if admission.verdict is Verdict.RUN:
            self._start(held)
        elif admission.verdict is Verdict.REFUSED:
            self._end_soon(held, too_many)

    def _start(self, held: Held) -> None:
        execution_id = held.instruction.execution_id
        if held.over or not self._room.enter(execution_id):
            return
        held.run = Run(
            held.instruction, self._clock, self._reports.progress, lambda pid: self._on_process(held, pid)
        )
        if execution_id in self._watched:
            held.run.watch(True)
        self._spawn(self._run(held, held.run))

    async def _run(self, held: Held, run: Run) -> None:
        instruction = held.instruction
        day = utc_day(run.started_at)
        name = log_name(instruction, day)
        try:
            # Written down first: what may have run must never be run again after a crash.
            await self._store.call(
                lambda db: executions.start(db, instruction.execution_id, run.started_at, name)
            )
        except StoreError as error:
            problem = f"the record cannot be written: {error}"
            await self._end(held, refused("start_failed", problem, self._clock.server_ms()))
            return
        log.info(
            event(
                "started",
                execution=instruction.execution_id,
                task=instruction.task_id,
                late_ms=run.started_at - instruction.scheduled_time - instruction.delay_ms,
            )
        )
        self._listener.started(day)
        executor = self._executors.get(int(instruction.executor_type))
        if executor is None:
            ending = refused(
                "rejected",
                f"this agent has no executor of type {int(instruction.executor_type)}: update it",
                self._clock.server_ms(),
            )
        else:
            ending = await run.execute(
                executor, self._home.log_file(name), self._log_limit, self._home.scripts
            )
        await self._end(held, ending)

    async def _on_process(self, held: Held, pid: int) -> None:
        created = process_created(pid)
        if created is None:
            return
        execution_id = held.instruction.execution_id
        try:
            await self._store.call(lambda db: executions.set_process(db, execution_id, pid, created))
        except StoreError as error:
            # After a crash the process is still found by its mark.
            log.error(event("store_failed", execution=execution_id, error=error))

    def _end_soon(self, held: Held, ending: Ending) -> None:
        if not held.over:
            held.over = True
            self.timeline.remove(held.instruction.execution_id)
            self._spawn(self._end(held, ending))

    async def _end(self, held: Held, ending: Ending) -> None:
        """Write the end down, make room for the next, and tell the server."""
        held.over = True
        execution_id, task_id = held.instruction.execution_id, held.instruction.task_id
        result = await self._record(execution_id, ending)
        self._held.pop(execution_id, None)
        self._watched.discard(execution_id)
        for waiting in [*self._room.leave(execution_id), *self._lanes.release(task_id, execution_id)]:
            # What waits when the agent stops is found again when it starts.
            if not self.stopping:
                self._start(self._held[waiting])
        if result is None:
            return
        log.info(
            event(
                "ended",
                execution=execution_id,
                task=task_id,
                status=STATUS_NAMES[ending.status],
                reason=ending.failure_reason or "-",
                exit_code=ending.exit_code,
                ms=result.finished_at - result.started_at if result.started_at else 0,
            )
        )
        self._reports.result(result)
        self._listener.ended(result, utc_day(result.started_at or result.scheduled_time))
        if held.local:
            await self._retry(held.instruction, ending)

    async def _record(self, execution_id: str, ending: Ending) -> Optional[task_pb2.TaskResult]:
        while True:
            sent_at = self._clock.server_ms() if self._reports.ready else 0
            try:
                return await self._store.call(
                    partial(executions.finish, execution_id=execution_id, ending=ending, sent_at=sent_at)
                )
            except StoreError as error:
                # The disk is full, or worse: the result stays in memory until it can be written.
                log.error(event("store_failed", execution=execution_id, error=error))
                await asyncio.sleep(STORE_RETRY)

    async def _retry(self, instruction: task_pb2.TaskExecution, ending: Ending) -> None:
        """Who fired it tries it again: for its own firings that is the agent (PRD §6.4)."""
        again = next_attempt(instruction, self._configs.get(instruction.task_id), ending)
        if again is None:
            return
        try:
            await self.accept([again], local=True)
        except StoreError as error:
            log.error(event("retry_lost", execution=instruction.execution_id, error=error))

    async def stop(self, grace: float) -> None:
        """Start nothing more; let what runs end for so many seconds, then end it. Returns when all is recorded."""
        self.stopping = True
        await self._quiet(grace)
        for held in self._held.values():
            if held.run is not None:
                held.run.end(AGENT_STOPPED)
        self._hurry = False
        await self._quiet(STOP_LIMIT)
        for work in self._work:
            work.cancel()

    def hurry(self) -> None:
        """Do not wait any longer for what runs."""
        self._hurry = True
        self._wake.set()

    async def _quiet(self, seconds: float) -> None:
        """Wait until nothing runs or is being recorded, for so long at most, unless somebody is in a hurry."""
        deadline = self._clock.monotonic() + seconds
        while self._work and not self._hurry and self._clock.monotonic() < deadline:
            self._wake.clear()
            await self._clock.wait(self._wake, deadline - self._clock.monotonic())

    def _spawn(self, work: "Coroutine[Any, Any, None]") -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: "asyncio.Task[None]") -> None:
        self._work.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None and not self.failure.done():
            self.failure.set_exception(task.exception() or RuntimeError())
