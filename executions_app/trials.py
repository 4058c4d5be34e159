"""Test runs: a task's definition runs once, on one host, before it is stored.

The execution is one of no task (TRIAL): it follows no schedule, is not tried again, and nothing runs after it. Its
instruction is sent once; when that is lost, the execution expires, and one tries again.
"""

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from groups_app.choices import ClientApproval
from groups_app.labels import matches
from groups_app.models import Client
from groups_app.selectors import clients_for
from quartzflow.audit import record
from quartzflow.errors import Conflict, InvalidInput, NotAllowed, NotFound
from quartzflow.execution_status import LIVE
from quartzflow.permissions import User, check, check_create
from tasks_app.checks import check_task
from tasks_app.models import Task

from .choices import ExecutionType, FailureReason
from .control import cancel_live
from .dispatch import insert, new_execution, new_firing
from .instructions import Prepared, instruction_template
from .models import Execution

TRIAL = 0  # the id of the task that these executions are of; no task has it
AT_ONCE = 100  # test runs on one host; they do not wait for each other


def may_test(user: User, task: Task | None) -> bool:
    """Whether the user may try out a definition: one who may store it, and run it then."""
    if task is None:
        return user.has_perm("tasks_app.add_task") and user.has_perm("tasks_app.trigger_task")
    return all(
        user.has_perm(f"tasks_app.{action}_task") or user.has_perm(f"tasks_app.{action}_task", task)
        for action in ("change", "trigger")
    )


def do_test_run(user: User, task: Task | None, data: dict[str, Any], client_id: str) -> Execution:
    """Run `data` (as tasks_app.actions takes it) on one of the hosts that it means.

    task: the stored one that `data` would change; None: it would be a new one.
    Raises InvalidInput, NotAllowed, NotFound, and Conflict when the host is offline.
    """
    if task is None:
        check_create(user, Task)
        draft = Task(owner=user)
    else:
        check(user, task, "change")
        draft = Task.objects.get(pk=task.pk)  # takes the new values
    if not may_test(user, task):
        raise NotAllowed
    links = check_task(user, draft, data)
    groups = (
        draft.groups.values_list("pk", flat=True) if links.groups is None else [g.pk for g in links.groups]
    )
    host = _host(user, draft, None if draft.is_global else set(groups), client_id)
    draft.pk = TRIAL
    draft.concurrency = AT_ONCE
    draft.retry_count = draft.spread_seconds = 0
    draft.name = _("%(name)s (test run)") % {"name": draft.name[:100]}
    firing = new_firing(draft, ExecutionType.MANUAL, triggered_by=user.get_username()[:150])
    execution = new_execution(firing, draft, (host.client_id, host.group_id))
    execution.hold = ""  # not counted among those that limits hold back
    prepared = Prepared(draft, None, instruction_template(draft))
    with transaction.atomic():
        insert([execution], {TRIAL: prepared})
        changes = {"host": host.client_id, "executor_config": draft.executor_config}
        record(user, "task.test_run", task, changes, name=draft.name)
    return execution


def _host(user: User, draft: Task, groups: set[int] | None, client_id: str) -> Client:
    """The host, which must be one of the draft's that the user may see, and online."""
    host = clients_for(user).filter(client_id=client_id, approval=ClientApproval.APPROVED).first()
    meant = host and (groups is None or host.group_id in groups) and matches(draft.selector, host.labels)
    if host is None or not meant:
        raise InvalidInput({"test_host": [_("Choose one of the hosts that the task is for.")]})
    if not host.is_online:
        raise Conflict(_("%(host)s is offline.") % {"host": host.client_id})
    return host


def test_run_of(user: User, pk: int) -> Execution:
    """A test run of this user's. Raises NotFound."""
    execution = Execution.objects.filter(pk=pk, task_id=TRIAL, triggered_by=user.get_username()[:150]).first()
    if execution is None:
        raise NotFound
    return execution


def do_cancel_test_run(user: User, pk: int) -> None:
    """End a test run of one's own. Raises NotFound, and Conflict when it has ended."""
    execution = test_run_of(user, pk)
    with transaction.atomic():
        rows = Execution.objects.filter(pk=execution.pk, status__in=LIVE)
        if not cancel_live(rows, FailureReason.CANCELLED_BY_USER, user):
            raise Conflict(_("The execution has ended already."))
        record(
            user, "execution.cancel", None, {"executions": [execution.execution_id]}, name=execution.task_name
        )
