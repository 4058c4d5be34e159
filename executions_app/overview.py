"""Reads of the overview page: figures of now and of the last hours."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q, QuerySet
from django.db.models.functions import TruncHour
from django.utils import timezone

from quartzflow.execution_status import ExecutionStatus
from tasks_app.choices import TaskStatus
from tasks_app.models import Task
from tasks_app.selectors import next_fire_time

from .models import Execution

BAD = (ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT)
UPCOMING_TASKS = 500  # tasks looked at for the next firings; an overview need not know more


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


def upcoming(
    tasks: QuerySet[Task], within: timedelta, count: int, now: datetime | None = None
) -> list[tuple[datetime, Task]]:
    """The next firings of these tasks, one a task, soonest first."""
    now = now or timezone.now()
    found = [
        (moment, task)
        for task in tasks.filter(status=TaskStatus.ENABLED)[:UPCOMING_TASKS]
        if (moment := next_fire_time(task, now)) is not None and moment <= now + within
    ]
    return sorted(found, key=lambda pair: (pair[0], pair[1].pk))[:count]
