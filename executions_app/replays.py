"""Replays: running a task for every time of a past window.

The executions have the names of those times, so what ran then is not run again. Only so many runs are under way at
once; each end, and a sweep, goes on.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, TypedDict

from django.db import transaction
from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext as _

from quartzflow.audit import record
from quartzflow.declared_settings import SCHEDULER_DAYS
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.permissions import User, check
from tasks_app.choices import ScheduleType
from tasks_app.models import Task

from .choices import ExecutionType
from .dispatch import Firing, fire
from .locks import lock
from .models import Execution, Replay

MOST = 10_000  # times in one window
AT_A_TIME = 200  # times that one step looks at
SHOWN = 20  # times in a preview


class Preview(TypedDict):
    """What a replay would do."""

    total: int
    existing: int  # times of which there are executions already
    times: list[datetime]  # the first SHOWN


class Progress(TypedDict):
    """How far a replay has come; counts are of executions, by the name of a status."""

    total: int  # times
    fired: int
    existing: int
    counts: dict[str, int]


def preview(user: User, task: Task, begin: datetime, end: datetime) -> Preview:
    """Raises InvalidInput, NotAllowed, NotFound."""
    check(user, task, "trigger")
    times = _check_window(task, begin, end)
    return Preview(total=len(times), existing=_existing(task, times), times=times[:SHOWN])


def do_start_replay(user: User, task: Task, begin: datetime, end: datetime, parallel: int = 10) -> Replay:
    """Run the task for every time from `begin` to `end`, both included; `parallel` runs at once (1 to 100).

    Raises InvalidInput, NotAllowed, NotFound, and Conflict while another replay of the task is under way.
    """
    check(user, task, "trigger")
    if type(parallel) is not int or not 1 <= parallel <= 100:
        raise InvalidInput({"parallel": [_("Between 1 and 100.")]})
    times = _check_window(task, begin, end)
    with transaction.atomic():
        lock("replay", task.pk)
        if Replay.objects.filter(task=task, status=Replay.Status.RUNNING).exists():
            raise Conflict(_("A replay of this task is under way."))
        replay = Replay.objects.create(
            task=task,
            begin=begin,
            end=end,
            cursor=begin - timedelta(microseconds=1),
            parallel=parallel,
            total=len(times),
            created_by=user.get_username()[:150],
        )
        record(user, "task.replay", task, {"begin": begin, "end": end, "times": len(times)})
    advance_replays()
    replay.refresh_from_db()
    return replay


def do_cancel_replay(user: User, replay: Replay) -> list[Execution]:
    """Fire no more of it. Returns what of it still waits or runs, which the caller may cancel, too.

    Raises NotAllowed, NotFound, and Conflict when it is over.
    """
    check(user, replay.task, "cancel")
    with transaction.atomic():
        running = Replay.objects.filter(pk=replay.pk, status=Replay.Status.RUNNING)
        if not running.update(status=Replay.Status.CANCELLED, ended_at=timezone.now()):
            raise Conflict(_("The replay is over already."))
        record(user, "task.replay_cancel", replay.task, {"replay": replay.pk})
    return list(_executions(replay).filter(status__in=LIVE))


def progress(replay: Replay) -> Progress:
    counts = _executions(replay).order_by().values_list("status").annotate(count=Count("id"))
    return Progress(
        total=replay.total,
        fired=replay.fired,
        existing=replay.existing,
        counts={ExecutionStatus(status).name: count for status, count in counts},
    )


def advance_replays() -> int:
    """Fire what may go of all replays. Returns how many executions began."""
    running = Replay.objects.filter(status=Replay.Status.RUNNING).values_list("pk", flat=True)
    return sum(_advance(pk) for pk in running)


def _advance(pk: int) -> int:
    begun = 0
    with transaction.atomic():
        replay = Replay.objects.select_for_update().select_related("task").get(pk=pk)
        if replay.status != Replay.Status.RUNNING:
            return 0
        live = _executions(replay).filter(status__in=LIVE)
        free = replay.parallel - live.values("run_id").distinct().count()
        upcoming = _times(replay.task, replay.cursor, replay.end)
        for _n in range(AT_A_TIME):
            if free <= 0:
                break
            moment = next(upcoming, None)
            if moment is None:
                replay.status, replay.ended_at = Replay.Status.DONE, timezone.now()
                break
            replay.cursor = moment
            new = fire(
                [
                    Firing(
                        replay.task_id,
                        moment,
                        execution_type=ExecutionType.REPLAY,
                        triggered_by=replay.created_by,
                    )
                ]
            )
            if new:
                replay.fired += 1
                begun += len(new)
                free -= any(execution.status in LIVE for execution in new)
            else:
                replay.existing += 1
        replay.save(update_fields=["cursor", "fired", "existing", "status", "ended_at"])
    return begun


def _executions(replay: Replay) -> Any:
    return Execution.objects.filter(
        task_id=replay.task_id,
        execution_type=ExecutionType.REPLAY,
        scheduled_time__gte=replay.begin,
        scheduled_time__lte=replay.end,
        created_at__gte=replay.created_at,
    )


def _check_window(task: Task, begin: datetime, end: datetime) -> list[datetime]:
    if task.schedule_type in (ScheduleType.NONE, ScheduleType.FIXED_DELAY):
        raise InvalidInput({"schedule_type": [_("A task without times of its own cannot be replayed.")]})
    if begin > end:
        raise InvalidInput({"end": [_("Must be after the beginning.")]})
    if end > timezone.now():
        raise InvalidInput({"end": [_("Must lie in the past.")]})
    times: list[datetime] = []
    for moment in _times(task, begin - timedelta(microseconds=1), end):
        if len(times) == MOST:
            raise InvalidInput({"end": [_("The window has more than %(count)s times.") % {"count": MOST}]})
        times.append(moment)
    if not times:
        raise InvalidInput({"begin": [_("The schedule has no time in this window.")]})
    return times


def _times(task: Task, after: datetime, end: datetime) -> Iterator[datetime]:
    """The task's times in (after, end], by its present schedule."""
    plan = task.schedule_spec()
    moment = plan.next_after(after)
    while moment is not None and moment <= end:
        yield moment
        moment = plan.next_after(moment)


def _existing(task: Task, times: list[datetime]) -> int:
    rows = Execution.objects.filter(
        task=task,
        scheduled_time__gte=times[0],
        scheduled_time__lte=times[-1],
        execution_type__in=(ExecutionType.SCHEDULED, ExecutionType.REPLAY),
    )
    return len(set(rows.order_by().values_list("scheduled_time", flat=True).distinct()) & set(times))


def forget_old_replays() -> int:
    """Drop replays that ended longer ago than the system setting scheduler_days; returns how many."""
    days = SCHEDULER_DAYS.value
    if not days:
        return 0
    return Replay.objects.filter(ended_at__lt=timezone.now() - timedelta(days=days)).delete()[0]
