"""From firings to execution rows to instructions on their way to agents (design: the way of one firing, step 2)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.schedule import execution_id, run_id, uuid7

from groups_app.choices import ClientStatus
from groups_app.models import Client
from groups_app.selectors import online_clients
from quartzflow import bridges
from quartzflow.bulk import insert_new
from quartzflow.execution_status import LIVE, TERMINAL, ExecutionStatus
from tasks_app.choices import ExecutorType
from tasks_app.configs import wire_config
from tasks_app.models import Task, TaskGroup

from . import routing
from .choices import ExecutionType, FailureReason
from .endings import after_end
from .events import publish_executions
from .models import Execution

log = structlog.get_logger(__name__)

TRIGGERS = {
    ExecutionType.SCHEDULED: "schedule",
    ExecutionType.MANUAL: "manual",
    ExecutionType.DEPENDENCY: "dependency",
    ExecutionType.REPLAY: "replay",
}


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


@dataclass(frozen=True)
class _Prepared:
    """What dispatch needs of a task, built once per version."""

    task: Task
    group_ids: frozenset[int] | None  # None: every group
    template: task_pb2.TaskExecution

    @property
    def stamp(self) -> tuple[int, datetime]:
        return self.task.version, self.task.updated_at


_prepared: dict[int, _Prepared] = {}


def fire(firings: Iterable[Firing]) -> list[Execution]:
    """Insert the executions of these firings and send them out. Returns those that were new.

    1. Leave out what is disabled or deleted by now (by hand, a disabled task fires all the same).
    2. Resolve each firing's targets among the clients that are online.
    3. Insert the rows; a name that is there already means that this firing was handled before.
    4. After commit, one message per bridge, and events to pages.
    """
    firings = list(firings)
    tasks = _load({firing.task_id for firing in firings})
    due = [
        (firing, tasks[firing.task_id])
        for firing in firings
        if firing.task_id in tasks and (firing.unique is not None or tasks[firing.task_id].task.is_enabled)
    ]
    targets = _Targets(prepared.group_ids for _, prepared in due)
    with transaction.atomic():
        wanted: list[Execution] = []
        for firing, prepared in due:
            wanted += _executions(firing, prepared, targets)
        new = insert_new(Execution, wanted, conflict="execution_id")
        fresh = [e for e in wanted if e.execution_id in new]
        for execution in fresh:
            execution.pk = new[execution.execution_id]
        after_end(e.pk for e in fresh if e.status in TERMINAL)
        transaction.on_commit(lambda: _after_commit(fresh, tasks, targets.bridge_of))
    return fresh


def _load(task_ids: set[int]) -> dict[int, _Prepared]:
    """The tasks by id, from the cache where their version is still the same."""
    # The time beside the version: a database that was restored from a backup may give out a version again.
    stamps = {
        pk: (version, changed)
        for pk, version, changed in Task.objects.filter(pk__in=task_ids).values_list(
            "pk", "version", "updated_at"
        )
    }
    stale = [pk for pk, stamp in stamps.items() if pk not in _prepared or _prepared[pk].stamp != stamp]
    if len(_prepared) > 50_000:
        _prepared.clear()
        stale = list(stamps)
    if stale:
        groups: dict[int, set[int]] = {}
        for task_id, group_id in TaskGroup.objects.filter(task_id__in=stale).values_list(
            "task_id", "group_id"
        ):
            groups.setdefault(task_id, set()).add(group_id)
        for task in Task.objects.filter(pk__in=stale):
            bound = None if task.is_global else frozenset(groups.get(task.pk, ()))
            _prepared[task.pk] = _Prepared(task, bound, instruction_template(task))
    return {pk: _prepared[pk] for pk in stamps if pk in _prepared}


def instruction_template(task: Task) -> task_pb2.TaskExecution:
    """The part of an instruction that is the same for every execution of a task's version."""
    return task_pb2.TaskExecution(
        task_id=str(task.pk),
        task_name=task.name,
        executor_type=ExecutorType(task.executor_type).wire,
        executor_config=wire_config(task.executor_config),
        timeout=task.timeout,
        concurrency=task.concurrency,
        concurrency_policy=task.concurrency_policy,
        task_version=task.version,
    )


class _Targets:
    """The online clients of all groups that a batch needs, read once."""

    def __init__(self, scopes: Iterable[frozenset[int] | None]) -> None:
        scopes = set(scopes)
        needed = None if None in scopes else frozenset().union(*(scope for scope in scopes if scope))
        self.bridge_of: dict[str, str] = {}
        self._by_group: dict[int | None, list[tuple[str, int | None]]] = {}
        for client_id, group_id, bridge_id in online_clients(needed) if needed != frozenset() else ():
            self.bridge_of[client_id] = bridge_id
            self._by_group.setdefault(group_id, []).append((client_id, group_id))

    def of(self, scope: frozenset[int] | None) -> list[tuple[str, int | None]]:
        """(client id, group id) of the online clients in these groups, ordered by client id."""
        groups = self._by_group if scope is None else [g for g in scope if g in self._by_group]
        return sorted(client for group in groups for client in self._by_group[group])


def _executions(firing: Firing, prepared: _Prepared, targets: _Targets) -> list[Execution]:
    task = prepared.task
    clients = targets.of(prepared.group_ids)
    if firing.client_ids is not None:
        clients = [client for client in clients if client[0] in firing.client_ids]
    chosen = routing.choose(task, firing.scheduled, clients)
    run = run_id(task.pk, firing.scheduled, firing.unique)

    def make(client_id: str, group_id: int | None, shard: int | None, **extra: Any) -> Execution:
        return Execution(
            execution_id=execution_id(task.pk, firing.scheduled, client_id, shard, firing.unique),
            run_id=run,
            task_id=task.pk,
            task_name=task.name,
            client_id=client_id,
            group_id=group_id,
            execution_type=firing.execution_type,
            scheduled_time=firing.scheduled,
            params=dict(firing.params),
            timeout=task.timeout,
            max_retries=task.retry_count,
            retry_interval=task.retry_interval,
            task_version=task.version,
            triggered_by=firing.triggered_by,
            **extra,
        )

    if not chosen:
        # One row says that nobody was there, so that a run that could not happen is seen (and alerted on).
        return [
            make(
                "",
                None,
                None,
                status=ExecutionStatus.FAILURE,
                failure_reason=FailureReason.NO_ONLINE_CLIENT,
                end_time=timezone.now(),
            )
        ]
    if routing.is_sharded(task):
        total = len(chosen)
        return [
            make(c, g, index, shard_index=index, shard_total=total) for index, (c, g) in enumerate(chosen)
        ]
    return [make(client_id, group_id, None) for client_id, group_id in chosen]


def _after_commit(
    fresh: list[Execution], tasks: Mapping[int, _Prepared], bridge_of: Mapping[str, str]
) -> None:
    batches: dict[str, list[tuple[str, bytes]]] = {}
    for execution in fresh:
        if execution.status == ExecutionStatus.PENDING and (bridge := bridge_of.get(execution.client_id)):
            message = instruction(execution, tasks[execution.task_id].template)
            batches.setdefault(bridge, []).append((execution.client_id, message.SerializeToString()))
    bridges.send_all([(bridge, {"type": "dispatch", "items": items}) for bridge, items in batches.items()])
    publish_executions(e.pk for e in fresh)


def instruction(execution: Execution, template: task_pb2.TaskExecution) -> task_pb2.TaskExecution:
    """The whole instruction for one execution."""
    message = task_pb2.TaskExecution()
    message.CopyFrom(template)
    message.execution_id = execution.execution_id
    message.run_id = execution.run_id
    message.params.update(execution.params)
    message.scheduled_time = int(execution.scheduled_time.timestamp() * 1000)
    message.attempt = execution.retry_count
    message.shard_index = execution.shard_index or 0
    message.shard_total = execution.shard_total or 0
    if execution.next_retry_at is not None:
        message.trigger = "retry"
        message.scheduled_time = int(execution.next_retry_at.timestamp() * 1000)
    else:
        message.trigger = TRIGGERS[ExecutionType(execution.execution_type)]
    return message


def pending_for_bridge(bridge_id: str, created_before: datetime) -> list[tuple[str, task_pb2.TaskExecution]]:
    """What the bridge's clients should have accepted by now but have not, and attempts that are due: the sweep.

    Rows of disabled or deleted tasks are not sent; they expire.
    """
    now = timezone.now()
    online = Client.objects.filter(bridge_id=bridge_id, status=ClientStatus.ONLINE).values("client_id")
    horizon = now + timedelta(seconds=settings.QF_DISPATCH_LOOKAHEAD)
    rows = list(
        Execution.objects.filter(
            status__in=LIVE, accepted_at=None, client_id__in=online, created_at__lt=created_before
        )
        .exclude(status=ExecutionStatus.RUNNING, next_retry_at=None)
        .exclude(next_retry_at__gt=horizon)
        .order_by("scheduled_time")[:5000]
    )
    tasks = _load({row.task_id for row in rows})
    return [
        (row.client_id, instruction(row, tasks[row.task_id].template))
        for row in rows
        if row.task_id in tasks
        and (tasks[row.task_id].task.is_enabled or row.execution_type != ExecutionType.SCHEDULED)
    ]


def expire_overdue(now: datetime | None = None) -> int:
    """End what can no longer happen, as the server's guess; the agent's own record wins over it later.

    PENDING that no agent accepted in time → FAILURE expired; live ones whose agent is silent beyond timeout and grace
    → FAILURE agent_lost. Returns how many ended.
    """
    now = now or timezone.now()
    grace = timedelta(seconds=settings.QF_PENDING_GRACE)
    # Both: one that makes up for a missed time has its whole grace from when it was made.
    overdue = Execution.objects.filter(
        status__in=LIVE, scheduled_time__lt=now - grace, created_at__lt=now - grace
    )
    expired = list(
        overdue.filter(status=ExecutionStatus.PENDING, accepted_at=None).values_list("pk", flat=True)[:5000]
    )
    waiting = overdue.filter(status=ExecutionStatus.PENDING).exclude(accepted_at=None)
    # One that an online agent holds may queue behind the one before; one of an agent that is gone may not.
    offline = Client.objects.filter(status=ClientStatus.OFFLINE).values("client_id")
    silent = [
        *waiting.filter(client_id__in=offline)[:5000],
        *overdue.filter(status=ExecutionStatus.RUNNING, next_retry_at=None)[:5000],
    ]
    lost = [
        e.pk
        for e in silent
        if (e.start_time or max(e.scheduled_time, e.created_at))
        + timedelta(seconds=e.timeout + settings.QF_LOST_GRACE)
        < now
    ]
    with transaction.atomic():
        for pks, reason in ((expired, FailureReason.EXPIRED), (lost, FailureReason.AGENT_LOST)):
            Execution.objects.filter(pk__in=pks, status__in=LIVE).update(
                status=ExecutionStatus.FAILURE, failure_reason=reason, end_time=now
            )
        after_end([*expired, *lost])
    if expired or lost:
        log.warning("executions given up", expired=len(expired), agent_lost=len(lost))
        publish_executions([*expired, *lost])
    return len(expired) + len(lost)


def new_firing(task: Task, execution_type: ExecutionType, **extra: Any) -> Firing:
    """A firing by hand, API or dependency: now, under a name of its own."""
    return Firing(task.pk, datetime.now(UTC), unique=uuid7(), execution_type=execution_type, **extra)
