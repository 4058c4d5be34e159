"""Statistics per task, host and day (FR-5.2): the server's own recount, and its comparison with the agent's."""

from datetime import UTC, date, datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Count, Max, Min, Q, Sum
from quartzflow_agent.protocol import task_pb2

from quartzflow.execution_status import LIVE, TERMINAL, ExecutionStatus
from tasks_app.models import ConfigChange, Task

from .models import DailyStats, Execution

log = structlog.get_logger(__name__)

TASK_ID_DIGITS = 18  # what a BIGINT always holds
COUNTS = ("success_count", "failure_count", "timeout_count", "cancelled_count")
DURATIONS = ("total_duration_ms", "max_duration_ms", "min_duration_ms")
REMOVED_COUNTS = ("removed_success", "removed_failure", "removed_timeout", "removed_cancelled")
REMOVED_DURATIONS = ("removed_total_ms", "removed_max_ms", "removed_min_ms")


def recount(client_id: str, day: date) -> None:
    """Count one host's ended executions of one day (UTC, by start; what never started by scheduled time) anew."""
    _save(_counted(day, client_id), "agent_counts")


def roll_up(day: date) -> None:
    """Count the ended executions of one day anew: on all hosts, and those that no host took."""
    _save(_counted(day))


def day_of(start_time: datetime | None, scheduled_time: datetime) -> date:
    """The day that an execution counts for."""
    return (start_time or scheduled_time).astimezone(UTC).date()


def _counted(day: date, client_id: str | None = None) -> list[DailyStats]:
    """The counts of what is there, and of what retention has taken away.

    One statement reads both, so that what is taken away at this moment is in one of them, and in one only.
    """
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = begin + timedelta(days=1)
    ended = Execution.objects.filter(status__in=TERMINAL).filter(
        Q(start_time__gte=begin, start_time__lt=end)
        | Q(start_time=None, scheduled_time__gte=begin, scheduled_time__lt=end)
    )
    removed = DailyStats.objects.filter(day=day).exclude(**dict.fromkeys(REMOVED_COUNTS, 0))
    if client_id is not None:
        ended, removed = ended.filter(client_id=client_id), removed.filter(client_id=client_id)
    there = (
        ended.order_by()
        .values_list("task_id", "client_id")
        .annotate(
            name=Max("task_name"),
            successes=Count("id", filter=Q(status=ExecutionStatus.SUCCESS)),
            failures=Count("id", filter=Q(status=ExecutionStatus.FAILURE)),
            timeouts=Count("id", filter=Q(status=ExecutionStatus.TIMEOUT)),
            cancels=Count("id", filter=Q(status=ExecutionStatus.CANCELLED)),
            total=Sum("duration"),
            longest=Max("duration"),
            shortest=Min("duration"),
        )
    )
    gone = removed.order_by().values_list(
        "task_id", "client_id", "task_name", *REMOVED_COUNTS, *REMOVED_DURATIONS
    )
    rows: dict[tuple[int, str], DailyStats] = {}
    for task_id, host, name, *counts, total, longest, shortest in there.union(gone, all=True):
        row = rows.setdefault(
            (task_id, host), DailyStats(task_id=task_id, client_id=host, day=day, task_name=name)
        )
        for column, count in zip(COUNTS, counts, strict=True):
            setattr(row, column, getattr(row, column) + count)
        row.total_duration_ms += total or 0
        row.max_duration_ms = max(row.max_duration_ms, longest or 0)
        # 0 stands for none, too.
        row.min_duration_ms = min(filter(None, (row.min_duration_ms, shortest)), default=0)
    return list(rows.values())


def is_partly_gone(day: date) -> bool:
    """Whether executions of the day have been taken away."""
    return DailyStats.objects.filter(day=day).exclude(**dict.fromkeys(REMOVED_COUNTS, 0)).exists()


def _save(rows: list[DailyStats], *more: str) -> None:
    DailyStats.objects.bulk_create(
        sorted(
            rows, key=lambda row: (row.task_id, row.client_id)
        ),  # in one order everywhere: rows are locked
        batch_size=1000,
        update_conflicts=True,
        unique_fields=["task_id", "client_id", "day"],
        update_fields=["task_name", *COUNTS, *DURATIONS, *more, "updated_at"],
    )


def ingest_daily_stats(client_id: str, report: task_pb2.DailyStatsReport) -> list[str]:
    """Recount the day that an agent reports and compare (FR-5.2). Raises ValueError when the report's date is none.

    Returns the ids of the tasks of which the agent has more ends than we: it should send that day's once more. Each
    shortfall is asked for once; one that stays after that is in `agent_counts` ("missing") for people to see.
    """
    day = date.fromisoformat(report.date)
    theirs = {
        int(item.task_id): item
        for item in report.task_stats
        if item.task_id.isdecimal() and len(item.task_id) <= TASK_ID_DIGITS
    }
    rows = DailyStats.objects.filter(client_id=client_id, day=day)
    with transaction.atomic():
        asked = {
            task_id: (counts or {}).get("missing", 0)
            for task_id, counts in rows.exclude(agent_counts=None).values_list("task_id", "agent_counts")
        }
        recount(client_id, day)
        ours = {row.task_id: row for row in rows}
        differing = [item for task_id, item in theirs.items() if _differs(item, ours.get(task_id))]
        rows.filter(task_id__in=theirs).exclude(agent_counts=None).update(agent_counts=None)
        if not differing:
            return []
        known, open_again = _known(set(theirs) - set(ours)), _between_attempts(client_id)
        wanted: list[str] = []
        compared: list[DailyStats] = []
        for item in differing:
            task_id = int(item.task_id)
            row = ours.get(task_id)
            if row is None and task_id not in known:
                continue  # nothing may be written for what never was
            row = row or DailyStats(
                task_id=task_id, task_name=item.task_name[:128], client_id=client_id, day=day
            )
            counts = {name: getattr(item, name) for name in COUNTS}
            missing = sum(counts.values()) - sum(getattr(row, name) for name in COUNTS)
            missing = max(missing - open_again.get(task_id, 0), 0)
            if missing and missing != asked.get(task_id):
                wanted.append(item.task_id)
            row.agent_counts = {**counts, "missing": missing}
            compared.append(row)
        DailyStats.objects.bulk_create(
            compared,
            update_conflicts=True,
            unique_fields=["task_id", "client_id", "day"],
            update_fields=["agent_counts", "updated_at"],
        )
    log.warning(
        "daily statistics differ",
        client=client_id,
        day=report.date,
        tasks=[item.task_id for item in differing],
        wanted=wanted,
    )
    return wanted


def _differs(theirs: task_pb2.TaskStats, ours: DailyStats | None) -> bool:
    return any(getattr(theirs, name) != (getattr(ours, name) if ours else 0) for name in COUNTS)


def _known(task_ids: set[int]) -> set[int]:
    """Those of the tasks that exist, or once did."""
    if not task_ids:
        return set()
    there = set(Task.objects.filter(pk__in=task_ids).values_list("pk", flat=True))
    gone = ConfigChange.objects.filter(task_id__in=task_ids - there).values_list("task_id", flat=True)
    return there | {task_id for task_id in gone if task_id is not None}


def _between_attempts(client_id: str) -> dict[int, int]:
    """How many of each task wait for their next attempt: the agent counts the one before as the end, until then."""
    waiting = Execution.objects.filter(client_id=client_id, status__in=LIVE, retry_count__gt=0)
    return dict(waiting.order_by().values_list("task_id").annotate(Count("id")))
