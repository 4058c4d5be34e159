"""What a page of figures is asked for in its address: days, filters, and how the days are folded."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _

from groups_app.models import Group
from quartzflow.permissions import User, visible
from tasks_app.models import Task

from .choices import Days
from .figures import EVERYTHING, Chosen, Figures, count, too_many
from .periods import MOST_DAYS, Period, period_of
from .tables import Links

RANGES = {"1": Days.TODAY, "7": Days.LAST_7, "30": Days.LAST_30}
FOLDS = ("day", "week", "month")
WORTH = (
    20  # figures are believed for so many times the time that counting took: 1 s of counting, 20 s of peace
)


@dataclass(frozen=True)
class Asked:
    """What the address says, as far as it can be understood."""

    period: Period
    range: str  # a key of RANGES; "": from a day to a day
    by: str  # of FOLDS
    chosen: Chosen
    task: Task | None
    group: Group | None
    error: str  # what could not be understood, in words

    @property
    def days(self) -> Days:
        return RANGES.get(self.range, Days.CUSTOM)


def asked(user: User, query: Mapping[str, str], usual: str = "7") -> Asked:
    """`days` (1, 7, 30) or `from` and `to`; `task` (a name), `group` (an id), `host`; `by`."""
    zone = timezone.get_current_timezone_name()
    words = ""
    chosen_range = query.get("days", "")
    first, last = _day(query.get("from", "")), _day(query.get("to", ""))
    period = None
    if query.get("from") or query.get("to"):
        period, words = _custom(first, last, zone)
        chosen_range = ""
    if period is None:
        chosen_range = chosen_range if chosen_range in RANGES else usual
        period = period_of(RANGES[chosen_range], zone)
    task = group = None
    if name := query.get("task", "").strip():
        task = visible(user, Task.objects.filter(name=name)).first()
        words = words or ("" if task else _("There is no task called %(name)s.") % {"name": name})
    if (pk := query.get("group", "")).isdecimal() and len(pk) < 19:
        group = visible(user, Group.objects.filter(pk=int(pk))).first()
    by = query.get("by", "day")
    return Asked(
        period,
        chosen_range,
        by if by in FOLDS else "day",
        Chosen(task.pk if task else None, group.pk if group else None, query.get("host", "").strip()[:64]),
        task,
        group,
        words,
    )


def _day(text: str) -> date | None:
    try:
        return parse_date(text)
    except ValueError:
        return None


def _custom(first: date | None, last: date | None, zone: str) -> tuple[Period | None, str]:
    """One of the two may be left out: the other is the only day."""
    first, last = first or last, last or first
    if first is None or last is None:
        return None, _("Must be a day such as 2026-01-31.")
    if last < first:
        return None, _("The last day must not be before the first.")
    if (last - first).days >= MOST_DAYS:
        return None, _("At most %(count)s days.") % {"count": MOST_DAYS}
    return Period(first, last, zone), ""


def links(period: Period, chosen: Chosen = EVERYTHING) -> Links:
    """Addresses of the executions behind a mark: these days, these filters, and what the mark adds."""
    base: dict[str, Any] = {"time": f"{period.first}..{period.last}"}
    if chosen.task_id is not None:
        base["task__id__exact"] = chosen.task_id
    if chosen.group_id is not None:
        base["group_id__exact"] = chosen.group_id
    if chosen.client_id:
        base["client_id__exact"] = chosen.client_id
    page = reverse("admin:executions_app_execution_changelist")
    return lambda more: f"{page}?{urlencode({**base, **more})}"


def figures_for(user: User, period: Period, chosen: Chosen = EVERYTHING) -> Figures | None:
    """The figures for a page; None: so many executions that a report must be built of them.

    Many pages that look at the same make the database count once: what took long to count is kept for a while.
    """
    name = repr((user.pk, str(period), period.zone, asdict(chosen)))
    key = f"figures:{sha256(name.encode()).hexdigest()}"
    kept = cache.get(key)
    if kept is not None:
        return Figures.from_json(kept) if kept else None
    begin = time.monotonic()
    figures = None if too_many(user, period, chosen) else count(user, period, chosen)
    seconds = int(WORTH * (time.monotonic() - begin))
    if seconds:
        cache.set(key, figures.to_json() if figures else {}, seconds)
    return figures
