"""Calendars: which moments are working time, holidays, maintenance windows; the same on the server and on every agent.

A calendar covers moments by any of its rules, read on the wall clock of its time zone:

    {"timezone": "Asia/Shanghai",
     "dates": ["2026-10-01", "2026-12-24/2026-12-31"],                        whole days
     "weekly": [{"days": [6, 7], "start": "22:00", "end": "06:00"}],          Monday is 1; may pass midnight
     "cron": [{"start": "0 2 * * *", "minutes": 90}],                         from each time on for so long
     "working_days": true, "off_days": ["2026-10-02"], "work_days": ["2026-10-10"]}

`working_days` covers Monday to Friday, less `off_days`, plus `work_days`: the server puts the official ones in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from quartzflow_agent.cron import CronError, CronExpression, ScheduleError, gettext_noop
from quartzflow_agent.wallclock import from_wall, wall
from quartzflow_agent.zones import zone

DAY = timedelta(days=1)
KEYS = ("timezone", "dates", "weekly", "cron", "working_days", "off_days", "work_days")
MAX_RULES = 1000  # of one kind
MAX_MINUTES = 366 * 24 * 60
SEARCH = timedelta(days=5 * 366)  # how far ahead a change is looked for
LONGEST_HOLIDAY = 60  # days that may pass without a working day
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")


class Window(NamedTuple):
    """On some weekdays (Monday 1) from one minute of the day to another; past midnight when end <= start."""

    days: frozenset[int]
    start: int
    end: int


class Period(NamedTuple):
    """From each time of a cron expression on, for so many minutes."""

    start: CronExpression
    minutes: int


@dataclass(frozen=True)
class Calendar:
    """A parsed calendar. Immutable; `parse` makes and checks it."""

    tz: tzinfo
    dates: tuple[tuple[date, date], ...]
    weekly: tuple[Window, ...]
    cron: tuple[Period, ...]
    working_days: bool
    off_days: frozenset[date]
    work_days: frozenset[date]

    @classmethod
    def parse(cls, text: str) -> Calendar:
        """From JSON text; cached. Raises ScheduleError for the field `calendar`, saying what is wrong."""
        return _parse(text)

    def covers(self, moment: datetime) -> bool:
        """Whether the moment (aware) is in the calendar."""
        return self._covered_until(moment) is not None

    def next_covered(self, moment: datetime) -> datetime | None:
        """The first moment from this one on that is covered; None when there is none in five years."""
        if self.covers(moment):
            return moment
        starts = [start for start in self._starts(moment) if start - moment <= SEARCH]
        return min(starts, default=None)

    def next_uncovered(self, moment: datetime) -> datetime | None:
        """The first moment from this one on that is not covered; None when there is none in five years."""
        begun = moment
        while moment - begun <= SEARCH:
            until = self._covered_until(moment)
            if until is None:
                return moment
            moment = until
        return None

    def _covered_until(self, moment: datetime) -> datetime | None:
        """When the longest rule that covers the moment stops to; None: none covers it."""
        local = wall(moment, self.tz)
        day = local.date()
        ends = [
            from_wall(_midnight(last + DAY), self.tz) for first, last in self.dates if first <= day <= last
        ]
        if self.working_days and self._works(day):
            ends.append(from_wall(_midnight(day + DAY), self.tz))
        for window in self.weekly:
            for begun in (day, day - DAY):
                start, end = _span(window, begun)
                if begun.isoweekday() in window.days and start <= local < end:
                    ends.append(from_wall(end, self.tz))
        for period in self.cron:
            length = timedelta(minutes=period.minutes)
            start_at = period.start.next_after(moment - length, self.tz)
            if start_at is not None and start_at <= moment:
                ends.append(start_at + length)
        # At a switch of the clock an end on the wall may lie behind us; the next second is ahead in any case.
        return max([*ends, moment + timedelta(seconds=1)]) if ends else None

    def _starts(self, moment: datetime) -> list[datetime]:
        """The next beginning of every rule, given that none covers the moment."""
        local = wall(moment, self.tz)
        day = local.date()
        found = [from_wall(_midnight(first), self.tz) for first, _ in self.dates if first > day]
        if self.working_days:
            ahead = (day + n * DAY for n in range(1, LONGEST_HOLIDAY))
            found += [
                from_wall(_midnight(d), self.tz)
                for d in [next((d for d in ahead if self._works(d)), None)]
                if d
            ]
        for window in self.weekly:
            begins = [
                _span(window, day + n * DAY)[0]
                for n in range(8)
                if (day + n * DAY).isoweekday() in window.days
            ]
            found += [from_wall(begin, self.tz) for begin in begins if begin > local][:1]
        for period in self.cron:
            start = period.start.next_after(moment, self.tz)
            found += [start] if start is not None else []
        return [start for start in found if start > moment]

    def _works(self, day: date) -> bool:
        return day in self.work_days or (day.isoweekday() <= 5 and day not in self.off_days)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)


def _span(window: Window, day: date) -> tuple[datetime, datetime]:
    end = window.end if window.end > window.start else window.end + 24 * 60
    return _midnight(day) + timedelta(minutes=window.start), _midnight(day) + timedelta(minutes=end)


# --- parsing ---------------------------------------------------------------------------------------------


def wrong(message: str, **params: Any) -> ScheduleError:
    return ScheduleError("calendar", message, **params)


@lru_cache(maxsize=256)
def _parse(text: str) -> Calendar:
    try:
        data = json.loads(text)
    except ValueError:
        raise wrong(gettext_noop("The calendar is not JSON.")) from None
    if not isinstance(data, dict):
        raise wrong(gettext_noop("The calendar must be an object."))
    for key in data:
        if key not in KEYS:
            raise wrong(gettext_noop('Unknown rule "%(value)s".'), value=key)
    if not isinstance(data.get("working_days", False), bool):
        raise wrong(gettext_noop("working_days must be true or false."))
    return Calendar(
        tz=zone(str(data.get("timezone", "UTC"))),
        dates=tuple(_range(item) for item in _list(data, "dates")),
        weekly=tuple(_window(item) for item in _list(data, "weekly")),
        cron=tuple(_period(item) for item in _list(data, "cron")),
        working_days=data.get("working_days", False),
        off_days=frozenset(_date(item) for item in _list(data, "off_days")),
        work_days=frozenset(_date(item) for item in _list(data, "work_days")),
    )


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    items = data.get(key, [])
    if not isinstance(items, list) or len(items) > MAX_RULES:
        raise wrong(gettext_noop("%(key)s must be a list of at most %(limit)d."), key=key, limit=MAX_RULES)
    return items


def _date(item: Any) -> date:
    try:
        found = date.fromisoformat(item)
    except (TypeError, ValueError):
        found = None
    if found is None or not 1971 <= found.year <= 9000:
        raise wrong(gettext_noop('"%(value)s" is not a date such as 2026-10-01.'), value=item)
    return found


def _range(item: Any) -> tuple[date, date]:
    first, slash, last = item.partition("/") if isinstance(item, str) else (item, "", "")
    begin, end = _date(first), _date(last if slash else first)
    if end < begin:
        raise wrong(gettext_noop('"%(value)s" runs backwards.'), value=item)
    return begin, end


def _window(item: Any) -> Window:
    if not isinstance(item, dict) or set(item) - {"days", "start", "end"}:
        raise wrong(gettext_noop("A weekly window has days, start and end."))
    days = item.get("days")
    if not isinstance(days, list) or not days or not all(day in range(1, 8) for day in days):
        raise wrong(gettext_noop("The days of a weekly window are numbers from 1 (Monday) to 7 (Sunday)."))
    return Window(frozenset(days), _minute(item.get("start", "00:00")), _minute(item.get("end", "24:00")))


def _minute(text: Any) -> int:
    match = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise wrong(gettext_noop('"%(value)s" is not a time of day such as 22:30.'), value=text)
    return int(match[1]) * 60 + int(match[2]) if match[1] else 24 * 60


def _period(item: Any) -> Period:
    if not isinstance(item, dict) or set(item) - {"start", "minutes"}:
        raise wrong(gettext_noop("A period has start, a cron expression, and minutes."))
    minutes = item.get("minutes")
    if type(minutes) is not int or not 1 <= minutes <= MAX_MINUTES:
        raise wrong(
            gettext_noop("The minutes of a period are a number from 1 to %(limit)d."), limit=MAX_MINUTES
        )
    try:
        start = CronExpression.parse(str(item.get("start", "")))
        start.check_fires()
    except CronError as error:
        raise ScheduleError("calendar", error.message, **error.params) from None
    return Period(start, minutes)
