"""What people do with tasks and executions that touches both: run now, disable, delete, cancel, retry (FR-1.3, FR-1.4).

Pages, API and commands call these; they call tasks_app.actions for the task's side.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from quartzflow_agent.schedule import spread_delay_ms
from quartzflow_agent.substitution import SubstitutionError

from quartzflow.audit import record
from quartzflow.bulk import update_from_values
from quartzflow.errors import Conflict, InvalidInput, NotAllowed
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.permissions import User, check
from tasks_app import actions as task_actions
from tasks_app import calendars
from tasks_app.choices import ExecutorType, ScheduleType, VersionAction
from tasks_app.exchange import Outcome, do_import
from tasks_app.models import Calendar, Task
from tasks_app.selectors import still_scheduled
from tasks_app.substitutions import missing_parameters
from tasks_app.versions import data_of, get_version

from .choices import ExecutionType, FailureReason
from .dispatch import fire, new_firing
from .endings import after_end
from .events import publish_executions
from .instructions import load_tasks, send_cancels
from .locks import PLACEMENT, lock
from .models import Execution
from .targets import members

PARAM_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
MAX_PARAMS = 50
MAX_PARAM_BYTES = 8 * 1024
PLACING = ("group_ids", "is_global", "selector")  # fields that say where a task runs
MAX_NAMED = 50  # executions that one audit entry names


def do_trigger_task(
    user: User, task: Task, params: dict[str, Any] | None = None, client_ids: Iterable[str] | None = None
) -> list[Execution]:
    """Run a task now, whatever its schedule (FR-1.4). Returns its executions, at least one.

    Raises InvalidInput for parameters, NotAllowed, NotFound.
    """
    check(user, task, "trigger")
    given = check_params(params or {})
    _check_asked(task, given)
    firing = new_firing(
        task,
        ExecutionType.MANUAL,
        params=given,
        triggered_by=user.get_username()[:150],
        client_ids=None if client_ids is None else frozenset(client_ids),
    )
    with transaction.atomic():
        executions = fire([firing])
        record(user, "task.trigger", task, {"params": dict(firing.params), "run": executions[0].run_id})
    return executions


def _check_asked(task: Task, given: Mapping[str, str]) -> None:
    """Raise InvalidInput for parameters that the task asks for by a placeholder and would not get."""
    try:
        missing = missing_parameters(ExecutorType(task.executor_type), task.executor_config, given)
    except SubstitutionError as error:  # of a task that is older than the placeholders
        raise InvalidInput({"params": [error.render(_)]}) from error
    if missing:
        text = _("The task uses %(names)s, which is not given and has no default.")
        raise InvalidInput({"params": [text % {"names": ", ".join(missing)}]})


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
    if len({name.upper() for name in cleaned}) < len(cleaned):
        wrong.append(_("Two names differ only in upper and lower case."))
    if wrong:
        raise InvalidInput({"params": wrong})
    return cleaned


def do_update_task(user: User, task: Task, data: dict[str, Any], **how: Any) -> Task:
    """Change a task as tasks_app.actions does (`how`: its further arguments), and with it what waits for its time.

    A firing that is still on the schedule, on a host that is still meant, runs by the new definition; any other is
    cancelled.
    """
    with transaction.atomic():
        if not data.keys().isdisjoint(PLACING):
            lock(PLACEMENT)
        task_actions.do_update_task(user, task, data, **how)
        renew_waiting([task], user)
    return task


def do_restore_task(user: User, task: Task, number: int, *, force: bool = False) -> Task:
    """Make a task again what it was at a version, as an edit. Raises InvalidInput, NotAllowed, NotFound, Conflict."""
    check(user, task, "change")
    data = data_of(user, task, get_version(task, number))
    if not data:
        raise Conflict(_("The task is as it was then already."))
    return do_update_task(user, task, data, force=force, action=VersionAction.RESTORE, origin=number)


def do_import_tasks(
    user: User, rows: Sequence[dict[str, Any]], *, dry_run: bool, force: bool = False
) -> list[Outcome]:
    """Create and change tasks by rows of a file, as tasks_app.exchange does it, with what waits of those changed."""
    return do_import(user, rows, do_update_task, dry_run=dry_run, force=force)


def do_save_calendar(user: User, data: dict[str, Any], calendar: Calendar | None = None) -> Calendar:
    """Create or change a calendar; what waits for a time that its tasks no longer have is cancelled."""
    with transaction.atomic():
        calendar = calendars.do_save_calendar(user, data, calendar)
        renew_waiting(Task.objects.filter(calendar=calendar).select_related("calendar"), user)
    return calendar


def renew_waiting(tasks: Iterable[Task], user: User | None) -> None:
    """Bring scheduled executions that wait for their time in line with their changed tasks; in a transaction."""
    for task in tasks:
        waiting = Execution.objects.filter(
            task=task, status=ExecutionStatus.PENDING, execution_type=ExecutionType.SCHEDULED
        )
        hosts = set(waiting.values_list("client_id", flat=True))
        meant = members(load_tasks({task.pk})[task.pk], hosts) if hosts else {}
        outdated = [e.pk for e in waiting if e.client_id not in meant or _is_outdated(task, e)]
        cancel_live(Execution.objects.filter(pk__in=outdated), FailureReason.TASK_CHANGED, user)
        delays = {e.pk: spread_delay_ms(task.pk, e.client_id, task.spread_seconds) for e in waiting}
        moved = [(e.pk, delays[e.pk]) for e in waiting if e.delay_ms != delays[e.pk]]
        update_from_values(Execution, key=("id",), columns=("delay_ms",), rows=moved)
        waiting.exclude(pk__in=outdated).update(
            task_name=task.name,
            timeout=task.timeout,
            max_retries=task.retry_count,
            retry_interval=task.retry_interval,
            retry_max_interval=task.retry_max_interval,
            task_version=task.version,
        )


def _is_outdated(task: Task, execution: Execution) -> bool:
    if task.schedule_type == ScheduleType.FIXED_DELAY:
        return execution.created_at <= task.schedule_since < execution.scheduled_time
    return not still_scheduled(task, execution.scheduled_time)


def do_enable_tasks(user: User, tasks: Iterable[Task]) -> int:
    """Put tasks on schedule again, from now on. Returns how many changed."""
    return task_actions.do_set_enabled(user, tasks, True)


def do_disable_tasks(user: User, tasks: Iterable[Task]) -> int:
    """Take tasks off schedule; what waits for its time or its next attempt is cancelled, what runs goes on."""
    tasks = list(tasks)
    with transaction.atomic():
        changed = task_actions.do_set_enabled(user, tasks, False)
        waiting = Execution.objects.filter(
            Q(status=ExecutionStatus.PENDING) | Q(next_retry_at__isnull=False),
            task__in=tasks,
            status__in=LIVE,
            execution_type=ExecutionType.SCHEDULED,
        )
        cancel_live(waiting, FailureReason.TASK_DISABLED, user)
    return changed


def do_batch(
    user: User, tasks: Iterable[Task], action: Any, params: dict[str, Any] | None = None
) -> tuple[int, list[int]]:
    """Enable, disable, delete or trigger tasks, all of them or none.

    Returns how many changed (trigger: executions that were started), and the ids of those executions. Raises
    InvalidInput for another action, and what the single action raises.
    """
    works = {"enable": do_enable_tasks, "disable": do_disable_tasks, "delete": do_delete_tasks}
    if isinstance(action, str) and action in works:
        if params:
            raise InvalidInput({"params": [_("Only for trigger.")]})
        return works[action](user, tasks), []
    if action != "trigger":
        raise InvalidInput({"action": [_("One of %(names)s.") % {"names": ", ".join([*works, "trigger"])}]})
    made: list[Execution] = []
    with transaction.atomic():
        for task in tasks:
            made += do_trigger_task(user, task, params)
    return len(made), [execution.pk for execution in made]


def do_delete_tasks(user: User, tasks: Iterable[Task], *, expected: int | None = None) -> int:
    """Delete tasks and stop what waits or runs of them; their history stays."""
    tasks = list(tasks)
    with transaction.atomic():
        live = Execution.objects.filter(task_id__in=[task.pk for task in tasks], status__in=LIVE)
        deleted = task_actions.do_delete_tasks(user, tasks, expected=expected)
        cancel_live(live, FailureReason.TASK_DELETED, user)
    return deleted


def do_cancel_executions(user: User, executions: Iterable[Execution]) -> int:
    """Cancel what waits or runs: the agents end the process groups. Returns how many were still live.

    Raises NotAllowed, and Conflict when none of them is live any more.
    """
    executions = list(executions)
    task_ids = {execution.task_id for execution in executions}
    tasks = Task.objects.in_bulk(task_ids)
    for task in tasks.values():
        check(user, task, "cancel")
    if len(tasks) < len(task_ids) and not user.has_perm("tasks_app.cancel_task"):
        raise NotAllowed  # of deleted tasks only who may cancel any
    with transaction.atomic():
        rows = Execution.objects.filter(pk__in=[execution.pk for execution in executions], status__in=LIVE)
        names = list(rows.values_list("execution_id", flat=True)[:MAX_NAMED])
        cancelled = cancel_live(rows, FailureReason.CANCELLED_BY_USER, user)
        if cancelled:
            changes = {"count": cancelled, "executions": names}
            record(user, "execution.cancel", next(iter(tasks.values()), None), changes)
    if not cancelled:
        raise Conflict(_("The execution has ended already."))
    return cancelled


def cancel_live(rows: Any, reason: FailureReason, user: User | None) -> int:
    """End live rows as CANCELLED and, after commit, have their agents stop them.

    The row is ended at once; the agent's own record then takes its place, whether the cancel came in time or not.
    """
    found = list(rows.values_list("pk", "client_id", "execution_id"))
    pks = [pk for pk, _, _ in found]
    changed = Execution.objects.filter(pk__in=pks, status__in=LIVE).update(
        status=ExecutionStatus.CANCELLED,
        failure_reason=reason,
        cancelled_by=user.get_username()[:150] if user else "",
        end_time=timezone.now(),
        next_retry_at=None,
    )
    after_end(pks)

    def notify() -> None:
        send_cancels((client_id, name, reason.value) for _pk, client_id, name in found)
        publish_executions(pks)

    transaction.on_commit(notify)
    return changed
