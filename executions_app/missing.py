"""Firings that should have been and left no execution: found by comparison with the schedules (never silent)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone
from quartzflow_agent.schedule import FIXED_DELAY, Schedule

from quartzflow.declared_settings import SCHEDULER_DAYS
from tasks_app.actions import SCHEDULER
from tasks_app.choices import ScheduleType, TaskStatus, VersionAction
from tasks_app.models import Task, TaskVersion
from tasks_app.scheduler.plan import PlannedTask
from tasks_app.scheduler.rows import planned_tasks

from .alerts.sources import note_missed
from .choices import ExecutionType
from .models import Execution, MissedFiring, Watermark

log = structlog.get_logger(__name__)

NAME = "missed_firings"
EVERY = timedelta(seconds=60)
PATIENCE = timedelta(seconds=120)  # in which a firing's rows are there, whatever scheduler had to take over
LONGEST = timedelta(days=1)  # what lies further back is not looked at
MOST_PER_TASK = 5000  # times of one task in one look


@dataclass
class _Gap:
    task_id: int
    times: list[datetime]


def find_missing(now: datetime | None = None) -> list[MissedFiring]:
    """One look, every minute. Returns the events that are new: one for each task, with its first and last time.

    After a pause (the scheduler was down) the first look only notes the time: what is made up for comes first.
    """
    now = now or timezone.now()
    until = (now - PATIENCE).replace(microsecond=0)
    mark, made = Watermark.objects.get_or_create(name=NAME, defaults={"until": until, "checked_at": now})
    ours = Watermark.objects.filter(name=NAME, checked_at=mark.checked_at)
    if now - mark.checked_at > 3 * EVERY:
        ours.update(checked_at=now)
        return []
    begin = max(mark.until, until - LONGEST)
    if made or until <= begin:
        return []
    # Read before the transaction: it takes seconds with a hundred thousand tasks.
    gaps = _gaps(begin, until)
    names = dict(Task.objects.filter(pk__in=[gap.task_id for gap in gaps]).values_list("pk", "name"))
    found = [
        MissedFiring(
            task_id=gap.task_id,
            task_name=names.get(gap.task_id, ""),
            first_time=gap.times[0],
            last_time=gap.times[-1],
            count=len(gap.times),
        )
        for gap in gaps
    ]
    with transaction.atomic():
        if not ours.update(until=until, checked_at=now):
            return []  # somebody else looked at the same time
        MissedFiring.objects.bulk_create(found, ignore_conflicts=True)
        note_missed(found)
        _resolve(now)
    if found:
        log.warning("firings did not happen", tasks=len(found), firings=sum(event.count for event in found))
    return found


def _gaps(begin: datetime, until: datetime) -> list[_Gap]:
    """The tasks of which times in (begin, until] have no execution."""
    happened: set[tuple[int, datetime]] = set(
        Execution.objects.filter(scheduled_time__gt=begin, scheduled_time__lte=until)
        .exclude(execution_type__in=(ExecutionType.MANUAL, ExecutionType.DEPENDENCY))
        .order_by()
        .values_list("task_id", "scheduled_time")
        .distinct()
    )
    # Many tasks share a schedule.
    times_of: dict[tuple[Schedule, datetime], list[datetime]] = {}
    gaps = []
    for task in planned_tasks():
        start = max(begin, datetime.fromtimestamp(task.since, UTC))
        key = (task.schedule, start)
        if key not in times_of:
            times_of[key] = list(_times(task, start, until))
        missing = [moment for moment in times_of[key] if (task.task_id, moment) not in happened]
        if task.schedule.schedule_type == FIXED_DELAY:
            missing = list(_overdue(task, begin, until, happened))
        if missing:
            gaps.append(_Gap(task.task_id, missing))
    return gaps + list(_given_up(begin, until, happened))


def _given_up(begin: datetime, until: datetime, happened: set[tuple[int, datetime]]) -> Iterable[_Gap]:
    """Tasks with one time in (begin, until] that the scheduler has disabled without firing them."""
    over = TaskVersion.objects.filter(
        task_id=OuterRef("pk"),
        action=VersionAction.DISABLE,
        actor_name=SCHEDULER,
        created_at__gte=OuterRef("run_at"),
    )
    tasks = Task.objects.filter(
        schedule_type=ScheduleType.ONCE, status=TaskStatus.DISABLED, run_at__gt=begin, run_at__lte=until
    )
    for task in tasks.filter(Exists(over)).select_related("calendar"):
        for moment in _times_of(task.schedule_spec(), begin, until):
            if (task.pk, moment) not in happened:
                yield _Gap(task.pk, [moment])


def _times(task: PlannedTask, start: datetime, until: datetime) -> Iterable[datetime]:
    if task.schedule.schedule_type == FIXED_DELAY:
        return
    yield from _times_of(task.schedule, start, until)


def _times_of(schedule: Schedule, start: datetime, until: datetime) -> Iterable[datetime]:
    moment = schedule.next_after(start)
    for _n in range(MOST_PER_TASK):
        if moment is None or moment > until:
            return
        yield moment
        moment = schedule.next_after(moment)


def _overdue(
    task: PlannedTask, begin: datetime, until: datetime, happened: set[tuple[int, datetime]]
) -> Iterable[datetime]:
    """The time that a fixed delay has had since its last run ended, and did not fire at."""
    if task.due is None or (task.last is not None and task.due <= task.last):
        return
    moment = datetime.fromtimestamp(task.due, UTC)
    if begin < moment <= until and (task.task_id, moment) not in happened:
        yield moment


def _resolve(now: datetime) -> None:
    """Events whose firings did come after all, such as a host's own that was offline."""
    for event in MissedFiring.objects.filter(resolved_at=None, detected_at__gt=now - LONGEST):
        came = Execution.objects.filter(
            task_id=event.task_id, scheduled_time__gte=event.first_time, scheduled_time__lte=event.last_time
        ).exclude(execution_type__in=(ExecutionType.MANUAL, ExecutionType.DEPENDENCY))
        if came.values("scheduled_time").distinct().count() >= event.count:
            MissedFiring.objects.filter(pk=event.pk).update(resolved_at=now)


def forget_old_missed() -> int:
    """Drop events that are older than the system setting scheduler_days; returns how many."""
    days = SCHEDULER_DAYS.value
    if not days:
        return 0
    before = timezone.now() - timedelta(days=days)
    return MissedFiring.objects.filter(detected_at__lt=before).delete()[0]
