"""What people do with tasks and executions that touches both: run now, disable, delete, cancel, retry (FR-1.3, FR-1.4).

Pages, API and commands call these; they call tasks_app.actions for the task's side.
"""

import re
from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from groups_app.selectors import bridges_of
from quartzflow import bridges
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.permissions import User, check
from tasks_app import actions as task_actions
from tasks_app.models import Task

from .choices import ExecutionType, FailureReason
from .dispatch import fire, new_firing
from .endings import after_end
from .events import publish_executions
from .models import Execution

PARAM_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
MAX_PARAMS = 50
MAX_PARAM_BYTES = 8 * 1024


def do_trigger_task(
    user: User, task: Task, params: dict[str, Any] | None = None, client_ids: Iterable[str] | None = None
) -> list[Execution]:
    """Run a task now, whatever its schedule (FR-1.4). Returns its executions, at least one.

    Raises InvalidInput for parameters, NotAllowed, NotFound.
    """
    check(user, task, "trigger")
    firing = new_firing(
        task,
        ExecutionType.MANUAL,
        params=check_params(params or {}),
        triggered_by=user.get_username()[:150],
        client_ids=None if client_ids is None else frozenset(client_ids),
    )
    return fire([firing])


def check_params(params: Any) -> dict[str, str]:
    """Dynamic parameters: names that can be part of an environment variable's, values as text. Raises InvalidInput."""
    if not isinstance(params, dict):
        raise InvalidInput({"params": [_("Must be an object of names and values.")]})
    wrong: list[str] = []
    cleaned: dict[str, str] = {}
    if len(params) > MAX_PARAMS:
        wrong.append(_("At most %(count)s parameters.") % {"count": MAX_PARAMS})
    for name, value in params.items():
        if not isinstance(name, str) or not PARAM_NAME.match(name):
            wrong.append(
                _("%(name)s: a name has letters, digits and underscores and begins with a letter.")
                % {"name": name}
            )
            continue
        if isinstance(value, bool):
            value = "true" if value else "false"
        if not isinstance(value, str | int | float):
            wrong.append(_("%(name)s: the value must be text or a number.") % {"name": name})
        elif "\0" in (text := str(value)) or len(text.encode()) > MAX_PARAM_BYTES:
            wrong.append(_("%(name)s: at most 8 KB, without NUL.") % {"name": name})
        else:
            cleaned[name] = text
    if wrong:
        raise InvalidInput({"params": wrong})
    return cleaned


def do_enable_tasks(user: User, tasks: Iterable[Task]) -> int:
    """Put tasks on schedule again, from now on. Returns how many changed."""
    return task_actions.do_set_enabled(user, tasks, True)


def do_disable_tasks(user: User, tasks: Iterable[Task]) -> int:
    """Take tasks off schedule; what waits for its time is cancelled, what runs goes on to its end."""
    tasks = list(tasks)
    with transaction.atomic():
        changed = task_actions.do_set_enabled(user, tasks, False)
        waiting = Execution.objects.filter(
            task__in=tasks, status=ExecutionStatus.PENDING, execution_type=ExecutionType.SCHEDULED
        )
        _cancel(waiting, FailureReason.TASK_DISABLED, user)
    return changed


def do_delete_tasks(user: User, tasks: Iterable[Task]) -> int:
    """Delete tasks and stop what waits or runs of them; their history stays."""
    tasks = list(tasks)
    with transaction.atomic():
        live = Execution.objects.filter(task_id__in=[task.pk for task in tasks], status__in=LIVE)
        deleted = task_actions.do_delete_tasks(user, tasks)
        _cancel(live, FailureReason.TASK_DELETED, user)
    return deleted


def do_cancel_executions(user: User, executions: Iterable[Execution]) -> int:
    """Cancel what waits or runs: the agents end the process groups. Returns how many were still live.

    Raises NotAllowed, and Conflict when none of them is live any more.
    """
    executions = list(executions)
    for task in Task.objects.filter(pk__in={execution.task_id for execution in executions}):
        check(user, task, "cancel")
    with transaction.atomic():
        rows = Execution.objects.filter(pk__in=[execution.pk for execution in executions], status__in=LIVE)
        cancelled = _cancel(rows, FailureReason.CANCELLED_BY_USER, user)
    if not cancelled:
        raise Conflict(_("The execution has ended already."))
    return cancelled


def _cancel(rows: Any, reason: FailureReason, user: User) -> int:
    """End live rows as CANCELLED and, after commit, have their agents stop them.

    The row is ended at once: the agent's own report of the same end then changes nothing.
    """
    found = list(rows.values_list("pk", "client_id", "execution_id"))
    pks = [pk for pk, _, _ in found]
    changed = Execution.objects.filter(pk__in=pks, status__in=LIVE).update(
        status=ExecutionStatus.CANCELLED,
        failure_reason=reason,
        cancelled_by=user.get_username()[:150],
        end_time=timezone.now(),
        next_retry_at=None,
    )
    after_end(pks)
    holders = bridges_of({client_id for _, client_id, _ in found})
    batches: dict[str, list[tuple[str, str, str]]] = {}
    for _pk, client_id, name in found:
        if client_id in holders:
            batches.setdefault(holders[client_id], []).append((client_id, name, reason.value))

    def notify() -> None:
        bridges.send_all([(bridge, {"type": "cancel", "items": items}) for bridge, items in batches.items()])
        publish_executions(pks)

    transaction.on_commit(notify)
    return changed
