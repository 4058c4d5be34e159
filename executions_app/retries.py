"""Running again by hand what did not end well: one execution, several, or the failed hosts of a run."""

from collections.abc import Iterable

from django.db import transaction
from django.utils.translation import gettext as _

from quartzflow.audit import record
from quartzflow.errors import Conflict
from quartzflow.execution_status import ExecutionStatus
from quartzflow.permissions import User, check
from tasks_app.models import Task

from .choices import ExecutionType
from .dispatch import Firing, fire, insert, new_execution, new_firing
from .instructions import Prepared, load_tasks
from .locks import PLACEMENT, share
from .models import Execution
from .targets import members

RETRYABLE = frozenset({ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT, ExecutionStatus.CANCELLED})
MOST = 1000  # executions at a time


def do_retry_executions(user: User, executions: Iterable[Execution]) -> list[Execution]:
    """Run executions again, each on its host with its parameters and shard; those of one run are one run again.

    One that found no host is fired anew. Raises NotAllowed, NotFound, and Conflict when one has not failed, its task
    is gone, or its host is no longer one of the task's.
    """
    executions = list(executions)
    if len(executions) > MOST:
        raise Conflict(_("At most %(count)s executions at a time.") % {"count": MOST})
    if any(execution.status not in RETRYABLE for execution in executions):
        raise Conflict(_("Only executions that failed, timed out or were cancelled can be retried."))
    for task in Task.objects.filter(pk__in={execution.task_id for execution in executions}):
        check(user, task, "trigger")
    runs: dict[str, list[Execution]] = {}
    for execution in executions:
        runs.setdefault(execution.run_id, []).append(execution)
    again: list[Execution] = []
    with transaction.atomic():
        share(PLACEMENT)
        tasks = load_tasks({execution.task_id for execution in executions})
        if any(execution.task_id not in tasks for execution in executions):
            raise Conflict(_("The task has been deleted."))
        for run, rows in runs.items():
            prepared = tasks[rows[0].task_id]
            placed = [row for row in rows if row.client_id]
            firing = _firing(user, prepared.task, rows[0])
            again += insert(_repeat(firing, prepared, placed), tasks) if placed else fire([firing])
            record(
                user, "execution.retry", prepared.task, {"run": run, "executions": [row.pk for row in rows]}
            )
    return again


def do_retry_run(user: User, run_id: str) -> list[Execution]:
    """Run the failed hosts of a run again. Raises as `do_retry_executions`, and Conflict when none has failed."""
    failed = list(Execution.objects.filter(run_id=run_id, status__in=RETRYABLE).order_by("id")[: MOST + 1])
    if not failed:
        raise Conflict(_("Nothing of this run has failed."))
    return do_retry_executions(user, failed)


def _firing(user: User, task: Task, row: Execution) -> Firing:
    return new_firing(task, ExecutionType.MANUAL, params=row.params, triggered_by=user.get_username()[:150])


def _repeat(firing: Firing, prepared: Prepared, rows: list[Execution]) -> list[Execution]:
    groups = members(prepared, {row.client_id for row in rows})
    if lost := sorted({row.client_id for row in rows} - groups.keys()):
        raise Conflict(_("No longer hosts of the task: %(names)s.") % {"names": ", ".join(lost[:5])})
    return [
        new_execution(
            firing,
            prepared.task,
            (row.client_id, groups[row.client_id]),
            shard=None if row.shard_index is None else (row.shard_index, row.shard_total or 0),
            retry_of=row.pk,
        )
        for row in rows
    ]
