"""The scheduler's heart: which tasks are due next. No Django, no clock, no I/O.

A heap of next nominal times. A task that changes or goes leaves its old items in the heap, where they are
recognised when they come up (and swept out when they outnumber the rest), so an edit costs O(log n).
"""

import heapq
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from quartzflow_agent.schedule import FIXED_DELAY, ONCE, Schedule

Firing = tuple[int, int]  # (task id, nominal time in Unix seconds)


@dataclass(slots=True)
class PlannedTask:
    """What the plan needs to know of one task."""

    task_id: int
    schedule: Schedule
    since: int  # Unix seconds: when its schedule was set or it was enabled; counts until it has fired
    last: int | None = None  # nominal time of the last firing
    due: int | None = None  # fixed_delay: the next time, set when the previous run has ended
    ref: int | None = None  # the caller's own
    next: int | None = None  # nominal time of the next firing, kept by the plan
    ticket: int = 0  # of its item in the heap, kept by the plan


@dataclass
class Batch:
    """What `Plan.take` found."""

    firings: list[Firing] = field(default_factory=list)
    late: int = 0  # how many of the firings were missed and are made up for
    given_up: list[Firing] = field(
        default_factory=list
    )  # missed and not made up for: the first time of each task
    skipped: list[Firing] = field(default_factory=list)  # due, but not allowed by the task's calendar
    over: list[int] = field(default_factory=list)  # `once` tasks that have no time left


class Plan:
    """The next firing of every enabled task.

    lookahead:         seconds that a firing is taken ahead of its time
    misfire_threshold: seconds; a firing later than this is missed, and the task's misfire policy applies.
                       Up to it (a slow tick, a scheduler taking over) it is only late and fires as usual.
    fire_all_limit:    how many missed times of one task `fire_all` makes up for at most
    """

    def __init__(
        self, lookahead: float = 2.0, misfire_threshold: float = 10.0, fire_all_limit: int = 100
    ) -> None:
        self.lookahead = lookahead
        self.misfire_threshold = misfire_threshold
        self.fire_all_limit = fire_all_limit
        self.waiting: set[int] = set()  # fixed delays whose run has not ended yet
        self._tasks: dict[int, PlannedTask] = {}
        self._heap: list[tuple[int, int, int]] = []  # (next, task id, ticket)
        self._tickets = itertools.count(1)

    def __len__(self) -> int:
        return len(self._tasks)

    def get(self, task_id: int) -> PlannedTask | None:
        return self._tasks.get(task_id)

    def tasks(self) -> Iterable[PlannedTask]:
        return self._tasks.values()

    def put(self, task: PlannedTask) -> None:
        """Plan a task, in place of what was planned for it. Raises ScheduleError and plans nothing of it."""
        self.remove(task.task_id)
        task.next = first_time(task)
        self._tasks[task.task_id] = task
        self._push(task)
        if len(self._heap) > 2 * len(self._tasks) + 1000:
            self._heap = [(t.next, t.task_id, t.ticket) for t in self._tasks.values() if t.next is not None]
            heapq.heapify(self._heap)

    def remove(self, task_id: int) -> None:
        self._tasks.pop(task_id, None)
        self.waiting.discard(task_id)

    def next_time(self) -> int | None:
        """The earliest time in the heap, which may be one that no longer counts."""
        return self._heap[0][0] if self._heap else None

    def backlog(self, now: float) -> int:
        """How many tasks are past their time."""
        if not self._heap or self._heap[0][0] > now:
            return 0
        return sum(task.next is not None and task.next <= now for task in self._tasks.values())

    def take(self, now: float, limit: int = 10_000) -> Batch:
        """Take what is due up to `now` + lookahead, `limit` firings or a few more; plan the next ones.

        1. A task whose time is missed fires by its misfire policy, and goes on from the threshold.
        2. One that its calendar does not allow is skipped.
        3. Any other fires at its time, and goes on from there.
        """
        batch = Batch()
        horizon, threshold = now + self.lookahead, int(now - self.misfire_threshold)
        # Many tasks share a schedule and a moment; each next time is computed once.
        computed: dict[tuple[int, int], int | None] = {}
        while self._heap and self._heap[0][0] <= horizon and len(batch.firings) < limit:
            time, task_id, ticket = heapq.heappop(self._heap)
            task = self._tasks.get(task_id)
            if task is None or task.ticket != ticket:
                continue
            if time < threshold and task.schedule.schedule_type != FIXED_DELAY:
                self._make_up(task, time, now, threshold, batch)
                after = threshold - 1
            else:
                allowed = task.schedule.allows(_moment(time))
                (batch.firings if allowed else batch.skipped).append((task_id, time))
                task.last = after = time
            key = (id(task.schedule), after)
            if key not in computed:
                computed[key] = _next_after(task.schedule, after)
            task.next = computed[key]
            if task.next is None and task.schedule.schedule_type == ONCE:
                batch.over.append(task_id)
            self._push(task)
        return batch

    def put_back(self, firings: Iterable[Firing]) -> None:
        """Undo `take` for firings that could not be sent: they are due again (and may be missed by then)."""
        earliest: dict[int, int] = {}
        for task_id, time in firings:
            earliest[task_id] = min(time, earliest.get(task_id, time))
        for task_id, time in earliest.items():
            task = self._tasks.get(task_id)
            if task is not None:
                task.next = time
                self._push(task)

    def _make_up(self, task: PlannedTask, first: int, now: float, threshold: int, batch: Batch) -> None:
        times = task.schedule.missed(
            _moment(first - 1), _moment(now), self.fire_all_limit, until=_moment(threshold - 1)
        )
        if not times:
            batch.given_up.append((task.task_id, first))
            return
        batch.firings += [(task.task_id, int(time.timestamp())) for time in times]
        batch.late += len(times)
        task.last = int(times[-1].timestamp())

    def _push(self, task: PlannedTask) -> None:
        task.ticket = next(self._tickets)
        if task.next is not None:
            heapq.heappush(self._heap, (task.next, task.task_id, task.ticket))
            self.waiting.discard(task.task_id)
        elif task.schedule.schedule_type == FIXED_DELAY:
            self.waiting.add(task.task_id)


def first_time(task: PlannedTask) -> int | None:
    """The next time of a task as it stands, which may lie in the past. Raises ScheduleError."""
    if task.schedule.schedule_type != FIXED_DELAY:
        return _next_after(task.schedule, task.since if task.last is None else task.last)
    if task.last is None:
        time = max(task.since, task.due or 0)
    elif task.due is not None and task.due > task.last:
        time = task.due
    else:
        return None  # its run has not ended yet
    schedule = task.schedule
    if schedule.start_at is not None:
        time = max(time, math.ceil(schedule.start_at.timestamp()))
    allowed = schedule.allowed_from(_moment(time))
    if allowed is None:
        return None
    time = int(allowed.timestamp())
    return None if schedule.end_at is not None and time > schedule.end_at.timestamp() else time


def _next_after(schedule: Schedule, time: int) -> int | None:
    if schedule.schedule_type == FIXED_DELAY:
        return None
    found = schedule.next_nominal_after(
        _moment(time)
    )  # what the calendar forbids is seen, and counted, in its time
    return None if found is None else int(found.timestamp())


def _moment(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)
