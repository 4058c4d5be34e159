"""What is counted in daily statistics and is no longer, or was never, among the executions."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from django.db import connection
from django.utils import timezone

from quartzflow.execution_status import ExecutionStatus

from . import daily
from .locks import lock_all
from .models import DailyStats, RemovedExecution

Tallies = dict[tuple[int, str, date], DailyStats]


def add(
    tallies: Tallies,
    task_id: int,
    client_id: str,
    day: date,
    task_name: str,
    status: int,
    duration: int | None,
) -> None:
    """Count one ended execution that is not, or no longer, among the rows."""
    row = tallies.setdefault(
        (task_id, client_id, day),
        DailyStats(task_id=task_id, client_id=client_id, day=day, task_name=task_name[:128]),
    )
    column = f"removed_{ExecutionStatus(status).name.lower()}"
    setattr(row, column, getattr(row, column) + 1)
    row.removed_total_ms += duration or 0
    row.removed_max_ms = max(row.removed_max_ms, duration or 0)
    row.removed_min_ms = min(filter(None, (row.removed_min_ms, duration)), default=0)


def save(tallies: Tallies) -> None:
    """Add the counts to those that the tables have. In the transaction of what they are about."""
    if not tallies:
        return
    table = connection.ops.quote_name(DailyStats._meta.db_table)
    counts = (*daily.REMOVED_COUNTS, "removed_total_ms")
    columns = ("task_id", "client_id", "day", "task_name", *counts, "removed_max_ms", "removed_min_ms")
    zeros = [*daily.COUNTS, *daily.DURATIONS]
    # The sums follow from a roll-up; a row that is new has none yet.
    names = ", ".join([*columns, *zeros, "updated_at"])
    value = f"({', '.join(['%s'] * len(columns))}, {', '.join('0' * len(zeros))}, %s)"
    largest = "GREATEST" if connection.vendor == "postgresql" else "MAX"
    sets = [f"{name} = t.{name} + excluded.{name}" for name in counts]
    sets += [
        f"removed_max_ms = {largest}(t.removed_max_ms, excluded.removed_max_ms)",
        "removed_min_ms = CASE WHEN t.removed_min_ms = 0 OR (excluded.removed_min_ms > 0"
        " AND excluded.removed_min_ms < t.removed_min_ms) THEN excluded.removed_min_ms ELSE t.removed_min_ms END",
    ]
    rows = [tallies[key] for key in sorted(tallies)]  # in one order everywhere: the rows are locked
    now = timezone.now()
    meta: Any = DailyStats._meta
    fields = [meta.get_field(name) for name in (*columns, "updated_at")]
    for start in range(0, len(rows), 50):
        part = rows[start : start + 50]
        parameters = [
            field.get_db_prep_save(
                now if field.name == "updated_at" else getattr(row, field.name), connection
            )
            for row in part
            for field in fields
        ]
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} AS t ({names}) VALUES {', '.join([value] * len(part))}"  # noqa: S608 - names of ours
                f" ON CONFLICT (task_id, client_id, day) DO UPDATE SET {', '.join(sets)}",
                parameters,
            )


def remember(names: Mapping[str, datetime], before: datetime) -> set[str]:
    """Note the names (with their times) as removed; in a transaction. Returns those that were not: they count still.

    What lies so far back that its name might have been forgotten again was counted, as far as anybody knows.
    """
    now = timezone.now()
    fresh = [
        RemovedExecution(execution_id=n, removed_at=now) for n, at in sorted(names.items()) if at >= before
    ]
    wanted = [row.execution_id for row in fresh]
    lock_all(("removed", name) for name in wanted)  # two bridges may be told of the same at once
    known = set(
        RemovedExecution.objects.filter(execution_id__in=wanted).values_list("execution_id", flat=True)
    )
    RemovedExecution.objects.bulk_create(fresh, ignore_conflicts=True)
    return set(wanted) - known
