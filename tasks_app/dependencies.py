"""Which tasks a task waits for: validated, free of cycles, stored (PRD §3.3 P2)."""

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from quartzflow.errors import InvalidInput
from quartzflow.permissions import User, visible

from .choices import DependencyCondition
from .models import Task, TaskDependency

MOST = 50  # parents of one task


@dataclass(frozen=True)
class Parent:
    """One wish of a caller: after which task, and after which end of it."""

    task_id: int
    condition: str


def check_dependencies(user: User, task: Task, value: Any) -> tuple[list[Parent], list[str]]:
    """The parents that `value` names, and what is wrong: [{"task_id": 7, "condition": "success"}, …].

    The user must be allowed to see each of them. Those that the task has and the user may not see stay as they are,
    named or not.
    """
    if not isinstance(value, list) or len(value) > MOST:
        return [], [_("Must be a list of at most %(count)s tasks.") % {"count": MOST}]
    parents: list[Parent] = []
    for item in value:
        if (
            not isinstance(item, dict)
            or set(item) - {"task_id", "condition"}
            or type(item.get("task_id")) is not int
        ):
            return [], [_("Each must have a task_id, and may have a condition.")]
        condition = item.get("condition", DependencyCondition.SUCCESS)
        if condition not in DependencyCondition.values:
            return [], [
                _("The condition is one of %(names)s.") % {"names": ", ".join(DependencyCondition.values)}
            ]
        parents.append(Parent(item["task_id"], condition))
    ids = {parent.task_id for parent in parents}
    if len(ids) < len(parents):
        return [], [_("A task is named twice.")]
    if task.pk in ids:
        return [], [_("A task cannot wait for itself.")]
    known = set(visible(user, Task.objects.all()).filter(pk__in=ids).values_list("pk", flat=True))
    hidden = {link.parent_id: Parent(link.parent_id, link.condition) for link in hidden_parents(user, task)}
    if missing := sorted(ids - known - hidden.keys()):
        return [], [_("There is no task %(ids)s.") % {"ids": ", ".join(map(str, missing))}]
    return [*(parent for parent in parents if parent.task_id not in hidden), *hidden.values()], []


def hidden_parents(user: User, task: Task) -> list[TaskDependency]:
    """The links to tasks that this one runs after and that the user may not see, with the tasks at hand."""
    if task.pk is None:
        return []
    seen = visible(user, Task.objects.all()).values("pk")
    return list(task.dependencies.exclude(parent__in=seen).select_related("parent").order_by("parent_id"))


def bind_dependencies(user: User, task: Task, parents: list[Parent]) -> None:
    """Make these the task's parents; in the transaction that holds the configuration version.

    Raises InvalidInput naming the cycle that they would close, as far as the user may see it.
    """
    if parents and (cycle := find_cycle(task.pk, [parent.task_id for parent in parents])):
        names = dict(visible(user, Task.objects.filter(pk__in=cycle)).values_list("pk", "name"))
        path = " → ".join(names.get(pk, f"#{pk}") for pk in cycle)
        raise InvalidInput(
            {"dependencies": [_("The tasks would wait for each other: %(path)s.") % {"path": path}]}
        )
    TaskDependency.objects.filter(task=task).exclude(parent_id__in=[p.task_id for p in parents]).delete()
    TaskDependency.objects.bulk_create(
        [TaskDependency(task=task, parent_id=p.task_id, condition=p.condition) for p in parents],
        update_conflicts=True,
        unique_fields=["task", "parent"],
        update_fields=["condition"],
    )


def find_cycle(task_id: int, parents: list[int]) -> list[int]:
    """The tasks, in the order in which they run, of a cycle that these parents would close; empty: there is none."""
    above: dict[int, list[int]] = {}
    for child, parent in TaskDependency.objects.exclude(task_id=task_id).values_list("task_id", "parent_id"):
        above.setdefault(child, []).append(parent)
    path: list[int] = []
    seen: set[int] = set()
    # Depth first, without recursion: a chain may be longer than Python's stack.
    stack = [iter(parents)]
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            if path:
                path.pop()
        elif node == task_id:
            return [task_id, *reversed(path), task_id]
        elif node not in seen:
            seen.add(node)
            path.append(node)
            stack.append(iter(above.get(node, ())))
    return []
