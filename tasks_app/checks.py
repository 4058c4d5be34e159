"""What a caller may set on a task, and whether it can work (FR-1.1)."""

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from quartzflow_agent.cron import ScheduleError

from groups_app.labels import check_selector
from groups_app.models import Group
from groups_app.selectors import groups_for
from quartzflow.errors import InvalidInput
from quartzflow.kinds import wrong_kinds
from quartzflow.permissions import User, codename, visible

from .choices import ExecutorType
from .dependencies import Parent, check_dependencies
from .executors import check_executor_config
from .models import SCHEDULE_FIELDS, Calendar, Task
from .secrets import check_secrets

# What a caller may set; ids, versions, owner and times are not among it.
EDITABLE = (
    "name", "description", "executor_type", "executor_config", "cron_expr", "timeout", "retry_count",
    "retry_interval", "retry_max_interval", "concurrency", "status", "is_global", "labels", "schedule_type",
    "timezone", "interval_seconds", "run_at", "start_at", "end_at", "misfire_policy", "misfire_grace",
    "concurrency_policy", "routing", "spread_seconds", "calendar_mode", "selector", "offline_policy", "dependency_mode",
    "wave_size", "wave_max_failed",
)  # fmt: skip


@dataclass(frozen=True)
class Links:
    """What `data` names beside the task's own columns; None: nothing, what there is stays."""

    groups: list[Group] | None
    parents: list[Parent] | None


def check_task(user: User, task: Task, data: dict[str, Any]) -> Links:
    """Put `data` into the (unsaved) task and validate all of it.

    Raises InvalidInput with every wrong field at once.
    """
    errors = wrong_kinds(Task, data)
    was_global = task.pk is not None and task.is_global
    for name, value in data.items():
        if name in errors:
            continue
        if name in EDITABLE:
            setattr(task, name, value.strip() if isinstance(value, str) and name != "description" else value)
        elif name not in ("group_ids", "calendar_id", "dependencies"):
            errors[name] = [_("Unknown field.")]
    try:
        task.full_clean(exclude=["periodic_task", "owner", "executor_config"])
    except ValidationError as error:
        errors = {**error.message_dict, **errors}
    if "executor_type" not in errors:
        task.executor_config, wrong = check_executor_config(
            ExecutorType(task.executor_type), task.executor_config
        )
        if wrong := wrong or check_secrets(user, task, ExecutorType(task.executor_type)):
            errors["executor_config"] = wrong
    if not isinstance(task.labels, dict) or not all(isinstance(v, str) for v in task.labels.values()):
        errors["labels"] = [_("Must be an object of names and texts.")]
    if wrong := check_selector(task.selector):
        errors["selector"] = wrong
    _check_calendar(user, task, data, errors)
    _check_schedule(task, errors)
    groups = _check_groups(user, task, data, errors)
    if task.is_global and not was_global and not user.has_perm(codename(Group, "view")):
        # As with a group that one may not see: nothing of one's own comes to its hosts.
        errors["is_global"] = [_("Only who may see every group may let a task run on every host.")]
    parents = None
    if "dependencies" in data:
        parents, wrong = check_dependencies(user, task, data["dependencies"])
        if wrong:
            errors["dependencies"] = wrong
    if errors:
        raise InvalidInput(errors)
    return Links(groups, parents)


def _check_schedule(task: Task, errors: dict[str, list[Any]]) -> None:
    if any(name in errors for name in ("schedule_type", *SCHEDULE_FIELDS)):
        return
    if task.start_at and task.end_at and task.start_at >= task.end_at:
        errors["end_at"] = [_("Must be after the beginning.")]
        return
    plan = task.schedule_spec()
    try:
        plan.validate()
    except ScheduleError as error:
        field = error.field if error.field in SCHEDULE_FIELDS else "cron_expr"
        errors[field] = [error.render(_)]
        return
    now = timezone.now()
    if plan.calendar and plan.next_nominal_after(now) and plan.next_after(now) is None:
        errors["calendar_id"] = [_("The calendar never lets this schedule fire.")]


def _check_calendar(user: User, task: Task, data: dict[str, Any], errors: dict[str, list[Any]]) -> None:
    """The calendar that `data` names must be visible to the user."""
    if "calendar_id" not in data:
        return
    pk = data["calendar_id"]
    known = isinstance(pk, int) and not isinstance(pk, bool)
    if known and pk == task.calendar_id:
        return  # what is there already may stay, seen or not
    task.calendar = None
    if pk is not None:
        task.calendar = visible(user, Calendar.objects.all()).filter(pk=pk).first() if known else None
        if task.calendar is None:
            errors["calendar_id"] = [_("There is no such calendar.")]


def _check_groups(
    user: User, task: Task, data: dict[str, Any], errors: dict[str, list[Any]]
) -> list[Group] | None:
    """The groups that `data` names, and those that the user may not see and the task is bound to: they stay.

    No other may be named that the user may not see (no binding to a group one may not know of).
    """
    if "group_ids" not in data:
        if task.pk is None and not task.is_global:
            errors["group_ids"] = [_("Choose at least one group, or every host.")]
        return None
    ids = data["group_ids"]
    if not isinstance(ids, list) or not all(isinstance(pk, int) and not isinstance(pk, bool) for pk in ids):
        errors["group_ids"] = [_("Must be a list of group ids.")]
        return None
    hidden = hidden_groups(user, task)
    groups = [*groups_for(user).filter(pk__in=ids), *hidden]
    if missing := sorted(set(ids) - {group.pk for group in groups}):
        errors["group_ids"] = [_("There is no group %(ids)s.") % {"ids": ", ".join(map(str, missing))}]
    elif not groups and not task.is_global:
        errors["group_ids"] = [_("Choose at least one group, or every host.")]
    return groups


def hidden_groups(user: User, task: Task) -> list[Group]:
    """The groups that the task is bound to and that the user may not see."""
    if task.pk is None:
        return []
    return list(task.groups.exclude(pk__in=groups_for(user).values("pk")))
