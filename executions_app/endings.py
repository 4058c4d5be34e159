"""What follows from the end of an execution. Everything that ends one calls this, in the same transaction."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from quartzflow.execution_status import LIVE, TERMINAL, ExecutionStatus
from tasks_app.actions import plan_next_delay
from tasks_app.choices import ScheduleType
from tasks_app.models import TaskDependency

from . import limits, waves
from .alerts.sources import note_ends
from .choices import ExecutionType
from .kick import kick
from .locks import lock_all
from .models import DependencyEvent, Execution


@dataclass(frozen=True)
class _Run:
    """A run of which an execution has ended, and what may follow from it."""

    run_id: str
    task_id: int
    scheduled: datetime
    delays: bool  # of a fixed delay, by schedule
    waves: bool  # goes out in waves


def after_end(pks: Iterable[int]) -> None:
    """These executions have changed; for those that ended:

    1. Others that wait for a free place go.
    2. When it was the last of its wave, the next one goes.
    3. When it was the last of its run, a fixed delay begins, and the tasks that wait for this one learn of it.
    4. A replay goes on.
    5. Alert rules are about some.
    """
    pks = list(pks)
    if not pks:
        return
    note_ends(pks)
    if limits.are_set():
        limits.let_go()
    runs = _runs(pks)
    if not runs:
        return
    # Of two that end at once, neither would see the other's end: the second waits for the first one's commit here.
    lock_all(("run", run.run_id) for run in runs)
    for run in runs:
        if run.waves:
            waves.go_on(run.run_id, run.task_id)
    unfinished = set(
        Execution.objects.filter(run_id__in=[run.run_id for run in runs], status__in=LIVE).values_list(
            "run_id", flat=True
        )
    )
    over = [run for run in runs if run.run_id not in unfinished]
    for run in over:
        if run.delays:
            # Fired ahead of its time, a run that nobody could take has ended before it.
            plan_next_delay([run.task_id], max(timezone.now(), run.scheduled))
    _tell_dependents(over)


def _runs(pks: list[int]) -> list[_Run]:
    """The runs of ended executions from whose end anything follows."""
    delayed = Q(execution_type=ExecutionType.SCHEDULED, task__schedule_type=ScheduleType.FIXED_DELAY)
    rows = (
        Execution.objects.filter(pk__in=pks, status__in=TERMINAL)
        .annotate(has_children=Exists(TaskDependency.objects.filter(parent=OuterRef("task_id"))))
        .filter(
            delayed | Q(has_children=True) | Q(wave__isnull=False) | Q(execution_type=ExecutionType.REPLAY)
        )
        .order_by()
        .values_list("run_id", "task_id", "scheduled_time", "execution_type", "task__schedule_type", "wave")
    )
    if any(kind == ExecutionType.REPLAY for *_, kind, _schedule, _wave in rows):
        transaction.on_commit(kick)
    return list(
        {
            run: _Run(
                run_id=run,
                task_id=task_id,
                scheduled=at,
                delays=kind == ExecutionType.SCHEDULED and schedule == ScheduleType.FIXED_DELAY,
                waves=wave is not None,
            )
            for run, task_id, at, kind, schedule, wave in rows
        }.values()
    )


def _tell_dependents(runs: list[_Run]) -> None:
    children: dict[int, list[int]] = {}
    parents = {run.task_id for run in runs}
    for parent, child in TaskDependency.objects.filter(parent__in=parents).values_list(
        "parent_id", "task_id"
    ):
        children.setdefault(parent, []).append(child)
    concerned = [run for run in runs if run.task_id in children]
    if not concerned:
        return
    ends = outcomes([run.run_id for run in concerned])
    DependencyEvent.objects.bulk_create(
        [
            DependencyEvent(task_id=child, parent_id=run.task_id, run_id=run.run_id, status=ends[run.run_id])
            for run in concerned
            for child in children[run.task_id]
        ],
        ignore_conflicts=True,
    )
    transaction.on_commit(kick)


def outcomes(run_ids: Iterable[str]) -> dict[str, ExecutionStatus]:
    """How runs stand: RUNNING while anything waits or runs, SUCCESS when every execution is (every host, every
    shard), FAILURE when any failed or timed out, else CANCELLED."""
    found: dict[str, set[int]] = {}
    rows = (
        Execution.objects.filter(run_id__in=list(run_ids))
        .order_by()
        .values_list("run_id", "status")
        .distinct()
    )
    for run, status in rows:
        found.setdefault(run, set()).add(status)
    return {run: outcome(statuses) for run, statuses in found.items()}


def outcome(statuses: set[int]) -> ExecutionStatus:
    """The one status of a run whose executions have these."""
    if statuses & LIVE:
        return ExecutionStatus.RUNNING
    if statuses & {ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT}:
        return ExecutionStatus.FAILURE
    return ExecutionStatus.SUCCESS if statuses == {ExecutionStatus.SUCCESS} else ExecutionStatus.CANCELLED
