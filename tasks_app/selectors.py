"""All reads of tasks that pages and API share."""

from datetime import datetime

from django.db.models import Exists, OuterRef, Prefetch, QuerySet
from django.db.models.fields.json import KeyTransform
from django.utils import timezone

from quartzflow.permissions import User, visible

from .choices import ScheduleType
from .models import Task, TaskDependency


def tasks_for(user: User) -> QuerySet[Task]:
    """The tasks a user may see, with owner and groups at hand."""
    return visible(user, Task.objects.select_related("owner", "calendar")).prefetch_related("groups")


def with_parents(user: User, tasks: QuerySet[Task]) -> QuerySet[Task]:
    """The tasks with the links to those that they run after at hand: link.seen says whether the user may see it."""
    seen = visible(user, Task.objects.all()).filter(pk=OuterRef("parent_id"))
    links = TaskDependency.objects.annotate(seen=Exists(seen)).order_by("parent_id")
    return tasks.prefetch_related(Prefetch("dependencies", links))


def with_label(tasks: QuerySet[Task], name: str, value: str) -> QuerySet[Task]:
    """The tasks that have this label with this value."""
    if not name or set(name) & {'"', "\\"}:  # SQLite has no path to such a name
        return tasks.none()
    found: QuerySet[Task] = tasks.annotate(label_value=KeyTransform(name, "labels")).filter(label_value=value)
    return found


def next_fire_time(task: Task, after: datetime | None = None) -> datetime | None:
    """When the task fires next by its schedule; None when it is disabled or never will."""
    after = after or timezone.now()
    if not task.is_enabled:
        return None
    if task.schedule_type == ScheduleType.FIXED_DELAY:
        return task.next_fire_at
    return task.schedule_spec().next_after(after)


def still_scheduled(task: Task, moment: datetime) -> bool:
    """Whether a firing that was seen coming is still to happen: it was due before the schedule began, or is on it."""
    return moment <= task.schedule_since or task.schedule_spec().fires_at(moment)
