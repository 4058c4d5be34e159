"""Calendars that tasks share: all writes to tb_calendar, and the official days that are put into them.

A change of one is a change of every task that keeps to it: scheduler and agents get those anew.
"""

import json
from datetime import UTC, date, datetime
from typing import Any

import chinese_calendar
import structlog
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError
from django.utils import timezone
from django.utils.translation import gettext as _
from quartzflow_agent.calendars import Calendar as Parsed
from quartzflow_agent.cron import ScheduleError

from quartzflow.audit import record
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.kinds import wrong_kinds
from quartzflow.permissions import User, check, check_create

from .choices import ChangeAction
from .configs import next_version, record_task_changes
from .models import Calendar, Task, TaskGroup

log = structlog.get_logger(__name__)

EDITABLE = ("name", "description", "timezone", "rules")
CHINA = (
    "china"  # rules["working_days"]: the official working days, days off in lieu and make-up days included
)


def do_save_calendar(user: User, data: dict[str, Any], calendar: Calendar | None = None) -> Calendar:
    """Create or change a calendar. `data`: fields of EDITABLE. Raises InvalidInput, NotAllowed, NotFound.

    executions_app.control also cancels what waits for a time that is no longer allowed.
    """
    if calendar is None:
        check_create(user, Calendar)
        calendar = Calendar()
    else:
        check(user, calendar, "change")
    errors: dict[str, list[Any]] = {name: [_("Unknown field.")] for name in data if name not in EDITABLE}
    errors |= wrong_kinds(Calendar, data)
    if errors:
        raise InvalidInput(errors)
    for name, value in data.items():
        setattr(calendar, name, value.strip() if isinstance(value, str) else value)
    try:
        calendar.resolved = resolve(calendar.rules, calendar.timezone, timezone.now().date())
        Parsed.parse(calendar.resolved)
    except ScheduleError as error:
        errors["timezone" if error.field == "timezone" else "rules"] = [error.render(_)]
    try:
        calendar.full_clean(exclude=["resolved"])
    except ValidationError as error:
        for name, texts in error.message_dict.items():
            errors.setdefault(name, []).extend(texts)
    if errors:
        raise InvalidInput(errors)
    created = calendar.pk is None
    with transaction.atomic():
        calendar.save()
        touch_tasks(calendar)
        record(user, "calendar.create" if created else "calendar.update", calendar, data)
    return calendar


def do_delete_calendar(user: User, calendar: Calendar) -> None:
    """Delete a calendar that no task keeps to. Raises Conflict naming the tasks, NotAllowed, NotFound."""
    check(user, calendar, "delete")
    with transaction.atomic():
        record(user, "calendar.delete", calendar)
        try:
            calendar.delete()
        except ProtectedError as error:
            names = ", ".join(sorted(str(task) for task in error.protected_objects)[:5])
            raise Conflict(_("Tasks keep to this calendar: %(names)s.") % {"names": names}) from error


def touch_tasks(calendar: Calendar) -> list[Task]:
    """The tasks that keep to the calendar are changed; the caller is in a transaction. Returns them."""
    tasks = list(Task.objects.filter(calendar=calendar).select_related("calendar"))
    if tasks:
        version = next_version()
        Task.objects.filter(calendar=calendar).update(version=version, updated_at=timezone.now())
        groups: dict[int, set[int]] = {}
        for task_id, group_id in TaskGroup.objects.filter(task__in=tasks).values_list("task_id", "group_id"):
            groups.setdefault(task_id, set()).add(group_id)
        record_task_changes(
            version,
            [(t, None if t.is_global else groups.get(t.pk, set()), ChangeAction.TASK) for t in tasks],
        )
        for task in tasks:
            task.version = version
    return tasks


def refresh_calendars(today: date | None = None) -> list[Calendar]:
    """Daily: put the official days of the coming time in. Returns the calendars that changed by it."""
    changed = []
    for calendar in Calendar.objects.all():
        resolved = resolve(calendar.rules, calendar.timezone, today or datetime.now(UTC).date())
        if resolved != calendar.resolved:
            with transaction.atomic():
                Calendar.objects.filter(pk=calendar.pk).update(resolved=resolved)
                touch_tasks(calendar)
            log.info("calendar refreshed", calendar=calendar.name)
            changed.append(calendar)
    return changed


def resolve(rules: Any, zone_name: str, today: date) -> str:
    """The rules as agents understand them. Raises ScheduleError for what cannot be one.

    Official days are those of last year, this one and the next, as far as they have been announced; a year that has
    not been counts Monday to Friday.
    """
    if not isinstance(rules, dict):
        raise ScheduleError("calendar", "The calendar must be an object.")
    if set(rules) & {"timezone", "off_days", "work_days"} or rules.get("working_days") not in (
        None,
        "",
        CHINA,
        "week",
    ):
        raise ScheduleError("calendar", 'working_days must be "china" or "week".')
    resolved: dict[str, Any] = {key: value for key, value in rules.items() if value not in (None, "", [])}
    resolved["timezone"] = zone_name
    if kind := resolved.pop("working_days", None):
        resolved["working_days"] = True
        if kind == CHINA:
            years = range(today.year - 1, today.year + 2)
            resolved["off_days"] = _days(chinese_calendar.holidays, years, weekend=False)
            resolved["work_days"] = _days(chinese_calendar.workdays, years, weekend=True)
    return json.dumps(resolved, ensure_ascii=False, sort_keys=True)


def _days(days: dict[date, str], years: range, *, weekend: bool) -> list[str]:
    return sorted(day.isoformat() for day in days if day.year in years and (day.isoweekday() > 5) == weekend)


def announced_until() -> date:
    """The last day of the years whose official days are known here; a later release of the library knows more."""
    return date(max(day.year for day in chinese_calendar.holidays), 12, 31)
