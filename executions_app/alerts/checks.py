"""What may be stored of channels, rules and silences. Each raises InvalidInput naming every wrong field."""

from datetime import datetime, time
from typing import Any, TypeVar
from zoneinfo import available_timezones

from django.conf import settings
from django.db.models import Model, QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime, parse_time
from django.utils.translation import gettext as _

from groups_app.models import Group
from quartzflow.errors import InvalidInput
from quartzflow.permissions import User, visible
from tasks_app.models import Task

from . import templates
from .choices import THRESHOLDS, ChannelKind, Kind, Scope, Severity
from .models import AlertChannel

M = TypeVar("M", bound=Model)
MAX_NAMED = 200
LANGUAGES = ("zh-hans", "en")


class Checker:
    """Takes fields out of a body, one by one, and gathers what is wrong with them."""

    def __init__(self, data: dict[str, Any], fields: tuple[str, ...]) -> None:
        self.data = data
        self.cleaned: dict[str, Any] = {}
        self.errors: dict[str, list[Any]] = {key: [_("Unknown field.")] for key in data if key not in fields}

    def wrong(self, name: str, words: str) -> None:
        self.errors.setdefault(name, []).append(words)

    def text(self, name: str, most: int, *, required: bool = False) -> None:
        if name in self.data:
            value = self.data[name]
            if not isinstance(value, str) or "\0" in value:
                self.wrong(name, _("Must be text."))
            elif required and not value.strip():
                self.wrong(name, _("This field is required."))
            elif len(value) > most:
                self.wrong(name, _("At most %(count)s characters.") % {"count": most})
            else:
                self.cleaned[name] = value.strip()

    def choice(self, name: str, choices: Any) -> None:
        if name in self.data:
            if self.data[name] not in choices:
                self.wrong(name, _("One of: %(values)s.") % {"values": ", ".join(choices)})
            else:
                self.cleaned[name] = str(self.data[name])

    def number(self, name: str, least: int, most: int) -> None:
        if name in self.data:
            value = self.data[name]
            if type(value) is not int or not least <= value <= most:
                self.wrong(name, _("A whole number from %(low)s to %(high)s.") % {"low": least, "high": most})
            else:
                self.cleaned[name] = value

    def flag(self, name: str) -> None:
        if name in self.data:
            if not isinstance(self.data[name], bool):
                self.wrong(name, _("Must be true or false."))
            else:
                self.cleaned[name] = self.data[name]

    def rows(self, name: str, queryset: QuerySet[M]) -> None:
        """A list of ids, each of which must be among what one may see."""
        if name not in self.data:
            return
        ids = self.data[name]
        if not isinstance(ids, list) or not all(type(pk) is int and 0 < pk < 2**63 for pk in ids):
            self.wrong(name, _("Must be a list of ids."))
            return
        if len(ids) > MAX_NAMED:
            self.wrong(name, _("At most %(count)s.") % {"count": MAX_NAMED})
            return
        found = list(queryset.filter(pk__in=ids))
        if missing := sorted(set(ids) - {row.pk for row in found}):
            self.wrong(name, _("Not there: %(names)s.") % {"names": ", ".join(map(str, missing))})
        else:
            self.cleaned[name] = found

    def result(self) -> dict[str, Any]:
        if self.errors:
            raise InvalidInput(self.errors)
        return self.cleaned


CHANNEL_FIELDS = ("name", "kind", "is_enabled", "language", "rate_per_hour", "config")
RULE_FIELDS = (
    "name", "is_enabled", "kind", "threshold", "scope", "task_ids", "group_ids", "severity", "channel_ids",
    "repeat_minutes", "escalate_events", "escalate_minutes", "escalation_channel_ids", "title", "body",
)  # fmt: skip
SILENCE_FIELDS = (
    "name", "reason", "scope", "task_ids", "group_ids", "begins", "ends", "weekdays", "time_begins", "time_ends",
    "zone",
)  # fmt: skip


def check_channel(data: dict[str, Any]) -> dict[str, Any]:
    """All but `config`, which executions_app.alerts.channels knows."""
    body = Checker(data, CHANNEL_FIELDS)
    body.text("name", 64, required=True)
    body.choice("kind", ChannelKind.values)
    body.flag("is_enabled")
    body.choice("language", LANGUAGES)
    body.number("rate_per_hour", 1, 10_000)
    if data.get("kind") == ChannelKind.EMAIL and not settings.QF_MAIL:
        body.wrong("kind", _("The server sends no mail. Its QF_MAIL_URL names a mail server."))
    return body.result()


def check_scope(user: User, body: Checker) -> None:
    """Only what one may see can be named; everything takes the right to see every task."""
    body.choice("scope", Scope.values)
    body.rows("task_ids", visible(user, Task.objects.all()))
    body.rows("group_ids", visible(user, Group.objects.all()))
    scope = body.cleaned.get("scope")
    if scope == Scope.ALL and not user.has_perm("tasks_app.view_task"):
        body.wrong("scope", _("You may not see every task: name those that are concerned."))
    for wanted, name in ((Scope.TASKS, "task_ids"), (Scope.GROUPS, "group_ids")):
        if scope == wanted and name not in body.errors and not body.cleaned.get(name):
            body.wrong(name, _("Name at least one."))


def check_rule(user: User, data: dict[str, Any]) -> dict[str, Any]:
    """`data` is the whole rule, with what an update leaves out filled in."""
    body = Checker(data, RULE_FIELDS)
    body.text("name", 64, required=True)
    body.flag("is_enabled")
    body.choice("kind", Kind.values)
    body.choice("severity", Severity.values)
    check_scope(user, body)
    body.rows("channel_ids", visible(user, AlertChannel.objects.all()))
    body.rows("escalation_channel_ids", visible(user, AlertChannel.objects.all()))
    body.number("repeat_minutes", 1, 10_080)
    body.number("escalate_events", 0, 100_000)
    body.number("escalate_minutes", 0, 10_080)
    for name, most in (("title", templates.MAX_TITLE), ("body", templates.MAX_BODY)):
        body.text(name, most)
        if problem := templates.check(body.cleaned.get(name, "")):
            body.wrong(name, problem)
    kind = body.cleaned.get("kind")
    if kind == Kind.AGENT_OFFLINE and body.cleaned.get("scope") == Scope.TASKS:
        body.wrong("scope", _("A host belongs to no task: choose everything or host groups."))
    if kind in THRESHOLDS:
        least, most, default = THRESHOLDS[Kind(kind)]
        body.data = {**body.data, "threshold": body.data.get("threshold") or default}
        body.number("threshold", least, most)
    else:
        body.cleaned["threshold"] = 0
    escalates = body.cleaned.get("escalate_events") or body.cleaned.get("escalate_minutes")
    if escalates and not body.cleaned.get("escalation_channel_ids"):
        body.wrong("escalation_channel_ids", _("Name the channels that are told then."))
    return body.result()


def check_silence(user: User, data: dict[str, Any]) -> dict[str, Any]:
    """Once (`begins`, `ends`) or every week (`weekdays`, `time_begins`, `time_ends`, `zone`)."""
    body = Checker(data, SILENCE_FIELDS)
    body.text("name", 64, required=True)
    body.text("reason", 256)
    check_scope(user, body)
    for name in ("begins", "ends"):
        body.cleaned[name] = _moment(body, name)
    for name in ("time_begins", "time_ends"):
        body.cleaned[name] = _time(body, name)
    days = data.get("weekdays") or []
    if not isinstance(days, list) or not all(type(day) is int and 0 <= day <= 6 for day in days):
        body.wrong("weekdays", _("Numbers from 0 (Monday) to 6 (Sunday)."))
        days = []
    body.cleaned["weekdays"] = sorted(set(days))
    body.cleaned["zone"] = data.get("zone") or "UTC"
    if not isinstance(body.cleaned["zone"], str) or body.cleaned["zone"] not in available_timezones():
        body.wrong("zone", _("There is no such time zone."))
    _check_window(body)
    return body.result()


def _check_window(body: Checker) -> None:
    found = body.cleaned
    if found["weekdays"]:
        for name in ("begins", "ends"):
            if found[name] is not None:
                body.wrong(name, _("Either once or every week, not both."))
        for name in ("time_begins", "time_ends"):
            if found[name] is None and name not in body.errors:
                body.wrong(name, _("This field is required."))
        if found["time_begins"] is not None and found["time_begins"] == found["time_ends"]:
            body.wrong("time_ends", _("Must differ from the begin."))
        return
    for name in ("begins", "ends"):
        if found[name] is None and name not in body.errors:
            body.wrong(name, _("This field is required."))
    if found["begins"] and found["ends"] and found["ends"] <= found["begins"]:
        body.wrong("ends", _("Must be after the begin."))


def _moment(body: Checker, name: str) -> datetime | None:
    value = body.data.get(name)
    if value in (None, ""):
        return None
    try:
        found = value if isinstance(value, datetime) else parse_datetime(str(value))
    except ValueError:
        found = None
    if found is None:
        body.wrong(name, _("Must be a time such as 2026-01-31T08:00:00Z."))
        return None
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def _time(body: Checker, name: str) -> time | None:
    value = body.data.get(name)
    if value in (None, ""):
        return None
    try:
        found = value if isinstance(value, time) else parse_time(str(value))
    except ValueError:
        found = None
    if found is None:
        body.wrong(name, _("Must be a time of day such as 08:30."))
    return found
