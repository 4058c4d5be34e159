"""Reads of the overview page: figures of now and of the last hours."""

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.db.models.functions import TruncHour
from django.utils import timezone

from quartzflow.execution_status import ExecutionStatus
from tasks_app.choices import ScheduleType, TaskStatus
from tasks_app.models import Task
from tasks_app.selectors import next_fire_time

from .models import Execution

BAD = (ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT)
UPCOMING_TASKS = 500  # tasks looked at for the next firings; an overview need not know more
MARKS = 600  # firings that are worked out minute by minute
RECURRING = (ScheduleType.CRON, ScheduleType.FIXED_RATE)


@dataclass(frozen=True)
class Hour:
    """Executions of one hour."""

    start: datetime
    success: int
    bad: int  # failed or timed out
    other: int  # cancelled, waiting, running

    @property
    def total(self) -> int:
        return self.success + self.bad + self.other


def hourly(executions: QuerySet[Execution], hours: int, now: datetime | None = None) -> list[Hour]:
    """The last `hours` hours, the current one last; hours without executions are zero."""
    this = (now or timezone.now()).replace(minute=0, second=0, microsecond=0)
    first = this - timedelta(hours=hours - 1)
    rows = (
        executions.filter(scheduled_time__gte=first)
        .order_by()
        .annotate(hour=TruncHour("scheduled_time"))
        .values("hour")
        .annotate(
            success=Count("id", filter=Q(status=ExecutionStatus.SUCCESS)),
            bad=Count("id", filter=Q(status__in=BAD)),
            total=Count("id"),
        )
    )
    found = {row["hour"]: row for row in rows}
    result = []
    for index in range(hours):
        start = first + timedelta(hours=index)
        row = found.get(start, {"success": 0, "bad": 0, "total": 0})
        result.append(Hour(start, row["success"], row["bad"], row["total"] - row["success"] - row["bad"]))
    return result


@dataclass(frozen=True)
class Minute:
    """The tasks that fire within one minute, each once."""

    start: datetime
    tasks: list[Task]

    success = bad = 0

    @property
    def other(self) -> int:
        return len(self.tasks)

    @property
    def total(self) -> int:
        return len(self.tasks)


@dataclass(frozen=True)
class Ahead:
    """What fires next: each task once with its next time, soonest first; and minute by minute until `until`."""

    first: list[tuple[datetime, Task]]
    minutes: list[Minute]
    until: datetime
    whole: bool  # the minutes reach as far as one has asked for


def ahead(tasks: QuerySet[Task], minutes: int, count: int, now: datetime | None = None) -> Ahead:
    """The firings of the next minutes; the soonest MARKS of them, since there may be thousands."""
    now = now or timezone.now()
    this = now.replace(second=0, microsecond=0)
    end = this + timedelta(minutes=minutes)
    queue: list[tuple[datetime, int, Task, Any]] = [
        (moment, task.pk, task, None)
        for task in tasks.filter(status=TaskStatus.ENABLED)[:UPCOMING_TASKS]
        if (moment := next_fire_time(task, now)) is not None and moment < end
    ]
    heapq.heapify(queue)
    first = [(moment, task) for moment, _pk, task, _spec in heapq.nsmallest(count, queue)]
    found: dict[datetime, list[Task]] = {this + timedelta(minutes=number): [] for number in range(minutes)}
    marks = 0
    while queue and marks < MARKS:
        moment, pk, task, spec = heapq.heappop(queue)
        minute = max(moment.replace(second=0, microsecond=0), this)
        found[minute].append(task)
        marks += 1
        if task.schedule_type in RECURRING:
            spec = spec or task.schedule_spec()
            following = spec.next_after(minute + timedelta(minutes=1, microseconds=-1))
            if following is not None and following < end:
                heapq.heappush(queue, (following, pk, task, spec))
    # The minute in which it stopped is not whole.
    until = queue[0][0].replace(second=0, microsecond=0) if queue else end
    rows = [Minute(start, listed if start < until else []) for start, listed in found.items()]
    return Ahead(first, rows, until, not queue)
