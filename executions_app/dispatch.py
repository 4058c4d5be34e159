"""From firings to execution rows to instructions on their way to agents (design: the way of one firing, step 2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from quartzflow_agent.schedule import execution_id, run_id, spread_delay_ms, uuid7

from quartzflow.bulk import insert_new
from quartzflow.execution_status import TERMINAL, ExecutionStatus
from tasks_app.models import Task
from tasks_app.selectors import still_scheduled

from . import limits, routing
from .choices import ExecutionType, FailureReason, Hold
from .endings import after_end
from .instructions import Prepared, load_tasks, send_out
from .locks import PLACEMENT, lock_all, share
from .models import Execution
from .targets import Targets, waits
from .waves import wave_of


@dataclass(frozen=True)
class Firing:
    """One firing of one task: at its nominal time, or (`unique` set) by hand."""

    task_id: int
    scheduled: datetime
    unique: str | None = None
    execution_type: ExecutionType = ExecutionType.SCHEDULED
    params: Mapping[str, str] = field(default_factory=dict)
    triggered_by: str = ""
    client_ids: frozenset[str] | None = None  # only these; None: as the task says


def fire(firings: Iterable[Firing]) -> list[Execution]:
    """Insert the executions of these firings and send them out. Returns those that were new.

    1. Leave out what is deleted, disabled or no longer on the task's schedule by now. By hand, all fires.
    2. Resolve each firing's targets, once: a repetition does not choose another host.
    3. Insert the rows; a name that is there already means that this firing was handled before.
    4. Hold back what is over the limits.
    5. After commit, one message per bridge, and events to pages.
    """
    firings = list(firings)
    with transaction.atomic():
        share(PLACEMENT)  # from here to the commit, hosts and tasks stay in their groups
        tasks = load_tasks({firing.task_id for firing in firings})
        due = [
            (firing, tasks[firing.task_id])
            for firing in firings
            if firing.task_id in tasks and _is_wanted(firing, tasks[firing.task_id].task)
        ]
        due = _unplaced(due)
        targets, chooser = Targets(prepared for _, prepared in due), routing.Chooser()
        wanted: list[Execution] = []
        for firing, prepared in due:
            wanted += _executions(firing, prepared, targets, chooser)
        return insert(wanted, tasks)


def insert(wanted: Sequence[Execution], tasks: Mapping[int, Prepared]) -> list[Execution]:
    """Insert rows (steps 3 to 5 of `fire`); in a transaction that shares PLACEMENT. Returns those that were new."""
    new = insert_new(Execution, wanted, conflict="execution_id")
    fresh = [e for e in wanted if e.execution_id in new]
    for execution in fresh:
        execution.pk = new[execution.execution_id]
    after_end(e.pk for e in fresh if e.status in TERMINAL)
    if limits.are_set():
        limits.let_go()
    transaction.on_commit(lambda: send_out(fresh, tasks))
    return fresh


def _is_wanted(firing: Firing, task: Task) -> bool:
    if firing.execution_type != ExecutionType.SCHEDULED:
        return True
    if not task.is_enabled:
        return False
    # The schedule may have been changed since the scheduler saw this firing coming.
    return firing.unique is not None or still_scheduled(task, firing.scheduled)


def _unplaced(due: Sequence[tuple[Firing, Prepared]]) -> list[tuple[Firing, Prepared]]:
    """Without firings whose hosts have been chosen before.

    A broadcast's names fall on each other, whatever hosts there are by now. Of the others a repetition could choose
    another host, and run twice; so they are looked up by their run, one worker at a time. A replay may still try what
    found no host in its time.
    """
    names = {
        n: run_id(firing.task_id, firing.scheduled)
        for n, (firing, prepared) in enumerate(due)
        if firing.unique is None and not routing.is_broadcast(prepared.task)
    }
    if not names:
        return list(due)
    lock_all(("placed", name) for name in names.values())
    placed: dict[str, set[str]] = {}
    rows = Execution.objects.filter(run_id__in=set(names.values())).order_by()
    for name, client_id in rows.values_list("run_id", "client_id").distinct():
        placed.setdefault(name, set()).add(client_id)
    unplaced, seen = [], set[str]()
    for n, (firing, prepared) in enumerate(due):
        if n in names:
            hosts = placed.get(names[n], set())
            tried = hosts - {""} if firing.execution_type == ExecutionType.REPLAY else hosts
            if tried or names[n] in seen:
                continue
            seen.add(names[n])
        unplaced.append((firing, prepared))
    return unplaced


def _executions(
    firing: Firing, prepared: Prepared, targets: Targets, chooser: routing.Chooser
) -> list[Execution]:
    task = prepared.task
    clients = targets.of(prepared)
    if firing.client_ids is not None:
        clients = [client for client in clients if client[0] in firing.client_ids]
    chosen = chooser.choose(task, firing.scheduled, clients)
    if not chosen:
        # One row says that nobody was there, so that a run that could not happen is seen (and alerted on).
        nobody = new_execution(firing, task, ("", None), end_time=timezone.now())
        nobody.status, nobody.failure_reason = ExecutionStatus.FAILURE, FailureReason.NO_ONLINE_CLIENT
        return [nobody]
    if routing.is_sharded(task):
        total = len(chosen)
        return [new_execution(firing, task, client, shard=(n, total)) for n, client in enumerate(chosen)]
    patient = {client for client in chosen if client not in targets.online} if waits(task) else set()
    return [
        new_execution(firing, task, client, patient=client in patient, wave=_wave(task, n, len(chosen)))
        for n, client in enumerate(chosen)
    ]


def _wave(task: Task, index: int, hosts: int) -> int | None:
    return wave_of(task.wave_size, index, hosts) if routing.is_broadcast(task) else None


def new_execution(
    firing: Firing,
    task: Task,
    target: routing.Target,
    *,
    shard: tuple[int, int] | None = None,
    patient: bool = False,
    wave: int | None = None,
    **extra: Any,
) -> Execution:
    """The row, not saved yet, of one target.

    shard:   its index and how many there are
    patient: the host may take its time to come, up to the task's grace time
    wave:    number of the wave in which it goes; all but the first wait for the one before
    """
    client_id, group_id = target
    limited = bool(client_id) and limits.are_set()
    wait = settings.QF_PENDING_GRACE
    if patient or limited:
        wait = max(wait, task.misfire_grace)
    is_scheduled = firing.execution_type == ExecutionType.SCHEDULED
    index, total = shard or (None, None)
    expires_at = max(firing.scheduled, timezone.now()) + timedelta(seconds=wait)
    hold = Hold.WAVE if wave else Hold.LIMIT if limited else ""
    return Execution(
        execution_id=execution_id(task.pk, firing.scheduled, client_id, index, firing.unique),
        run_id=run_id(task.pk, firing.scheduled, firing.unique),
        task_id=task.pk,
        task_name=task.name,
        client_id=client_id,
        group_id=group_id,
        execution_type=firing.execution_type,
        scheduled_time=firing.scheduled,
        delay_ms=spread_delay_ms(task.pk, client_id, task.spread_seconds) if is_scheduled else 0,
        shard_index=index,
        shard_total=total,
        params=dict(firing.params),
        timeout=task.timeout,
        max_retries=task.retry_count,
        retry_interval=task.retry_interval,
        retry_max_interval=task.retry_max_interval,
        task_version=task.version,
        triggered_by=firing.triggered_by,
        wave=wave,
        hold=hold,
        expires_at=None if hold == Hold.WAVE else expires_at,
        **extra,
    )


def new_firing(task: Task, execution_type: ExecutionType, **extra: Any) -> Firing:
    """A firing by hand, API or dependency: now, under a name of its own."""
    return Firing(task.pk, datetime.now(UTC), unique=uuid7(), execution_type=execution_type, **extra)
