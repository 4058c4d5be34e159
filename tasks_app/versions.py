"""The history of a task's definition: a version for each change, the difference of two, going back to one (FR-1.2)."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Max, Model, QuerySet
from django.utils.translation import gettext as _

from groups_app.models import Group
from quartzflow.audit import MASK, SECRET_NAME
from quartzflow.errors import InvalidInput, NotFound
from quartzflow.permissions import User, codename, visible

from .checks import EDITABLE, hidden_groups
from .choices import VersionAction
from .dependencies import hidden_parents
from .models import Calendar, Task, TaskDependency, TaskGroup, TaskVersion

KEPT = 200  # versions of one task
MOMENTS = ("run_at", "start_at", "end_at")
# Going back changes what a task is, not whether it is on.
NOT_RESTORED = ("status",)
PARTED = ("executor_config", "labels", "selector")  # objects whose keys are compared one by one

Definition = dict[str, Any]


def definitions(tasks: Sequence[Task]) -> dict[int, Definition]:
    """task id → what defines it, as JSON holds it: checks.EDITABLE, and what it is bound to by id and name."""
    ids = [task.pk for task in tasks]
    groups: dict[int, list[dict[str, Any]]] = {pk: [] for pk in ids}
    bound = TaskGroup.objects.filter(task_id__in=ids).order_by("group__name")
    for task_id, pk, name in bound.values_list("task_id", "group_id", "group__name"):
        groups[task_id].append({"id": pk, "name": name})
    parents: dict[int, list[dict[str, Any]]] = {pk: [] for pk in ids}
    links = TaskDependency.objects.filter(task_id__in=ids).order_by("parent_id")
    for task_id, pk, name, condition in links.values_list(
        "task_id", "parent_id", "parent__name", "condition"
    ):
        parents[task_id].append({"task_id": pk, "name": name, "condition": condition})
    wanted = {task.calendar_id for task in tasks if task.calendar_id}
    calendars = dict(Calendar.objects.filter(pk__in=wanted).values_list("pk", "name")) if wanted else {}
    return {
        task.pk: {
            **{name: plain(getattr(task, name)) for name in EDITABLE},
            "calendar": {"id": task.calendar_id, "name": calendars.get(task.calendar_id)}
            if task.calendar_id
            else None,
            "groups": groups[task.pk],
            "dependencies": parents[task.pk],
        }
        for task in tasks
    }


def plain(value: Any) -> Any:
    """A column's value as JSON holds it."""
    return value.isoformat() if isinstance(value, datetime) else value


def named(definition: Definition) -> Definition:
    """The same with names alone, as people read it: audit, comparison, export."""
    calendar = definition["calendar"]
    return {
        **definition,
        "calendar": calendar["name"] if calendar else None,
        "groups": [group["name"] for group in definition["groups"]],
        "dependencies": [
            {"task": parent["name"], "condition": parent["condition"]}
            for parent in definition["dependencies"]
        ],
    }


def add_versions(
    tasks: Iterable[Task],
    action: VersionAction,
    actor: User | str,
    before: Mapping[int, Definition],
    *,
    origin: int | None = None,
) -> None:
    """Keep what the tasks are now, in the transaction that made them so.

    before: task id → what it was; a task that is not in it is new. Where nothing differs, there is no version.
    """
    tasks = list(tasks)
    now = definitions(tasks)
    found = TaskVersion.objects.filter(task__in=tasks).order_by().values_list("task_id")
    last = dict(found.annotate(last=Max("number")))
    name = actor.get_username() if isinstance(actor, User) else actor
    rows: list[TaskVersion] = []
    for task in tasks:
        old, new = before.get(task.pk), now[task.pk]
        changed = [field for field in new if old is not None and old.get(field) != new[field]]
        if old is not None and not changed:
            continue
        number = last.get(task.pk, 0)
        if (
            old is not None and not number
        ):  # made before there were versions: its first change keeps what it was
            number = 1
            rows.append(
                TaskVersion(
                    task=task, number=1, action=VersionAction.CREATE, actor_name=task.created_by,
                    created_at=task.created_at, definition=old,
                )
            )  # fmt: skip
        rows.append(
            TaskVersion(
                task=task, number=number + 1, action=action, origin=origin, actor_name=name[:150], changed=changed,
                definition=new,
            )
        )  # fmt: skip
    TaskVersion.objects.bulk_create(rows)
    for row in rows:
        if row.number > KEPT:
            TaskVersion.objects.filter(task_id=row.task_id, number__lte=row.number - KEPT).delete()


def versions_of(task: Task) -> QuerySet[TaskVersion]:
    """The task's versions, newest first."""
    return TaskVersion.objects.filter(task=task).order_by("-number")


def get_version(task: Task, number: int) -> TaskVersion:
    """Raises NotFound."""
    found = versions_of(task).filter(number=number).first() if 0 < number < 2**31 else None
    if found is None:
        raise NotFound(_("The task has no version %(number)s.") % {"number": number})
    return found


def shown(user: User, definitions: Sequence[Definition]) -> list[Definition]:
    """The definitions as this user may read them: names, without values under secret names and foreign tasks' names."""
    ids = {parent["task_id"] for definition in definitions for parent in definition["dependencies"]}
    seen = (
        set(visible(user, Task.objects.all()).filter(pk__in=ids).values_list("pk", flat=True))
        if ids
        else set()
    )
    result = []
    for definition in definitions:
        parents = [
            {**parent, "name": parent["name"] if parent["task_id"] in seen else f"#{parent['task_id']}"}
            for parent in definition["dependencies"]
        ]
        result.append(without_secrets(named({**definition, "dependencies": parents})))
    return result


def without_secrets(value: Any, name: str = "") -> Any:
    """The same value, with what stands under a secret name masked."""
    if name and SECRET_NAME.search(name) and value not in (None, "", [], {}):
        return MASK
    if isinstance(value, dict):
        return {key: without_secrets(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value


@dataclass(frozen=True)
class Change:
    """One field, or one key of an object such as `executor_config.command`, that differs."""

    field: str
    before: Any
    after: Any
    lines: list[str]  # of a text with several lines: what `diff -u` says, without its head


def compare(user: User, old: Definition, new: Definition) -> list[Change]:
    """What differs between two definitions, as this user may read it."""
    before, after = shown(user, [old, new])
    changes: list[Change] = []
    for field in dict.fromkeys([*after, *before]):
        if old.get(field) == new.get(field):
            continue
        was, now = before.get(field), after.get(field)
        if field in PARTED and isinstance(was, dict) and isinstance(now, dict):
            changes += [
                _change(f"{field}.{key}", was.get(key), now.get(key))
                for key in dict.fromkeys([*now, *was])
                if old[field].get(key) != new[field].get(key)
            ]
        else:
            changes.append(_change(field, was, now))
    return changes


def _change(field: str, before: Any, after: Any) -> Change:
    lines: list[str] = []
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        found = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3)
        lines = list(found)[2:]
    return Change(field, before, after, lines)


def data_of(user: User, task: Task, version: TaskVersion) -> dict[str, Any]:
    """What tasks_app.actions must set to go back to a version; what is so already is left out.

    So are groups and tasks that the task is bound to and the user may not see: they stay. Raises InvalidInput when a
    group, a calendar or a task that it names is no more.
    """
    now, then = definitions([task])[task.pk], version.definition
    data = {
        name: datetime.fromisoformat(then[name]) if name in MOMENTS and then[name] else then[name]
        for name in EDITABLE
        if name in then and name not in NOT_RESTORED and then[name] != now[name]
    }
    errors: dict[str, list[str]] = {}
    bound = {group.pk for group in hidden_groups(user, task)}
    if _ids(then["groups"], bound) != _ids(now["groups"], bound):
        data["group_ids"] = _ids(then["groups"], bound)
        errors |= _gone(user, "group_ids", Group, then["groups"], "id")
    waited_for = {link.parent_id for link in hidden_parents(user, task)}
    if _links(then, waited_for) != _links(now, waited_for):
        data["dependencies"] = [
            {"task_id": parent, "condition": condition} for parent, condition in _links(then, waited_for)
        ]
        errors |= _gone(user, "dependencies", Task, then["dependencies"], "task_id")
    calendar = then["calendar"]
    if (calendar or {}).get("id") != task.calendar_id:
        data["calendar_id"] = calendar["id"] if calendar else None
        errors |= _gone(user, "calendar_id", Calendar, [calendar] if calendar else [], "id")
    if errors:
        raise InvalidInput(errors)
    return data


def _gone(
    user: User, field: str, model: type[Model], items: list[dict[str, Any]], key: str
) -> dict[str, list[str]]:
    """The error of a field some of whose objects are no more; empty: all are there.

    Who could see an object that is no more cannot be said: its name is for those who may see all of its kind.
    """
    there = set(model._default_manager.filter(pk__in=[i[key] for i in items]).values_list("pk", flat=True))
    all_seen = user.has_perm(codename(model, "view"))
    names = [item["name"] if all_seen else f"#{item[key]}" for item in items if item[key] not in there]
    return {field: [_("No longer there: %(names)s.") % {"names": ", ".join(names)}]} if names else {}


def _ids(groups: list[dict[str, Any]], without: set[int]) -> list[int]:
    return sorted(group["id"] for group in groups if group["id"] not in without)


def _links(definition: Definition, without: set[int]) -> list[tuple[int, str]]:
    return sorted(
        (parent["task_id"], parent["condition"])
        for parent in definition["dependencies"]
        if parent["task_id"] not in without
    )
