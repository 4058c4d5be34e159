"""What may be asked for and scheduled. Each raises InvalidInput naming every wrong field."""

from datetime import date
from typing import Any
from zoneinfo import available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from groups_app.models import Client, Group
from groups_app.selectors import clients_for
from quartzflow.errors import InvalidInput
from quartzflow.permissions import User, visible
from tasks_app.models import Task

from ..alerts.checks import LANGUAGES, Checker
from ..selectors import executions_for
from .choices import Days, Dimension, Every, Format
from .periods import MOST_DAYS, Period, period_of

MOST_RECIPIENTS = 50
ASKED = ("days", "dimensions", "format", "language", "zone", "task_id", "group_id", "client_id")
REPORT_FIELDS = (*ASKED, "from", "to")
SCHEDULE_FIELDS = (
    *ASKED, "name", "is_enabled", "recipients", "every", "weekday", "month_day", "hour",
)  # fmt: skip


def check_report(user: User, data: dict[str, Any]) -> tuple[dict[str, Any], Period]:
    """What is stored of a request for a report, and its days. What is left out is as usual."""
    usual = {"days": Days.LAST_7, "format": Format.XLSX}
    if ("from" in data or "to" in data) and "days" not in data:
        usual["days"] = Days.CUSTOM
    body = Checker({**usual, **data}, REPORT_FIELDS)
    _check_asked(user, body, Days.values)
    first, last = (_day(body, name) for name in ("from", "to"))
    period = None
    if "days" in body.cleaned and "zone" in body.cleaned and not {"from", "to"} & set(body.errors):
        period = _period(body, first, last)
    cleaned = body.result()
    if period is None:
        raise InvalidInput({"days": [_("This field is required.")]})
    return cleaned, period


def _period(body: Checker, first: date | None, last: date | None) -> Period | None:
    days = body.cleaned["days"]
    if days != Days.CUSTOM:
        return period_of(days, body.cleaned["zone"])
    for name, value in (("from", first), ("to", last)):
        if value is None:
            body.wrong(name, _("This field is required."))
    if first is None or last is None:
        return None
    if last < first:
        body.wrong("to", _("Must not be before the first day."))
    elif (last - first).days >= MOST_DAYS:
        body.wrong("to", _("At most %(count)s days.") % {"count": MOST_DAYS})
    else:
        return Period(first, last, body.cleaned["zone"])
    return None


def check_schedule(user: User, data: dict[str, Any]) -> dict[str, Any]:
    """A whole schedule: what is left out is as usual, but for the name and the recipients."""
    body = Checker(data, SCHEDULE_FIELDS)
    body.data = {"days": Days.YESTERDAY, "format": Format.XLSX, "name": "", "recipients": [], **body.data}
    _check_asked(user, body, [value for value in Days.values if value != Days.CUSTOM])
    body.text("name", 64, required=True)
    body.flag("is_enabled")
    _check_recipients(body)
    body.choice("every", Every.values)
    body.number("weekday", 0, 6)
    body.number("month_day", 1, 28)
    body.number("hour", 0, 23)
    return body.result()


def _check_asked(user: User, body: Checker, days: list[str]) -> None:
    language = (get_language() or settings.LANGUAGE_CODE).lower()
    usual = {
        "language": language if language in LANGUAGES else settings.LANGUAGE_CODE,
        "zone": timezone.get_current_timezone_name(),
        "dimensions": list(Dimension.values),
    }
    body.data = {**usual, **body.data}
    body.choice("days", days)
    body.choice("format", Format.values)
    body.choice("language", LANGUAGES)
    zone = body.data["zone"]
    if not isinstance(zone, str) or zone not in available_timezones():
        body.wrong("zone", _("There is no such time zone."))
    else:
        body.cleaned["zone"] = zone
    _check_dimensions(body)
    _check_chosen(user, body)


def _check_dimensions(body: Checker) -> None:
    wanted = body.data["dimensions"]
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        body.wrong("dimensions", _("Must be a list of texts."))
    elif unknown := sorted(set(wanted) - set(Dimension.values)):
        body.wrong("dimensions", _("Unknown: %(names)s.") % {"names": ", ".join(unknown)})
    elif not wanted:
        body.wrong("dimensions", _("Choose at least one."))
    else:
        body.cleaned["dimensions"] = [name for name in Dimension.values if name in wanted]


def _check_chosen(user: User, body: Checker) -> None:
    """The task, group and host must be among what the user may see."""
    for name, rows in (
        ("task_id", visible(user, Task.objects.all())),
        ("group_id", visible(user, Group.objects.all())),
    ):
        value = body.data.get(name)
        if value is None:
            body.cleaned[name] = None
        elif type(value) is not int or not 0 < value < 2**63 or not rows.filter(pk=value).exists():
            body.wrong(name, _("There is no such object."))
        else:
            body.cleaned[name] = value
    client_id = body.data.get("client_id") or ""
    if not isinstance(client_id, str) or "\0" in client_id:
        body.wrong("client_id", _("Must be text."))
    elif client_id and not _known_host(user, client_id):
        body.wrong("client_id", _("There is no such object."))
    else:
        body.cleaned["client_id"] = client_id


def _known_host(user: User, client_id: str) -> bool:
    """One that is there, or that has run something which the user may see."""
    if clients_for(user).filter(client_id=client_id).exists():
        return True
    gone = not Client.objects.filter(client_id=client_id).exists()
    return gone and len(client_id) <= 64 and executions_for(user).filter(client_id=client_id).exists()


def _check_recipients(body: Checker) -> None:
    people = body.data["recipients"]
    if not isinstance(people, list) or not all(isinstance(person, str) for person in people):
        body.wrong("recipients", _("Must be a list of texts."))
        return
    people = list(dict.fromkeys(person.strip() for person in people if person.strip()))
    if not people:
        body.wrong("recipients", _("This field is required."))
    elif len(people) > MOST_RECIPIENTS:
        body.wrong("recipients", _("At most %(count)s.") % {"count": MOST_RECIPIENTS})
    for person in people[:MOST_RECIPIENTS]:
        try:
            validate_email(person)
        except ValidationError:
            body.wrong("recipients", _("Not an e-mail address: %(text)s.") % {"text": person})
    body.cleaned["recipients"] = people


def _day(body: Checker, name: str) -> date | None:
    value = body.data.get(name)
    if value in (None, ""):
        return None
    try:
        found = value if isinstance(value, date) else parse_date(str(value))
    except ValueError:
        found = None
    if found is None:
        body.wrong(name, _("Must be a day such as 2026-01-31."))
    return found
