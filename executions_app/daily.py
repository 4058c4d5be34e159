"""Statistics per task, host and day (FR-5.2): the server's own recount, and its comparison with the agent's."""

from datetime import UTC, date, datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Count, Max, Min, Q, Sum
from quartzflow_agent.protocol import task_pb2

from quartzflow.execution_status import TERMINAL, ExecutionStatus

from .models import DailyStats, Execution

log = structlog.get_logger(__name__)

COUNTS = ("success_count", "failure_count", "timeout_count", "cancelled_count")
DURATIONS = ("total_duration_ms", "max_duration_ms", "min_duration_ms")


def recount(client_id: str, day: date) -> dict[int, DailyStats]:
    """Count one host's ended executions of one day (UTC, by start; what never started by scheduled time) anew."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = begin + timedelta(days=1)
    ended = Execution.objects.filter(client_id=client_id, status__in=TERMINAL).filter(
        Q(start_time__gte=begin, start_time__lt=end)
        | Q(start_time=None, scheduled_time__gte=begin, scheduled_time__lt=end)
    )
    rows = {
        found["task_id"]: DailyStats(client_id=client_id, day=day, **{k: v or 0 for k, v in found.items()})
        for found in ended.order_by()
        .values("task_id")
        .annotate(
            success_count=Count("id", filter=Q(status=ExecutionStatus.SUCCESS)),
            failure_count=Count("id", filter=Q(status=ExecutionStatus.FAILURE)),
            timeout_count=Count("id", filter=Q(status=ExecutionStatus.TIMEOUT)),
            cancelled_count=Count("id", filter=Q(status=ExecutionStatus.CANCELLED)),
            total_duration_ms=Sum("duration"),
            max_duration_ms=Max("duration"),
            min_duration_ms=Min("duration"),
            task_name=Max("task_name"),
        )
    }
    DailyStats.objects.bulk_create(
        rows.values(),
        update_conflicts=True,
        unique_fields=["task_id", "client_id", "day"],
        update_fields=["task_name", *COUNTS, *DURATIONS, "agent_counts", "updated_at"],
    )
    return rows


def ingest_daily_stats(client_id: str, report: task_pb2.DailyStatsReport) -> list[str]:
    """Recount the day that an agent reports and compare. Returns the ids of the tasks whose counts differ.

    Raises ValueError when the report's date is none.
    """
    day = date.fromisoformat(report.date)
    with transaction.atomic():
        ours = recount(client_id, day)
        differing: list[str] = []
        for theirs in report.task_stats:
            counts = {name: getattr(theirs, name) for name in COUNTS}
            row = ours.get(int(theirs.task_id)) if theirs.task_id.isdecimal() else None
            if row is None or any(getattr(row, name) != count for name, count in counts.items()):
                differing.append(theirs.task_id)
                DailyStats.objects.filter(
                    task_id=row.task_id if row else 0, client_id=client_id, day=day
                ).update(agent_counts=counts)
    if differing:
        log.warning("daily statistics differ", client=client_id, day=report.date, tasks=differing)
    return differing
