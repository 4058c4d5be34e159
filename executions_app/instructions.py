"""Instructions: what an agent is told of an execution, and how it gets there.

The row is committed first; a message that is lost is made up for by the bridges' sweep.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from quartzflow_agent.protocol import task_pb2

from groups_app.selectors import bridges_of
from quartzflow import bridges
from quartzflow.execution_status import ExecutionStatus
from tasks_app.choices import ExecutorType
from tasks_app.configs import wire_config
from tasks_app.models import Task, TaskGroup
from tasks_app.secrets import Values

from .choices import ExecutionType
from .events import publish_executions
from .models import Execution

TRIGGERS = {
    ExecutionType.SCHEDULED: "schedule",
    ExecutionType.MANUAL: "manual",
    ExecutionType.DEPENDENCY: "dependency",
    ExecutionType.REPLAY: "replay",
}


@dataclass(frozen=True)
class Prepared:
    """What dispatch needs of a task, built once per version."""

    task: Task
    group_ids: frozenset[int] | None  # None: every group
    template: task_pb2.TaskExecution

    @property
    def stamp(self) -> tuple[int, datetime]:
        return self.task.version, self.task.updated_at


_prepared: dict[int, Prepared] = {}


def load_tasks(task_ids: set[int]) -> dict[int, Prepared]:
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
        found = list(Task.objects.filter(pk__in=stale).select_related("calendar"))
        secrets = Values(found)
        for task in found:
            bound = None if task.is_global else frozenset(groups.get(task.pk, ()))
            _prepared[task.pk] = Prepared(task, bound, instruction_template(task, secrets))
    return {pk: _prepared[pk] for pk in stamps if pk in _prepared}


def instruction_template(task: Task, secrets: Values | None = None) -> task_pb2.TaskExecution:
    """The part of an instruction that is the same for every execution of a task's version."""
    return task_pb2.TaskExecution(
        task_id=str(task.pk),
        task_name=task.name,
        executor_type=ExecutorType(task.executor_type).wire,
        executor_config=wire_config(task.executor_config) | (secrets or Values([task])).wire(task),
        timeout=task.timeout,
        concurrency=task.concurrency,
        concurrency_policy=task.concurrency_policy,
        task_version=task.version,
    )


def send_out(executions: list[Execution], tasks: Mapping[int, Prepared] | None = None) -> None:
    """Tell the bridges of rows that have just been committed, and pages that they are new. Losing it is harmless.

    Rows that were cancelled since the commit (the host has moved, the task was disabled) are not sent any more.
    """
    if not executions:
        return
    if tasks is None:
        tasks = load_tasks({e.task_id for e in executions})
    pks = [e.pk for e in executions]
    ready = set(
        Execution.objects.filter(pk__in=pks, status=ExecutionStatus.PENDING, hold="").values_list(
            "pk", flat=True
        )
    )
    bridge_of = bridges_of({e.client_id for e in executions})
    batches: dict[str, list[tuple[str, bytes]]] = {}
    for execution in executions:
        if execution.pk in ready and (bridge := bridge_of.get(execution.client_id)):
            message = instruction(execution, tasks[execution.task_id])
            batches.setdefault(bridge, []).append((execution.client_id, message.SerializeToString()))
    bridges.send_all([(bridge, bridges.dispatch(items)) for bridge, items in batches.items()])
    publish_executions(pks)


def instruction(execution: Execution, prepared: Prepared) -> task_pb2.TaskExecution:
    """The whole instruction for one execution."""
    message = task_pb2.TaskExecution()
    message.CopyFrom(prepared.template)
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
        message.delay_ms = execution.delay_ms
    if message.trigger == TRIGGERS[ExecutionType.SCHEDULED]:
        # A host that comes to it later than a missed firing would be made up for does not run it any more.
        grace = max(prepared.task.misfire_grace, settings.QF_PENDING_GRACE) * 1000 + execution.delay_ms
        begun = max(execution.scheduled_time, execution.created_at)
        message.expires_at = int(begun.timestamp() * 1000) + grace
    return message


def send_cancels(items: Iterable[tuple[str, str, str]]) -> None:
    """Have agents drop or stop executions: (client id, execution id, reason). Losing it is harmless:
    an agent that starts what was cancelled is told again."""
    items = list(items)
    holders = bridges_of({client_id for client_id, _, _ in items})
    batches: dict[str, list[tuple[str, str, str]]] = {}
    for item in items:
        if item[0] in holders:
            batches.setdefault(holders[item[0]], []).append(item)
    bridges.send_all([(bridge, {"type": "cancel", "items": batch}) for bridge, batch in batches.items()])
