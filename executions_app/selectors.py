"""All reads of executions that pages and API share."""

from datetime import datetime, time, timedelta
from typing import Any, TypedDict

from django.db.models import Avg, Count, Q, QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from quartzflow.execution_status import ExecutionStatus
from quartzflow.permissions import User, visible
from tasks_app.models import Task

from .models import Execution, ExecutionLog

MOST_NAMED = 5000  # tasks that a query names one by one


def executions_for(user: User) -> QuerySet[Execution]:
    """The executions a user may see: all with the model permission, else those of tasks the user may view."""
    if user.has_perm("executions_app.view_execution"):
        return Execution.objects.all()
    # Few tasks by their numbers: the planner then reads their index, and not everybody's newest executions.
    tasks = visible(user, Task.objects.all()).order_by()
    few = list(tasks.values_list("pk", flat=True)[: MOST_NAMED + 1])
    return Execution.objects.filter(task__in=few if len(few) <= MOST_NAMED else tasks)


def may_read_log(user: User, execution: Execution) -> bool:
    """Whether the user may read the output: view_logs on the task, or on all executions' tasks."""
    permission = "tasks_app.view_logs_task"
    if user.has_perm(permission):
        return True
    task = Task.objects.filter(pk=execution.task_id).first()
    return task is not None and user.has_perm(permission, task)


def readable_tasks(user: User) -> list[int] | QuerySet[Task] | None:
    """The tasks whose executions the user may see and whose logs the user may read; None: all, also of deleted ones."""
    tasks = Task.objects.all()
    every = user.has_perm("executions_app.view_execution"), user.has_perm("tasks_app.view_logs_task")
    if all(every):
        return None
    if not every[0]:
        tasks = visible(user, tasks)
    if not every[1]:
        tasks = visible(user, tasks, "view_logs_task")
    few = list(tasks.order_by().values_list("pk", flat=True)[: MOST_NAMED + 1])
    return few if len(few) <= MOST_NAMED else tasks.order_by()


class LogText(TypedDict):
    """What the database holds of an execution's output."""

    output: str
    error: str
    truncated: bool
    size: int


def log_of(execution: Execution) -> LogText:
    log = ExecutionLog.objects.filter(execution=execution).first()
    if log is None:
        return LogText(output="", error="", truncated=False, size=0)
    return LogText(output=log.output, error=log.error_msg, truncated=log.truncated, size=log.size)


class Stats(TypedDict):
    """Counts of ended executions; the rate is in percent of them, the average in ms."""

    total_count: int
    success_count: int
    failure_count: int
    timeout_count: int
    cancelled_count: int
    success_rate: float | None
    avg_duration: int | None


def stats(executions: QuerySet[Execution]) -> Stats:
    """Statistics over the ended executions of a queryset (PRD §8.3). Cancelled ones do not lower the rate."""
    counted: dict[str, Any] = executions.order_by().aggregate(
        success=Count("id", filter=Q(status=ExecutionStatus.SUCCESS)),
        failure=Count("id", filter=Q(status=ExecutionStatus.FAILURE)),
        timeout=Count("id", filter=Q(status=ExecutionStatus.TIMEOUT)),
        cancelled=Count("id", filter=Q(status=ExecutionStatus.CANCELLED)),
        average=Avg("duration", filter=Q(status=ExecutionStatus.SUCCESS)),
    )
    judged = counted["success"] + counted["failure"] + counted["timeout"]
    return Stats(
        total_count=judged + counted["cancelled"],
        success_count=counted["success"],
        failure_count=counted["failure"],
        timeout_count=counted["timeout"],
        cancelled_count=counted["cancelled"],
        success_rate=round(100 * counted["success"] / judged, 1) if judged else None,
        avg_duration=round(counted["average"]) if counted["average"] is not None else None,
    )


def since(days: int, now: datetime | None = None) -> datetime:
    """Midnight, in the current time zone, of the first of the last `days` days (1: today)."""
    local = timezone.localtime(now)
    return (local - timedelta(days=days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)


def span_of(text: str) -> tuple[datetime, datetime] | None:
    """The time from A to B of `A..B` in the current time zone: days, both included, or moments such as
    2026-01-31T08:00, the second one not. None for anything else."""
    first, found, last = text.partition("..")
    if not found:
        return None
    try:
        days = parse_date(first), parse_date(last)
        moments = parse_datetime(first), parse_datetime(last)
    except ValueError:
        return None
    zone = timezone.get_current_timezone()
    if days[0] and days[1]:
        end = days[1] + timedelta(days=1)
        return datetime.combine(days[0], time(), zone), datetime.combine(end, time(), zone)
    if moments[0] and moments[1]:
        begin, end_ = (
            moment if moment.tzinfo else moment.replace(tzinfo=zone) for moment in moments if moment
        )
        return begin, end_
    return None
