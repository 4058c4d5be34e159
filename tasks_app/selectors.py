"""All reads of tasks that pages and API share."""

from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from quartzflow.permissions import User, visible

from .choices import ScheduleType
from .models import Task


def tasks_for(user: User) -> QuerySet[Task]:
    """The tasks a user may see, with owner and groups at hand."""
    return visible(user, Task.objects.select_related("owner", "calendar")).prefetch_related("groups")


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
