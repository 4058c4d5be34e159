"""What follows from the end of an execution. Everything that ends one calls this, in the same transaction."""

from collections.abc import Iterable

from django.utils import timezone

from quartzflow.execution_status import LIVE, TERMINAL
from tasks_app.actions import plan_next_delay
from tasks_app.choices import ScheduleType

from . import limits
from .choices import ExecutionType
from .models import Execution


def after_end(pks: Iterable[int]) -> None:
    """These executions have changed; for those that ended:

    1. Others that wait for a free place go.
    2. When it was the last of its run, a fixed delay begins.
    """
    pks = list(pks)
    if pks and limits.are_set():
        limits.let_go()
    ended = Execution.objects.filter(
        pk__in=pks,
        status__in=TERMINAL,
        execution_type=ExecutionType.SCHEDULED,
        task__schedule_type=ScheduleType.FIXED_DELAY,
    )
    runs = {
        run: (task_id, at) for run, task_id, at in ended.values_list("run_id", "task_id", "scheduled_time")
    }
    if not runs:
        return
    unfinished = set(
        Execution.objects.filter(run_id__in=runs, status__in=LIVE).values_list("run_id", flat=True)
    )
    now = timezone.now()
    for run, (task_id, scheduled) in runs.items():
        if run not in unfinished:
            # Fired ahead of its time, a run that nobody could take has ended before it.
            plan_next_delay([task_id], max(now, scheduled))
