"""Executions that agents began by themselves while no server could tell them to, entered when they report them."""

from collections.abc import Iterable
from datetime import UTC, datetime

import structlog
from django.db import IntegrityError, models, transaction
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.schedule import execution_id as execution_name
from quartzflow_agent.schedule import run_id

from groups_app.models import Client
from quartzflow.bulk import insert_new
from quartzflow.execution_status import TERMINAL, ExecutionStatus
from tasks_app.models import ConfigChange, Task

from . import removed, retention
from .choices import FailureReason
from .daily import day_of
from .models import Execution

log = structlog.get_logger(__name__)


def moment(milliseconds: int) -> datetime | None:
    """Unix ms → aware UTC; None for 0 and for what no calendar holds."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds > 0 else None
    except (OverflowError, ValueError, OSError):
        return None


def insert_local(results: Iterable[tuple[str, task_pb2.TaskResult]]) -> set[str]:
    """Rows for (client, result) of firings that the agent made by itself; in a transaction. Their names."""
    fresh = [execution for execution, _result in _of_known_tasks(results)]
    insert_new(Execution, _without_a_place(fresh), conflict="execution_id")
    return {execution.execution_id for execution in fresh}


def count_late(results: Iterable[tuple[str, task_pb2.TaskResult]]) -> set[str]:
    """Of (client, result) of such firings, those that are older than what is kept: no rows are made for them any more.
    Each is counted once in its day's statistics, unless it was a row before. In a transaction. Their names.
    """
    late = [
        (c, m) for c, m in results if (at := moment(m.scheduled_time)) and m.local and retention.too_old(at)
    ]
    if not late:
        return set()
    found = {execution.execution_id: (execution, result) for execution, result in _of_known_tasks(late)}
    new = removed.remember(
        {name: execution.scheduled_time for name, (execution, _result) in found.items()},
        retention.midnight(retention.EXECUTIONS_DAYS.value) - retention.NAMES_KEPT,
    )
    tallies: removed.Tallies = {}
    for name in new:
        execution, m = found[name]
        started = moment(m.started_at)
        day = day_of(started, execution.scheduled_time)
        duration = max(0, min(m.finished_at - m.started_at, 2**31 - 1)) if started else None
        removed.add(
            tallies, execution.task_id, execution.client_id, day, execution.task_name, _end_of(m), duration
        )
    removed.save(tallies, counted=False)
    log.warning(
        "records older than what is kept",
        hosts=sorted({c for c, _ in late}),
        records=len(found),
        new=len(new),
    )
    return set(found)


def _end_of(m: task_pb2.TaskResult) -> ExecutionStatus:
    try:
        status = ExecutionStatus.from_wire(m.status)
    except ValueError:
        return ExecutionStatus.FAILURE
    return status if status in TERMINAL else ExecutionStatus.FAILURE


def _of_known_tasks(
    results: Iterable[tuple[str, task_pb2.TaskResult]],
) -> list[tuple[Execution, task_pb2.TaskResult]]:
    """What the rows of (client, result) would be. A name must be the one that its firing has."""
    results = list(results)
    task_ids = {int(m.task_id) for _, m in results if m.task_id.isdecimal()}
    tasks = {task.pk: task for task in Task.objects.filter(pk__in=task_ids)}
    once_known = set(
        ConfigChange.objects.filter(task_id__in=task_ids - tasks.keys()).values_list("task_id", flat=True)
    )
    groups = dict(
        Client.objects.filter(client_id__in={client_id for client_id, _ in results}).values_list(
            "client_id", "group_id"
        )
    )
    fresh: list[tuple[Execution, task_pb2.TaskResult]] = []
    for client_id, m in results:
        scheduled = moment(m.scheduled_time)
        if not m.local or not m.task_id.isdecimal() or scheduled is None:
            continue
        task_id = int(m.task_id)
        task = tasks.get(task_id)
        if (task is None and task_id not in once_known) or m.execution_id != execution_name(
            task_id, scheduled, client_id
        ):
            continue
        execution = Execution(
            execution_id=m.execution_id,
            run_id=run_id(task_id, scheduled),
            task_id=task_id,
            task_name=(task.name if task else m.task_name)[:128],
            client_id=client_id,
            group_id=groups.get(client_id),
            scheduled_time=scheduled,
            local=True,
            timeout=task.timeout if task else 300,
            max_retries=task.retry_count if task else 0,
            retry_count=m.retry_count,
            task_version=task.version if task else 0,
        )
        fresh.append((execution, m))
    return fresh


def _without_a_place(fresh: list[Execution]) -> list[Execution]:
    """The server saw nobody where these ran, and said so in a row: it becomes the first one's. Returns the others."""
    nobody = Execution.objects.filter(
        client_id="", status=ExecutionStatus.FAILURE, failure_reason=FailureReason.NO_ONLINE_CLIENT
    )
    rows = dict(nobody.filter(run_id__in={e.run_id for e in fresh}).values_list("run_id", "pk"))
    return [e for e in fresh if e.run_id not in rows or not _take(nobody.filter(pk=rows.pop(e.run_id)), e)]


def _take(row: models.QuerySet[Execution], execution: Execution) -> bool:
    """Whether the row is this execution's now; its end is told next."""
    try:
        with transaction.atomic():
            return bool(
                row.update(
                    execution_id=execution.execution_id,
                    client_id=execution.client_id,
                    group_id=execution.group_id,
                    local=True,
                    status=ExecutionStatus.RUNNING,
                    failure_reason="",
                    retry_count=execution.retry_count,
                )
            )
    except IntegrityError:
        return False  # somebody else has entered it this moment
