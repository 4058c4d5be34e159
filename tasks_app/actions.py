"""All writes to tasks (FR-1). Pages, API, commands and Celery tasks call these; nothing else writes tb_task.

Each change takes a configuration version in its own transaction, which the scheduler and the agents follow.
"""

import itertools
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from groups_app.models import Group
from quartzflow.audit import difference, record
from quartzflow.declared_settings import task_defaults
from quartzflow.errors import Conflict, NotFound, PreconditionFailed
from quartzflow.execution_status import ExecutionStatus
from quartzflow.permissions import User, check, check_create, grant_own

from . import periodic
from .checks import EDITABLE, check_task
from .choices import ChangeAction, ScheduleType, TaskStatus, VersionAction
from .configs import next_version, record_task_changes
from .dependencies import bind_dependencies
from .models import TIMING_FIELDS, Task, TaskGroup
from .versions import add_versions, definitions, named

OWN = ("view", "change", "delete", "trigger", "cancel", "view_logs")  # rights on what one has made
SCHEDULER = "system"  # who disables tasks whose one time is over, in audit and versions


def do_create_task(user: User, data: dict[str, Any], *, action: VersionAction = VersionAction.CREATE) -> Task:
    """Create a task. `data`: fields of checks.EDITABLE, `group_ids`, `calendar_id`, `dependencies`.

    action: what the history of its versions says. Raises InvalidInput naming the fields, NotAllowed.
    """
    check_create(user, Task)
    task = Task(owner=user, created_by=user.get_username()[:64], **task_defaults())
    links = check_task(user, task, data)
    _start_schedule(task)
    with transaction.atomic():
        task.version = next_version()
        task.save()
        grant_own(user, task, OWN)
        _bind(task, links.groups or [])
        bind_dependencies(user, task, links.parents or [])
        periodic.save_periodic_task(task)
        record_task_changes(task.version, [(task, _scope(task), ChangeAction.TASK)])
        add_versions([task], action, user, {})
        record(user, "task.create", task, _state(task))
    return task


def do_copy_task(user: User, task: Task, name: str = "") -> Task:
    """A new task like this one: switched off, so that nothing runs twice, and the user's own.

    name: of the copy; empty: one made from the task's. Raises InvalidInput, NotAllowed, NotFound.
    """
    check(user, task, "view")
    now = definitions([task])[task.pk]
    data = {field: getattr(task, field) for field in EDITABLE} | {
        "name": name or free_name(task.name),
        "status": TaskStatus.DISABLED,
        "group_ids": [group["id"] for group in now["groups"]],
        "calendar_id": task.calendar_id,
        "dependencies": [
            {"task_id": parent["task_id"], "condition": parent["condition"]} for parent in now["dependencies"]
        ],
    }
    return do_create_task(user, data, action=VersionAction.COPY)


def free_name(name: str) -> str:
    """The first of "name (copy)", "name (copy 2)" … that no task has."""
    most = 128 - 16  # of the column, less the mark
    for number in itertools.count(1):
        text = _("%(name)s (copy)") if number == 1 else _("%(name)s (copy %(number)s)")
        found = text % {"name": name[:most], "number": number}
        if not Task.objects.filter(name=found).exists():
            break
    return found


def do_update_task(
    user: User,
    task: Task,
    data: dict[str, Any],
    *,
    force: bool = False,
    expected: int | None = None,
    action: VersionAction = VersionAction.UPDATE,
    origin: int | None = None,
) -> Task:
    """Change a task's fields. Refused while it executes (FR-1.2) unless `force`.

    expected: the version that the caller has seen; None: the one that `task` was loaded with.
    action, origin: what the history of its versions says. Raises InvalidInput, NotAllowed, NotFound, Conflict when the
    task was changed since it was loaded, PreconditionFailed when it is not the expected version.
    """
    check(user, task, "change")
    loaded = task.version
    before_definition = definitions([task])[task.pk]
    before_schedule = tuple(getattr(task, field) for field in TIMING_FIELDS)
    before_state = _state(task)
    links = check_task(user, task, data)
    with transaction.atomic():
        version = next_version()  # also keeps two edits of the same task apart
        _check_version(task, loaded, expected)
        if not force and is_executing(task):
            raise Conflict(
                _(
                    "The task is executing. Wait for it to end, cancel it, or say that you want to edit it anyway."
                )
            )
        before = _scope(task)
        schedule_changed = before_schedule != tuple(getattr(task, field) for field in TIMING_FIELDS)
        if schedule_changed:
            _start_schedule(task)
        task.version = version
        task.save()
        if links.groups is not None:
            _bind(task, links.groups)
        if links.parents is not None:
            bind_dependencies(user, task, links.parents)
        periodic.save_periodic_task(task)
        if schedule_changed:
            periodic.forget_last_run(task)
        after = _scope(task)
        touched = None if before is None or after is None else before | after
        record_task_changes(version, [(task, touched, ChangeAction.TASK)])
        add_versions([task], action, user, {task.pk: before_definition}, origin=origin)
        if changes := difference(before_state, _state(task)):
            record(user, "task.update", task, changes)
    return task


def do_set_enabled(user: User, tasks: Iterable[Task], enabled: bool) -> int:
    """Enable or disable tasks, effective at once (FR-1.3). Returns how many changed.

    Raises for the first that is not allowed.
    """
    tasks = list(tasks)
    for task in tasks:
        check(user, task, "change")
    return _set_enabled(user, tasks, enabled)


def do_delete_tasks(user: User, tasks: Iterable[Task], *, expected: int | None = None) -> int:
    """Delete tasks; their executions stay readable. executions_app.control also ends what waits or runs.

    expected: the version that the caller has seen, of each; None: any. Raises PreconditionFailed when it is another.
    """
    tasks = list(tasks)
    for task in tasks:
        check(user, task, "delete")
    with transaction.atomic():
        version = next_version()
        if expected is not None:
            for task in tasks:
                _check_version(task, expected, expected)
        record_task_changes(version, [(task, _scope(task), ChangeAction.TASK_DELETED) for task in tasks])
        for task in tasks:
            record(user, "task.delete", task, _state(task))
        ids = [task.pk for task in tasks]
        periodic.delete_periodic_tasks([task.periodic_task_id for task in tasks if task.periodic_task_id])
        Task.objects.filter(pk__in=ids).delete()
    return len(tasks)


def expire_once(task_ids: Iterable[int]) -> int:
    """Disable `once` tasks that have fired (自动失效). Called by the scheduler."""
    tasks = list(Task.objects.filter(pk__in=list(task_ids), schedule_type=ScheduleType.ONCE))
    return _set_enabled(SCHEDULER, tasks, False)


def plan_next_delay(task_ids: Iterable[int], ended: datetime) -> None:
    """The whole run of these `fixed_delay` tasks ended at `ended`: they fire again after their interval (§3.3 P1).

    No configuration version: agents do not compute a fixed delay's time, and the scheduler looks for these itself.
    """
    for task in Task.objects.filter(
        pk__in=list(task_ids), schedule_type=ScheduleType.FIXED_DELAY, status=TaskStatus.ENABLED
    ):
        due = ended + timedelta(seconds=task.interval_seconds or 1)
        # Whole seconds, rounded up: a firing is named by its second, and must not come before the delay is over.
        due = due if due.microsecond == 0 else due.replace(microsecond=0) + timedelta(seconds=1)
        Task.objects.filter(pk=task.pk).update(next_fire_at=due)


def _set_enabled(actor: User | str, tasks: list[Task], enabled: bool) -> int:
    status = TaskStatus.ENABLED if enabled else TaskStatus.DISABLED
    with transaction.atomic():
        version = next_version()
        changing = list(Task.objects.filter(pk__in=[task.pk for task in tasks]).exclude(status=status))
        ids = [task.pk for task in changing]
        now = timezone.now()
        Task.objects.filter(pk__in=ids).update(status=status, version=version, updated_at=now)
        before = definitions(changing)
        periodic.set_enabled(changing, enabled)
        if enabled:
            # What was missed while it was off is not made up for.
            Task.objects.filter(pk__in=ids).update(schedule_since=now)
            for task in changing:
                periodic.forget_last_run(task)
        record_task_changes(version, [(task, _scope(task), ChangeAction.TASK) for task in changing])
        for task in changing:
            task.status, task.version = status, version
            record(actor, "task.enable" if enabled else "task.disable", task)
        add_versions(changing, VersionAction.ENABLE if enabled else VersionAction.DISABLE, actor, before)
    for task in tasks:
        task.status = status
        if task.pk in ids:
            task.version = version
    return len(ids)


def _check_version(task: Task, loaded: int, expected: int | None) -> None:
    """Within the transaction that holds the configuration version: nobody has changed the task meanwhile."""
    current = Task.objects.filter(pk=task.pk).values_list("version", flat=True).first()
    if current is None:
        raise NotFound
    if expected is not None and current != expected:
        raise PreconditionFailed
    if current != loaded:
        raise Conflict(PreconditionFailed.default_message)


def _state(task: Task) -> dict[str, Any]:
    """What of a task the audit trail shows before and after."""
    return named(definitions([task])[task.pk])


def _start_schedule(task: Task) -> None:
    """A new schedule counts from now."""
    task.next_fire_at = None
    task.schedule_since = timezone.now()
    task.anchor_at = (
        task.start_at or timezone.now().replace(microsecond=0)
        if task.schedule_type == ScheduleType.FIXED_RATE
        else None
    )


def _bind(task: Task, groups: list[Group]) -> None:
    """Bind the task to exactly these groups."""
    wanted = {group.pk for group in groups}
    TaskGroup.objects.filter(task=task).exclude(group_id__in=wanted).delete()
    have = set(TaskGroup.objects.filter(task=task).values_list("group_id", flat=True))
    TaskGroup.objects.bulk_create(TaskGroup(task=task, group_id=pk) for pk in sorted(wanted - have))


def _scope(task: Task) -> set[int] | None:
    """The ids of the groups whose hosts hold the task; None: every host."""
    if task.is_global:
        return None
    return set(TaskGroup.objects.filter(task=task).values_list("group_id", flat=True))


def is_executing(task: Task) -> bool:
    """Whether any execution of the task is running now (one waiting for its time does not count)."""
    return bool(task.executions.filter(status=ExecutionStatus.RUNNING).exists())
