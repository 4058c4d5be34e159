"""What the scheduler reads and writes in the database: tasks, their changes, their last firings."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django_celery_beat.models import PeriodicTask
from quartzflow_agent.schedule import Schedule

from quartzflow.execution_status import LIVE, ExecutionStatus
from tasks_app.choices import ScheduleType, TaskStatus
from tasks_app.configs import current_version
from tasks_app.models import SCHEDULE_FIELDS, ConfigChange, Task

from .plan import PlannedTask

READ_CHUNK = 2000
WRITE_CHUNK = 500

# Many tasks have the same schedule; they share one object, which the plan makes use of.
_schedules: WeakValueDictionary[tuple[Any, ...], Schedule] = WeakValueDictionary()


@dataclass(frozen=True)
class Changes:
    """What happened after a version."""

    version: int  # the newest one seen
    task_ids: frozenset[int]  # changed, enabled, disabled or deleted
    complete: bool  # False: some are forgotten already, everything must be read anew


@dataclass
class LastFiring:
    """What is still to be saved of one task."""

    ref: int  # primary key of its PeriodicTask
    time: int  # nominal, Unix seconds
    count: int = 0  # firings since the last save
    skipped: int = 0  # those that the calendar did not allow


def planned_tasks(task_ids: Collection[int] | None = None) -> Iterator[PlannedTask]:
    """The enabled, scheduled tasks among `task_ids` (None: all)."""
    tasks = Task.objects.filter(status=TaskStatus.ENABLED).exclude(schedule_type=ScheduleType.NONE)
    if task_ids is None:
        yield from _read(tasks)
        return
    ids = sorted(task_ids)
    for start in range(0, len(ids), WRITE_CHUNK):
        yield from _read(tasks.filter(pk__in=ids[start : start + WRITE_CHUNK]))


def _read(tasks: QuerySet[Task]) -> Iterator[PlannedTask]:
    rows = tasks.order_by().values_list(
        "pk",
        "schedule_since",
        "periodic_task__last_run_at",
        "next_fire_at",
        "periodic_task_id",
        "calendar__resolved",
        "calendar_mode",
        *SCHEDULE_FIELDS,
    )
    for pk, schedule_since, last_run_at, next_fire_at, ref, *fields in rows.iterator(READ_CHUNK):
        yield PlannedTask(
            task_id=pk,
            schedule=_schedule(tuple(fields)),
            since=int(schedule_since.timestamp()),
            last=_seconds(last_run_at),
            due=_seconds(next_fire_at),
            ref=ref,
        )


def _schedule(fields: tuple[Any, ...]) -> Schedule:
    schedule = _schedules.get(fields)
    if schedule is None:
        calendar, mode, *plain = fields
        values = dict(zip(SCHEDULE_FIELDS, plain, strict=True))
        values["interval_seconds"] = values["interval_seconds"] or 0
        if calendar:
            values |= {"calendar": calendar, "calendar_mode": mode}
        schedule = Schedule(**values)
        _schedules[fields] = schedule
    return schedule


def firing_state() -> Iterator[tuple[int, int | None, int | None]]:
    """(task id, last firing, next time of a fixed delay) of every task that `planned_tasks` gives."""
    tasks = Task.objects.filter(status=TaskStatus.ENABLED).exclude(schedule_type=ScheduleType.NONE).order_by()
    rows = tasks.values_list("pk", "periodic_task__last_run_at", "next_fire_at")
    for pk, last_run_at, next_fire_at in rows.iterator(READ_CHUNK):
        yield pk, _seconds(last_run_at), _seconds(next_fire_at)


def next_delays(task_ids: Iterable[int]) -> dict[int, int]:
    """When these fixed delays fire next, as far as their runs have ended."""
    ids, found = sorted(task_ids), {}
    for start in range(0, len(ids), WRITE_CHUNK):
        rows = Task.objects.filter(pk__in=ids[start : start + WRITE_CHUNK]).exclude(next_fire_at=None)
        found.update(
            {pk: int(moment.timestamp()) for pk, moment in rows.values_list("pk", "next_fire_at") if moment}
        )
    return found


def idle(task_ids: Iterable[int]) -> set[int]:
    """Those tasks of which nothing waits or runs."""
    ids = set(task_ids)
    busy = Task.objects.filter(pk__in=ids, executions__status__in=LIVE)
    return ids - set(busy.values_list("pk", flat=True))


def changes_after(version: int) -> Changes:
    """The tasks that changed after a configuration version."""
    newest = current_version()
    if newest == version:
        return Changes(version, frozenset(), complete=True)
    rows = ConfigChange.objects.filter(version__gt=version, version__lte=newest).exclude(task_id=None)
    return Changes(
        version=newest,
        task_ids=frozenset(pk for pk in rows.order_by().values_list("task_id", flat=True) if pk is not None),
        complete=newest >= version >= newest - settings.QF_CONFIG_CHANGES_KEPT,
    )


def save_last_firings(firings: Mapping[int, LastFiring]) -> None:
    """Save the last nominal time and the counts of each task, one statement per distinct combination.

    Thousands of tasks that fire together share a moment, so this is a handful of statements. A later time in the
    row stays: it is of another scheduler that took over. Nothing else of the row is touched (`date_changed` would
    make the stock scheduler reload).
    """
    groups: dict[tuple[int, int], list[int]] = {}
    skipped: dict[tuple[int, int], list[int]] = {}
    for task_id, firing in firings.items():
        groups.setdefault((firing.time, firing.count), []).append(firing.ref)
        if firing.skipped:
            skipped.setdefault((firing.time, firing.skipped), []).append(task_id)
    with transaction.atomic():
        for (time, count), refs in groups.items():
            moment = datetime.fromtimestamp(time, UTC)
            older = Q(last_run_at__isnull=True) | Q(last_run_at__lt=moment)
            for part in _chunks(refs):
                PeriodicTask.objects.filter(older, pk__in=part).update(
                    last_run_at=moment, total_run_count=F("total_run_count") + count
                )
        for (time, count), task_ids in skipped.items():
            moment = datetime.fromtimestamp(time, UTC)
            for part in _chunks(task_ids):
                Task.objects.filter(pk__in=part).update(
                    skipped_count=F("skipped_count") + count, last_skipped_at=moment
                )


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    return (ids[start : start + WRITE_CHUNK] for start in range(0, len(ids), WRITE_CHUNK))


def started(task_ids: Iterable[int]) -> set[int]:
    """Those tasks of which there are executions, and none that still waits to start."""
    ids = list(task_ids)
    rows = Task.objects.filter(pk__in=ids)
    waiting = rows.filter(executions__status=ExecutionStatus.PENDING)
    return set(rows.exclude(executions=None).values_list("pk", flat=True)) - set(
        waiting.values_list("pk", flat=True)
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
