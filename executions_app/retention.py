"""How long executions, their outputs and statistics are kept (FR-4.2), and taking away what is older.

Whole days (UTC, by when the execution was entered) fall due at midnight. Executions have rising numbers, so what is
due is what lies before one number, and no index is needed to find it. Each step takes a bounded part, so that writers
hardly notice, and the next one goes on where it ended: that something is still there is all that is known of it.

1. The daily statistics of a day are made before the first execution of it goes, and once more after the last one.
2. What is to be archived is written to a file first (archive.py); only what is in it is deleted.
3. A deletion adds what it takes away to the `removed_…` columns of the day's statistics in the same transaction, so
   that a recount finds the same sum at any moment.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _lazy

from quartzflow.audit import record
from quartzflow.execution_status import LIVE, TERMINAL
from quartzflow.lease import LeaseKeeper
from quartzflow.system_settings import Setting, register

from . import archive, daily, removed
from .models import Attempt, DailyStats, Execution, ExecutionLog, RemovedExecution

log = structlog.get_logger(__name__)

EXECUTIONS_DAYS: Setting[int] = register(
    Setting(
        name="executions_days",
        section="retention",
        kind=int,
        default=90,
        minimum=0,
        maximum=3650,
        label=_lazy("Execution records"),
        unit=_lazy("days"),
        help=_lazy("Older ones are removed, with their attempts and outputs. 0: kept for ever."),
    )
)
OUTPUT_DAYS: Setting[int] = register(
    Setting(
        name="output_days",
        section="retention",
        kind=int,
        default=7,
        minimum=0,
        maximum=3650,
        label=_lazy("Outputs"),
        unit=_lazy("days"),
        help=_lazy("Older ones are removed, and can no longer be searched. 0: as long as their executions."),
    )
)
STATS_DAYS: Setting[int] = register(
    Setting(
        name="stats_days",
        section="retention",
        kind=int,
        default=0,
        minimum=0,
        maximum=3650,
        label=_lazy("Daily statistics"),
        unit=_lazy("days"),
        help=_lazy(
            "Older ones are removed, but never those of days whose executions are kept. 0: kept for ever."
        ),
    )
)
ARCHIVE: Setting[bool] = register(
    Setting(
        name="archive",
        section="retention",
        kind=bool,
        default=True,
        label=_lazy("Archive what is removed"),
        help=_lazy("Executions and outputs are written to compressed files before they are removed."),
    )
)
ARCHIVE_DAYS: Setting[int] = register(
    Setting(
        name="archive_days",
        section="retention",
        kind=int,
        default=365,
        minimum=0,
        maximum=36_500,
        label=_lazy("Files of the archive"),
        unit=_lazy("days"),
        help=_lazy("Counted from the day that they are of. 0: kept for ever."),
    )
)

LEASE = "retention"
TTL = 20.0  # seconds until another process goes on for one that died
BUDGET = 5.0  # seconds of one step; the broker gives a message again after 15
WRITING = 0.5  # part of the budget in which files are written; the rest is for deleting
OVERTIME = 2.5  # times the budget, in which what was written must be deleted
BATCH = 1000  # rows that are read at a time
DELETED = 200  # rows of one transaction: SQLite's other writers wait for it
PAUSE = 0.01  # seconds between two, in which they come in
NAMES_KEPT = timedelta(days=366)  # that names of removed executions are remembered


@dataclass
class Removed:
    """What a step has taken away."""

    outputs: int = 0
    executions: int = 0
    statistics: int = 0
    files: int = 0  # of the archive, that were written
    old_files: int = 0  # of the archive, that were deleted
    more: bool = False  # there is more to do

    def __bool__(self) -> bool:
        return bool(self.outputs or self.executions or self.statistics or self.files or self.old_files)


@dataclass
class _Step:
    """One step of one process: how long it may go on."""

    keeper: LeaseKeeper
    budget: float
    begun: float = field(default_factory=time.monotonic)

    def goes_on(self, part: float = 1.0) -> bool:
        """Whether there is time left of this part of the budget, and the lease is ours."""
        return time.monotonic() - self.begun < self.budget * part and self.keeper.keep()


def midnight(days: int, now: datetime | None = None) -> datetime:
    """The beginning (UTC) of the first of the days that are kept: today, and `days` before it."""
    today = (now or timezone.now()).astimezone(UTC).date()
    return datetime.combine(today - timedelta(days=days), time_of_day(), UTC)


def too_old(moment: datetime) -> bool:
    """Whether an execution of this time would have been taken away by now."""
    days = EXECUTIONS_DAYS.value
    return bool(days) and moment < midnight(days)


def output_is_gone(execution: Execution) -> bool:
    """Whether the execution is so old that its output was taken away, if it had one."""
    days = OUTPUT_DAYS.value
    return bool(days) and execution.created_at < midnight(days)


def first_id_since(moment: datetime) -> int:
    """The number before which all executions were entered before this moment. Asks some thirty times by number."""
    rows = Execution.objects.order_by("pk")
    first, last = rows.values_list("pk", flat=True).first(), rows.values_list("pk", flat=True).last()
    if first is None or last is None:
        return 0
    low, high = first, last + 1
    while low < high:
        middle = (low + high) // 2
        found = rows.filter(pk__gte=middle).values_list("pk", "created_at").first()
        if found is None or found[1] >= moment:
            high = middle
        else:
            low = found[0] + 1
    return low


def remove_old(budget: float = BUDGET, now: datetime | None = None) -> Removed:
    """One step: take away what has been kept for long enough, for about `budget` seconds. One process at a time."""
    done = Removed()
    outputs, executions = _due_outputs(now), _due_executions(now)
    if not (outputs.exists() or executions.exists() or _rest_is_due(now)):
        return done
    keeper = LeaseKeeper(LEASE, ttl=TTL)
    if not keeper.keep():
        return done
    step = _Step(keeper, budget)
    try:
        done.outputs = _remove_outputs(outputs, step, done)
        if step.goes_on():
            done.executions = _remove_executions(executions, step, done)
        if not done.more:
            _finish(done, now)
    finally:
        keeper.release()
    if done:
        counts = {name: count for name, count in asdict(done).items() if name != "more" and count}
        record("system", "execution.prune", None, counts)
        log.info("old rows removed", **counts, more=done.more)
    return done


def _due_outputs(now: datetime | None) -> QuerySet[ExecutionLog]:
    """Oldest first. None where they go with their executions."""
    days, executions = OUTPUT_DAYS.value, EXECUTIONS_DAYS.value
    if not days or (executions and executions <= days):
        return ExecutionLog.objects.none()
    edge = first_id_since(midnight(days, now))
    # Said so that SQLite does not begin with all executions that are over.
    return ExecutionLog.objects.filter(pk__lt=edge).exclude(execution__status__in=LIVE).order_by("pk")


def _due_executions(now: datetime | None) -> QuerySet[Execution]:
    """Oldest first."""
    days = EXECUTIONS_DAYS.value
    if not days:
        return Execution.objects.none()
    edge = first_id_since(midnight(days, now))
    return Execution.objects.filter(pk__lt=edge).exclude(status__in=LIVE).order_by("pk")


def _due_statistics(now: datetime | None) -> QuerySet[DailyStats]:
    """Never those of days whose executions are there: a recount would bring them back."""
    days = STATS_DAYS.value
    if not days:
        return DailyStats.objects.none()
    before = midnight(days, now)
    oldest = Execution.objects.order_by("pk").values_list("created_at", flat=True).first()
    return DailyStats.objects.filter(day__lt=min(before, oldest or before).date())


def _due_names(now: datetime | None) -> QuerySet[RemovedExecution]:
    return RemovedExecution.objects.filter(removed_at__lt=(now or timezone.now()) - NAMES_KEPT)


def _due_files(now: datetime | None) -> date | None:
    """The day before which files of the archive go."""
    return midnight(ARCHIVE_DAYS.value, now).date() if ARCHIVE_DAYS.value else None


def _rest_is_due(now: datetime | None) -> bool:
    before = _due_files(now)
    old = any(file.part or (before and file.day < before) for file in archive.files())
    return old or _due_statistics(now).exists() or _due_names(now).exists()


def _remove_outputs(rows: QuerySet[ExecutionLog], step: _Step, done: Removed) -> int:
    def delete(pks: list[int]) -> int:
        with transaction.atomic():
            found = ExecutionLog.objects.filter(pk__in=pks, execution__status__in=TERMINAL)
            return int(
                ExecutionLog.objects.filter(pk__in=list(found.values_list("pk", flat=True))).delete()[0]
            )

    return _archive_and_delete(rows, archive.OUTPUTS, archive.output_lines, delete, step, done)


def _remove_executions(rows: QuerySet[Execution], step: _Step, done: Removed) -> int:
    days: set[date] = set()

    def delete(pks: list[int]) -> int:
        for day in sorted(_days(pks) - days):
            if not daily.is_partly_gone(day):
                daily.roll_up(day)
            days.add(day)
        return _delete_executions(pks)

    count = _archive_and_delete(rows, archive.EXECUTIONS, archive.execution_lines, delete, step, done)
    for day in sorted(days):
        # What has ended, or was told, since it was counted; the last one is not over yet where there is more.
        if not done.more or day != max(days):
            daily.roll_up(day)
    return count


def _archive_and_delete(
    rows: QuerySet[Any],
    kind: str,
    lines: Callable[[list[int]], Iterable[tuple[date, dict[str, Any]]]],
    delete: Callable[[list[int]], int],
    step: _Step,
    done: Removed,
) -> int:
    """Write the first of the rows to files, then delete those, batch by batch. Returns how many went."""
    count, last, batches = 0, 0, []
    writing = ARCHIVE.value
    with archive.Parts(kind) as parts:
        while step.goes_on(WRITING):
            pks = list(rows.filter(pk__gt=last).values_list("pk", flat=True)[:BATCH])
            if not pks:
                break
            if writing:
                for day, line in lines(pks):
                    parts.add(day, line)
                batches.append(pks)
            else:
                count += _by_parts(pks, delete)
            last = pks[-1]
        done.files += parts.finish()
    for pks in batches:
        if not step.goes_on(OVERTIME):  # the next step would write what is left a second time
            break
        count += _by_parts(pks, delete)
    done.more = done.more or rows.exists()
    return count


def _by_parts(pks: list[int], delete: Callable[[list[int]], int]) -> int:
    count = 0
    for start in range(0, len(pks), DELETED):
        count += delete(pks[start : start + DELETED])
        time.sleep(PAUSE)
    return count


def _days(pks: list[int]) -> set[date]:
    rows = Execution.objects.filter(pk__in=pks).values_list("start_time", "scheduled_time")
    return {daily.day_of(*moments) for moments in rows}


def _delete_executions(pks: list[int]) -> int:
    """Delete those that have ended, and count them as removed. One transaction."""
    with transaction.atomic():
        rows = list(
            Execution.objects.filter(pk__in=pks, status__in=TERMINAL)
            .order_by("pk")
            .select_for_update()
            .values_list(
                "pk", "execution_id", "task_id", "client_id", "task_name", "status", "start_time",
                "scheduled_time", "duration", "local",
            )
        )  # fmt: skip
        tallies: removed.Tallies = {}
        for _pk, _name, task_id, client_id, task_name, status, started, scheduled, duration, _local in rows:
            removed.add(
                tallies, task_id, client_id, daily.day_of(started, scheduled), task_name, status, duration
            )
        removed.save(tallies, counted=True)
        now = timezone.now()
        RemovedExecution.objects.bulk_create(
            [RemovedExecution(execution_id=row[1], removed_at=now) for row in rows if row[-1]],
            ignore_conflicts=True,
        )
        ended = [row[0] for row in rows]
        # By hand: Django's own way would load every output before it deletes it.
        for model, name in ((ExecutionLog, "execution_id"), (Attempt, "execution_id"), (Execution, "pk")):
            found = model._default_manager.filter(**{f"{name}__in": ended})
            found._raw_delete(found.db)
    return len(rows)


def _finish(done: Removed, now: datetime | None) -> None:
    """All that is due has gone: make whole files of the days' parts, and drop what is older still."""
    archive.join_parts()
    archive.remove_left_behind()
    if before := _due_files(now):
        done.old_files = archive.remove_before(before)
    pks = list(_due_statistics(now).values_list("pk", flat=True)[:BATCH])
    done.statistics = DailyStats.objects.filter(pk__in=pks).delete()[0]
    names = list(_due_names(now).values_list("pk", flat=True)[:BATCH])
    RemovedExecution.objects.filter(pk__in=names).delete()
    done.more = BATCH in (len(pks), len(names))
