"""Tasks that run after other tasks' runs have ended (PRD §3.3 P2).

1. What ends a run's last execution also writes, in its transaction, one event row for each task that waits for it.
2. After commit a message asks a worker to look; a sweep looks, too, so none is lost when a process dies between.
3. Whoever handles a task's events inserts its run in the transaction that marks them as handled: it happens once.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from quartzflow.declared_settings import CHAINS_DAYS
from quartzflow.execution_status import ExecutionStatus
from tasks_app.choices import DependencyCondition, DependencyMode
from tasks_app.models import Task, TaskDependency

from .choices import ExecutionType
from .dispatch import fire, new_firing
from .locks import lock
from .models import DependencyEvent

log = structlog.get_logger(__name__)

NEW, WAITING, DONE = DependencyEvent.State.NEW, DependencyEvent.State.WAITING, DependencyEvent.State.DONE
AT_A_TIME = 500  # tasks


def advance() -> int:
    """Handle the events that nobody has looked at yet. Returns how many runs began."""
    fresh = DependencyEvent.objects.filter(state=NEW).order_by("task_id")
    begun = 0
    for pk in fresh.values_list("task_id", flat=True).distinct()[:AT_A_TIME]:
        try:
            begun += _advance_task(pk)
        except Exception:
            # Its events stay for the next time; what waits for other tasks goes on.
            log.exception("a task's chain does not go on", task=pk)
    return begun


def _advance_task(task_id: int) -> int:
    with transaction.atomic():
        lock("chain", task_id)  # one worker at a time: with two, each could wait for what the other has
        events = list(DependencyEvent.objects.exclude(state=DONE).filter(task_id=task_id).order_by("id"))
        task = Task.objects.filter(pk=task_id).first()
        if task is None or not task.is_enabled:
            return _handle(events, "")
        conditions = dict(TaskDependency.objects.filter(task=task).values_list("parent_id", "condition"))
        events, strange = _split(events, conditions)
        _handle(strange, "")
        if task.dependency_mode == DependencyMode.ANY:
            begun = 0
            for event in events:
                fits = _fits(event, conditions)
                begun += _handle([event], _begin(task, [event]) if fits else "")
            return begun
        latest = {event.parent_id: event for event in events}
        _handle([event for event in events if event is not latest[event.parent_id]], "")  # overtaken
        complete = latest.keys() == conditions.keys() and all(_fits(e, conditions) for e in latest.values())
        if complete and latest:
            return _handle(list(latest.values()), _begin(task, list(latest.values())))
        DependencyEvent.objects.filter(pk__in=[event.pk for event in latest.values()]).update(state=WAITING)
    return 0


def _split(
    events: Iterable[DependencyEvent], conditions: Mapping[int, str]
) -> tuple[list[DependencyEvent], list[DependencyEvent]]:
    """The events of tasks that are waited for, and those of tasks that no longer are."""
    known: list[DependencyEvent] = []
    strange: list[DependencyEvent] = []
    for event in events:
        (known if event.parent_id in conditions else strange).append(event)
    return known, strange


def _fits(event: DependencyEvent, conditions: Mapping[int, str]) -> bool:
    wanted = {
        DependencyCondition.SUCCESS: event.status == ExecutionStatus.SUCCESS,
        DependencyCondition.FAILURE: event.status == ExecutionStatus.FAILURE,
        DependencyCondition.ALWAYS: True,
    }
    return wanted[DependencyCondition(conditions[event.parent_id])]


def _begin(task: Task, events: list[DependencyEvent]) -> str:
    """Run the task; it learns what it runs after. Returns the name of its run."""
    last = max(events, key=lambda event: event.pk)
    params = {
        "upstream_run_id": last.run_id,
        "upstream_status": ExecutionStatus(last.status).name.lower(),
        "upstream_run_ids": ",".join(event.run_id for event in events),
        "upstream_statuses": ",".join(ExecutionStatus(event.status).name.lower() for event in events),
    }
    executions = fire([new_firing(task, ExecutionType.DEPENDENCY, params=params)])
    log.info("task runs after others", task_id=task.pk, runs=[event.run_id for event in events])
    return executions[0].run_id


def _handle(events: Iterable[DependencyEvent], child_run: str) -> int:
    pks = [event.pk for event in events]
    DependencyEvent.objects.filter(pk__in=pks).update(state=DONE, child_run=child_run)
    return 1 if child_run else 0


def forget_old_events() -> int:
    """Drop handled events that are older than the system setting chains_days; returns how many."""
    before = timezone.now() - timedelta(days=CHAINS_DAYS.value)
    return DependencyEvent.objects.filter(Q(state=DONE), created_at__lt=before).delete()[0]
