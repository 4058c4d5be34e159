"""What runs before and after a task, drawn for its page."""

from __future__ import annotations

from django.db.models import Q
from django.urls import reverse

from quartzflow.permissions import User, visible

from ..choices import DependencyCondition
from ..graphs import Box, Drawing, lay_out
from ..models import Task, TaskDependency

MOST = 60  # tasks in one drawing


def graph_around(user: User, task: Task) -> Drawing | None:
    """The task with all that leads to it and all that follows from it, as far as one may see; None: it stands alone."""
    found, edges = {task.pk}, set[tuple[int, int, str]]()
    for near, far in (("parent_id", "task_id"), ("task_id", "parent_id")):
        fresh = {task.pk}
        while fresh and len(found) < MOST:
            links = TaskDependency.objects.filter(**{f"{near}__in": fresh}).values_list(
                "parent_id", "task_id", "condition"
            )
            step = set(links[: MOST * 4])
            edges |= step
            ends = {(link[1] if far == "task_id" else link[0]) for link in step}
            fresh = ends - found
            found |= fresh
    if not edges:
        return None
    seen = visible(user, Task.objects.filter(Q(pk__in=found)))
    boxes = [
        Box(
            key=str(one.pk),
            label=one.name,
            note=str(one.schedule_text()),
            url="" if one.pk == task.pk else reverse("admin:tasks_app_task_detail", args=[one.pk]),
            css=f"graph-{'success' if one.is_enabled else 'pending'}{' graph-current' if one.pk == task.pk else ''}",
        )
        for one in seen.order_by("name")
    ]
    if len(boxes) < 2:
        return None
    css = {(str(parent), str(child)): f"graph-on-{condition}" for parent, child, condition in edges}
    return lay_out(boxes, sorted(css), css)


def links_of(user: User, task: Task) -> list[tuple[Task, str]]:
    """The tasks that the task runs after, with the condition in words, as far as one may see them."""
    links = task.dependencies.filter(parent__in=visible(user, Task.objects.all())).select_related("parent")
    return [
        (link.parent, str(DependencyCondition(link.condition).label))
        for link in links.order_by("parent__name")
    ]
