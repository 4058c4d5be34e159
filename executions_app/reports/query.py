"""What a page of figures is asked for in its address: days, filters, and how the days are folded."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import structlog
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from groups_app.models import Group
from quartzflow.celery import app
from quartzflow.permissions import User, visible
from tasks_app.models import Task

from .choices import Days
from .figures import EVERYTHING, Chosen, Figures, count, too_many
from .periods import MOST_DAYS, Period, period_of
from .tables import Links

log = structlog.get_logger(__name__)

RANGES = {"1": Days.TODAY, "7": Days.LAST_7, "30": Days.LAST_30}
FOLDS = ("day", "week", "month")
COUNT = "executions_app.reports.count"
PATIENCE = 60  # seconds until a worker is asked once more; so long at least its figures are believed
KEPT_ROWS = 2000  # of a kind
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
    """The figures for a page; None: there are so many executions that a worker counts them, and the page asks again.

    Many pages that look at the same make the database count once: what took long to count is kept for a while.
    """
    key = _key(user, period, chosen)
    # Without Redis each page counts for itself.
    with suppress(RedisError, OSError):
        if kept := cache.get(key):
            return Figures.from_json(kept)
    begin = time.monotonic()
    if too_many(user, period, chosen):
        _ask_a_worker(key, user, period, chosen)
        return None
    figures = count(user, period, chosen)
    if seconds := int(WORTH * (time.monotonic() - begin)):
        with suppress(RedisError, OSError):
            cache.set(key, figures.to_json(), seconds)
    return figures


def _key(user: User, period: Period, chosen: Chosen) -> str:
    name = repr((user.pk, str(period), period.zone, asdict(chosen)))
    return f"figures:{sha256(name.encode()).hexdigest()}"


def _ask_a_worker(key: str, user: User, period: Period, chosen: Chosen) -> None:
    """Once, however many pages wait for it. A hint: the page asks again."""
    arguments = [user.pk, str(period.first), str(period.last), period.zone, *asdict(chosen).values()]
    try:
        if cache.add(f"{key}:asked", 1, PATIENCE):
            app.send_task(COUNT, arguments, ignore_result=True, retry=False, expires=PATIENCE)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("worker not asked to count", error=str(error))


def count_for_pages(
    user_id: int, first: str, last: str, zone: str, task_id: int | None, group_id: int | None, client_id: str
) -> None:
    """What a worker does: count, and leave the figures where pages look for them. Repeating it changes nothing."""
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        return
    period = Period(date.fromisoformat(first), date.fromisoformat(last), zone)
    chosen = Chosen(task_id, group_id, client_id)
    begin = time.monotonic()
    figures = count(user, period, chosen)
    seconds = int(WORTH * (time.monotonic() - begin))
    key = _key(user, period, chosen)
    cache.set(key, figures.to_json(KEPT_ROWS), max(seconds, PATIENCE))
    cache.delete(f"{key}:asked")
