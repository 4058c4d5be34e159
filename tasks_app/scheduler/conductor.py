"""One beat instance at work: it follows the tasks, stands by or leads, and sends out what is due."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import structlog
from quartzflow_agent.schedule import ONCE

from quartzflow.lease import LeaseKeeper
from quartzflow.metrics import metrics
from tasks_app import actions
from tasks_app.configs import current_version

from . import rows
from .plan import Batch, Firing, Plan, PlannedTask

log = structlog.get_logger(__name__)

POLL_EVERY = 0.5  # seconds between looks for changes and for a free lease
SAVE_EVERY = 5.0  # seconds between savings of last firings
RESEND_AFTER = 60.0  # seconds after which the firing of a fixed delay that led to nothing is sent again
EXPIRE_EVERY = 1.0  # seconds between looks at `once` tasks that have fired
CHUNK = 500  # firings a message
TAKE_LIMIT = 10_000  # firings a step, so that a great backlog does not keep the lease from being renewed

Publish = Callable[[list[Firing], int], None]  # (firings, fencing token); raises when they were not sent


class Conductor:
    """The steps of one instance. The caller loops, and calls again after an error.

    publish: sends one message with firings
    lease:   decides which instance sends
    clock:   Unix time
    timer:   seconds that no correction of the clock disturbs
    """

    def __init__(
        self,
        publish: Publish,
        lease: LeaseKeeper,
        plan: Plan | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lease = lease
        self.plan = plan or Plan()
        self._publish = publish
        self._clock = clock
        self._timer = timer
        self._version: int | None = None  # configuration version that the plan has; None: not loaded
        self._token: int | None = None  # of the lease under which we lead; None: we stand by
        self._unsaved: dict[int, rows.LastFiring] = {}
        self._fired_once: dict[int, tuple[int, int]] = {}  # task id → (its time, when to stop waiting)
        self._polled_at = self._saved_at = self._expired_at = self._armed_at = self._resent_at = (
            self._reported_at
        ) = float("-inf")

    @property
    def leads(self) -> bool:
        return self._token is not None

    def step(self) -> float:
        """Do what is to be done now; returns the seconds until there may be more.

        1. Follow the tasks: everything at first, then what changed. An instance that stands by does so, too.
        2. Keep the lease or try for it.
        3. On becoming the leader, learn what others fired meanwhile.
        4. As the leader, send what is due, then save.
        """
        self._follow()
        if self._timer() - self._reported_at >= SAVE_EVERY:
            self._report()
        if not self.lease.keep():
            self._stand_by()
            return POLL_EVERY
        if self._token != self.lease.token:
            self._lead()
        self._arm_delays()
        more = self._fire()
        self._expire_once()
        if self._timer() - self._saved_at >= SAVE_EVERY:
            self.save()
        return 0.0 if more else self._pause()

    def save(self) -> None:
        """Save the last firings. What fails to be saved is kept for the next time."""
        if self._unsaved:
            rows.save_last_firings(self._unsaved)
            self._unsaved = {}
        self._saved_at = self._timer()

    def close(self) -> None:
        """Save and let another instance take over. May be called again."""
        self.save()
        self._token = None
        self.lease.release()

    def _report(self) -> None:
        """Say how this instance stands, for health and metrics."""
        self._reported_at = self._timer()
        metrics.report(
            f"beat:{self.lease.holder}",
            {
                "leader": self.leads,
                "token": self.lease.token,
                "tasks": len(self.plan),
                "backlog": self.plan.backlog(self._clock()),
                "version": self._version,
            },
        )

    # --- following the tasks ---

    def _follow(self) -> None:
        now = self._timer()
        if self._version is not None and now - self._polled_at < POLL_EVERY:
            return
        changes = None if self._version is None else rows.changes_after(self._version)
        if changes is None or not changes.complete:
            self._load()
        elif changes.version != self._version:
            self._reload(changes.task_ids)
            self._version = changes.version
            metrics.observe("schedule_reload_seconds", [self._timer() - now])
        self._polled_at = now

    def _load(self) -> None:
        """Read all tasks; the version first, so that a change in between is seen again, never missed."""
        started = self._timer()
        version = current_version()
        present = self._put(rows.planned_tasks())
        for task_id in [task.task_id for task in self.plan.tasks() if task.task_id not in present]:
            self.plan.remove(task_id)
        self._version = version
        log.info(
            "tasks loaded", tasks=len(self.plan), version=version, seconds=round(self._timer() - started, 3)
        )

    def _reload(self, task_ids: Iterable[int]) -> None:
        ids = set(task_ids)
        present = self._put(rows.planned_tasks(ids))
        for task_id in ids - present:
            self.plan.remove(task_id)
            self._fired_once.pop(task_id, None)
        log.debug("tasks changed", changed=len(present), gone=len(ids - present))

    def _put(self, tasks: Iterable[PlannedTask]) -> set[int]:
        """Plan these tasks; returns the ids of those that there are, plannable or not."""
        present = set()
        for count, task in enumerate(tasks):
            present.add(task.task_id)
            self._fired_once.pop(task.task_id, None)
            task.last = self._last_firing(task)
            try:
                self.plan.put(task)
            except (ValueError, OverflowError) as error:  # a row that was not written through the actions
                log.error("task cannot be scheduled", task_id=task.task_id, error=str(error))
                continue
            if task.next is None and task.last is not None and task.schedule.schedule_type == ONCE:
                self._watch_once(task, task.last)
            if self.leads and count % rows.READ_CHUNK == 0:
                self.lease.keep()
        return present

    def _last_firing(self, task: PlannedTask) -> int | None:
        """The last firing, one that is not saved yet included.

        An empty one in the row is either that of a task that just fired for the first time, or says that the schedule
        was begun anew; then it counts from `since`.
        """
        unsaved = self._unsaved.get(task.task_id)
        if unsaved is None:
            return task.last
        if task.last is None and unsaved.time < task.since:
            del self._unsaved[task.task_id]
            return None
        return max(unsaved.time, task.last or 0)

    # --- leading ---

    def _stand_by(self) -> None:
        if self._token is not None:
            log.warning("standing by", token=self._token)
            self._token = None

    def _lead(self) -> None:
        """Whatever others fired and saved meanwhile counts; what is due since then fires by misfire policy."""
        self.save()
        stale = []
        for task_id, last, due in rows.firing_state():
            task = self.plan.get(task_id)
            if task is not None and (task.last, task.due) != (last, due):
                stale.append(task_id)
        if stale:
            self._reload(stale)
        self._token = self.lease.token
        log.info("leading", token=self._token, tasks=len(self.plan), refreshed=len(stale))

    def _fire(self) -> bool:
        """Send what is due. Returns whether there may be more right now."""
        batch = self.plan.take(self._clock(), TAKE_LIMIT)
        if batch.given_up:
            log.warning("missed firings given up", tasks=len(batch.given_up))
        if batch.skipped:
            self._note(batch.skipped, skipped=True)
            log.info("firings skipped by calendar", firings=len(batch.skipped))
        try:
            self._send(batch.firings)
        finally:
            self._note_over(batch)
        if batch.late:
            log.warning("missed firings made up for", firings=batch.late)
        if batch.firings:
            metrics.observe("firing_batch", [len(batch.firings)])
        metrics.count("firings_made_up", batch.late)
        metrics.count("firings_given_up", len(batch.given_up))
        metrics.count("firings_skipped", len(batch.skipped))
        return len(batch.firings) >= TAKE_LIMIT

    def _send(self, firings: Sequence[Firing]) -> None:
        """Send firings in messages of CHUNK; what cannot be sent is due again."""
        sent = 0
        try:
            while sent < len(firings) and self.lease.holds():
                chunk = list(firings[sent : sent + CHUNK])
                self._publish(chunk, self.lease.token)
                self._note(chunk)
                sent += len(chunk)
        finally:
            if sent < len(firings):
                self.plan.put_back(firings[sent:])
            metrics.count("firings", sent)
        if sent:
            log.debug("firings sent", firings=sent, ahead=round(firings[0][1] - self._clock(), 3))

    def _note(self, firings: Iterable[Firing], skipped: bool = False) -> None:
        for task_id, time_ in firings:
            task = self.plan.get(task_id)
            if task is None or task.ref is None:
                continue
            last = self._unsaved.setdefault(task_id, rows.LastFiring(task.ref, time_))
            last.time = max(last.time, time_)
            last.count += not skipped
            last.skipped += skipped

    def _pause(self) -> float:
        due = self.plan.next_time()
        if due is None:
            return POLL_EVERY
        return min(POLL_EVERY, max(0.0, due - self.plan.lookahead - self._clock()))

    # --- fixed delay ---

    def _arm_delays(self) -> None:
        """Learn which runs have ended; their tasks have a next time now."""
        if not self.plan.waiting or self._timer() - self._armed_at < POLL_EVERY:
            return
        self._armed_at = self._timer()
        for task_id, due in rows.next_delays(self.plan.waiting).items():
            task = self.plan.get(task_id)
            if task is not None and task.due != due:
                self.plan.put(replace(task, due=due))
        if self._timer() - self._resent_at >= RESEND_AFTER:
            self._resent_at = self._timer()
            self._resend_delays()

    def _resend_delays(self) -> None:
        """A firing that the broker lost would stop its task for ever; one that it did not lose is there already."""
        before = self._clock() - RESEND_AFTER
        waiting = [
            task
            for task in map(self.plan.get, self.plan.waiting)
            if task and task.last and task.last < before
        ]
        idle = rows.idle(task.task_id for task in waiting)
        lost = [(task.task_id, task.last) for task in waiting if task.task_id in idle and task.last]
        if lost:
            log.warning("fixed delays sent again", tasks=len(lost))
            for start in range(0, len(lost), CHUNK):
                self._publish(lost[start : start + CHUNK], self.lease.token)

    # --- once ---

    def _note_over(self, batch: Batch) -> None:
        fired, given_up = dict(batch.firings), dict([*batch.given_up, *batch.skipped])
        for task_id in batch.over:
            task = self.plan.get(task_id)
            if task is None or task.next is not None:
                continue  # put back, because it could not be sent
            if task_id in fired:
                self._watch_once(task, fired[task_id])
            else:
                self._fired_once[task_id] = (given_up[task_id], 0)

    def _watch_once(self, task: PlannedTask, fired: int) -> None:
        self._fired_once[task.task_id] = (fired, fired + task.schedule.misfire_grace)

    def _expire_once(self) -> None:
        """Disable `once` tasks that have fired, when their executions have started.

        Not before: a disabled task's firing is dropped wherever it still waits. One of which no execution ever
        appears (nobody serves the queue) is disabled when its grace time is over.
        """
        if not self._fired_once or self._timer() - self._expired_at < EXPIRE_EVERY:
            return
        self._expired_at = self._timer()
        now = self._clock()
        passed = {task_id for task_id, (fired, _) in self._fired_once.items() if fired < now}
        over = {task_id for task_id in passed if self._fired_once[task_id][1] < now} | rows.started(passed)
        if over:
            actions.expire_once(over)
            for task_id in over:
                del self._fired_once[task_id]
