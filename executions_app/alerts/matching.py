"""Which rules and silences an event is of."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Q

from groups_app.models import Client
from quartzflow.execution_status import TERMINAL, ExecutionStatus
from tasks_app.models import TaskGroup

from ..models import Execution
from .choices import Kind, Scope
from .models import AlertEvent, AlertRule, AlertSilence

BAD = (ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT)


@dataclass
class Subject:
    """What an event is about, with the groups that it belongs to."""

    task_id: int | None
    groups: set[int] = field(default_factory=set)


def subjects(events: Iterable[AlertEvent]) -> dict[int, Subject]:
    """Event id → subject. The groups are the host's where there is a host, else those that the task is bound to."""
    rows = list(events)
    hosts = dict(
        Client.objects.filter(client_id__in={event.client_id for event in rows if event.client_id})
        .order_by()
        .values_list("client_id", "group_id")
    )
    bound: dict[int, set[int]] = {}
    tasks = {event.task_id for event in rows if event.task_id and not event.client_id}
    for task_id, group_id in TaskGroup.objects.filter(task_id__in=tasks).values_list("task_id", "group_id"):
        bound.setdefault(task_id, set()).add(group_id)
    found = {}
    for event in rows:
        if event.client_id:
            group = hosts.get(event.client_id)
            groups = {group} if group is not None else set()
        else:
            groups = bound.get(event.task_id or 0, set())
        found[event.pk] = Subject(event.task_id, groups)
    return found


@dataclass
class Scoped:
    """A rule or a silence, with the ids that it names."""

    row: Any
    tasks: set[int]
    groups: set[int]

    def concerns(self, subject: Subject) -> bool:
        if self.row.scope == Scope.TASKS:
            return subject.task_id in self.tasks
        if self.row.scope == Scope.GROUPS:
            return bool(subject.groups & self.groups)
        return True


def scoped(rows: Iterable[AlertRule | AlertSilence]) -> list[Scoped]:
    return [
        Scoped(row, {task.pk for task in row.tasks.all()}, {group.pk for group in row.groups.all()})
        for row in rows
    ]


def is_silent(silence: AlertSilence, at: datetime) -> bool:
    """Whether the window is open at this moment."""
    if silence.begins and silence.ends:
        return silence.begins <= at < silence.ends
    if not silence.weekdays or silence.time_begins is None or silence.time_ends is None:
        return False
    local = at.astimezone(ZoneInfo(silence.zone))
    now, begin, end = local.time(), silence.time_begins, silence.time_ends
    if begin < end:
        return local.weekday() in silence.weekdays and begin <= now < end
    # Over midnight: the evening of its day, and the morning of the day after.
    yesterday = (local - timedelta(days=1)).weekday()
    return (local.weekday() in silence.weekdays and now >= begin) or (
        yesterday in silence.weekdays and now < end
    )


def meets(rule: AlertRule, event: AlertEvent) -> bool:
    """Whether the event is what the rule is about, apart from whom it concerns."""
    if rule.kind != event.kind:
        return False
    if rule.kind == Kind.LATE_START:
        return event.seconds >= rule.threshold
    if rule.kind == Kind.AGENT_OFFLINE:
        return event.seconds == rule.threshold
    if rule.kind == Kind.CONSECUTIVE:
        return _failed_in_a_row(event, rule.threshold)
    return True


def _failed_in_a_row(event: AlertEvent, count: int) -> bool:
    """Whether the task's last `count` executions, this one among them or before them, have all failed."""
    last = (
        Execution.objects.filter(Q(task_id=event.task_id) & Q(status__in=TERMINAL))
        .exclude(status=ExecutionStatus.CANCELLED)
        .order_by("-id")
        .values_list("status", flat=True)[:count]
    )
    statuses = list(last)
    return len(statuses) == count and all(status in BAD for status in statuses)
