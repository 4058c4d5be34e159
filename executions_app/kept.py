"""How much there is of what retention is about, and since when: estimates that cost nothing, however much it is."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db import connection, models
from django.db.models import Max, Min
from django.utils.translation import gettext as _

from . import archive
from .models import DailyStats, Execution, ExecutionLog


@dataclass(frozen=True)
class Kept:
    """One kind of what is kept."""

    name: Any
    since: date | None  # UTC; None: there is nothing
    count: int
    exact: bool  # else the count is about right
    size: int | None  # bytes; None: not known of this kind alone


def what_is_kept() -> list[Kept]:
    """Executions, outputs, statistics, files of the archive."""
    files = archive.files()
    first = DailyStats.objects.aggregate(day=Min("day"))["day"]
    oldest = Execution.objects.order_by("pk").values_list("created_at", flat=True).first()
    output = ExecutionLog.objects.order_by("pk").values_list("execution__created_at", flat=True).first()
    return [
        Kept(_("Execution records"), oldest and oldest.date(), _count(Execution), False, _size(Execution)),
        Kept(_("Outputs"), output and output.date(), _count(ExecutionLog), False, _size(ExecutionLog)),
        Kept(_("Daily statistics"), first, _count(DailyStats), False, _size(DailyStats)),
        Kept(
            _("Files of the archive"),
            min((file.day for file in files), default=None),
            len(files),
            True,
            sum(file.size for file in files),
        ),
    ]


def _count(model: type[models.Model]) -> int:
    rows = model._default_manager
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [model._meta.db_table]
            )
            (found,) = cursor.fetchone()
        if found >= 0:  # else nobody has looked yet, and there is little
            return int(found)
    if model is DailyStats:
        return rows.count()
    # Numbers are given one after another, and the lowest go first.
    ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
    return int(ends["last"] - ends["first"] + 1) if ends["last"] is not None else 0


def _size(model: type[models.Model]) -> int | None:
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s)", [model._meta.db_table])
        return int(cursor.fetchone()[0])
