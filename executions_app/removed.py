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


def save(tallies: Tallies, *, counted: bool) -> None:
    """Add the counts to those that the tables have. In the transaction of what they are about.

    counted: the day's sums have them already, as a roll-up has found them; else they grow, too.
    """
    if not tallies:
        return
    own = ("task_id", "client_id", "day", "task_name")
    parts = dict(
        zip((*daily.COUNTS, *daily.DURATIONS), (*daily.REMOVED_COUNTS, *daily.REMOVED_DURATIONS), strict=True)
    )
    columns = (*own, *parts.values(), *parts)
    grown = (*parts.values(), *(() if counted else parts))
    sets = ", ".join(f"{name} = {_grown(name)}" for name in grown)
    rows = [tallies[key] for key in sorted(tallies)]  # in one order everywhere: the rows are locked
    meta: Any = DailyStats._meta
    fields = [meta.get_field(name) for name in (*columns, "updated_at")]
    value = f"({', '.join(['%s'] * len(fields))})"
    now = timezone.now()
    for row in rows:
        row.updated_at = now
        for total, gone in parts.items():
            setattr(row, total, 0 if counted else getattr(row, gone))
    for start in range(0, len(rows), 50):
        part = rows[start : start + 50]
        parameters = [
            field.get_db_prep_save(getattr(row, field.name), connection) for row in part for field in fields
        ]
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {meta.db_table} AS t ({', '.join(columns)}, updated_at)"  # noqa: S608 - names of ours
                f" VALUES {', '.join([value] * len(part))}"
                f" ON CONFLICT (task_id, client_id, day) DO UPDATE SET {sets}",
                parameters,
            )


def _grown(name: str) -> str:
    """The column's value after an addition, in SQL. 0 stands for no duration, too."""
    old, new = f"t.{name}", f"excluded.{name}"
    if name in ("max_duration_ms", "removed_max_ms"):
        return f"CASE WHEN {new} > {old} THEN {new} ELSE {old} END"
    if name in ("min_duration_ms", "removed_min_ms"):
        return f"CASE WHEN {old} = 0 OR ({new} > 0 AND {new} < {old}) THEN {new} ELSE {old} END"
    return f"{old} + {new}"


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
