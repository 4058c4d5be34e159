"""Cron expressions: parsed strictly, computed exactly, the same on the server and on every agent (PRD 13.2).

Forms
    5 fields  minute hour day month weekday          (standard Linux cron)
    6 fields  second minute hour day month weekday   (the form of PRD 13.2)
    macros    @yearly @annually @monthly @weekly @daily @midnight @hourly
    A field holds ``*``, ``?`` (the same as ``*``), numbers, names (JAN, MON), ranges, steps and lists;
    the day also ``L`` (last day) and ``LW`` (last working day), the weekday ``5L`` (last Friday) and ``1#2``
    (second Monday). 0 and 7 are Sunday.

Rules, as in Debian's cron
    * Day and weekday are both required to match when one of them starts with ``*``, otherwise either does.
    * A job at fixed times (neither its minute nor its hour starts with ``*``) follows the wall clock: a time
      that a switch to summer time skips fires once, at the moment of the switch; a time that the switch back
      repeats fires the first time only.
    * Any other job follows real time: skipped times do not fire, repeated times fire twice.

Every field is parsed by cronsim. The search is our own, over bit masks: it is several times as
fast as cronsim's, takes a few hundred bytes per expression instead of kilobytes, and is exact around switches
at midnight, too (tests compare it with cronsim and with a brute-force clock).
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any, Callable, NamedTuple

from cronsim.cronsim import CronSim, CronSimError, Field

from quartzflow_agent.wallclock import SECOND, UTC, first_jump, from_wall, offset_at, wall

MAX_LENGTH = 255  # characters of an expression
SEARCH_YEARS = 50  # the rarest date, a weekday on 29 February across the year 2100, comes after 40

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def gettext_noop(message: str) -> str:
    """Mark a text for the catalogue; the server translates it when it shows the error."""
    return message


class ScheduleError(ValueError):
    """A schedule that cannot be used.

    field:   what is at fault: the name of an attribute of Schedule
    message: a msgid with %(name)s placeholders
    params:  the values for the placeholders
    """

    def __init__(self, field: str, message: str, **params: Any) -> None:
        self.field = field
        self.message = message
        self.params = params
        super().__init__(self.render())

    def render(self, gettext: Callable[[str], str] = gettext_noop) -> str:
        """The full text, in the language of `gettext`."""
        return gettext(self.message) % {**self.params, "field": gettext(self.field)}


class CronError(ScheduleError):
    """A cron expression that cannot be used.

    field is an English word that is itself a msgid: second, minute, hour, day, month, weekday, or expression
    when it is the whole of it.
    """


class _Kind(NamedTuple):
    """One of the six fields."""

    name: str
    parser: Field
    low: int
    high: int

    @property
    def longest_step(self) -> int:
        """A step of the whole field (*/60, */24) is odd but clear; a longer one is a mistake."""
        return self.high - self.low + 1


# cronsim before 2.7 (the last for Python 3.9) has no seconds; they are written as minutes are.
_KINDS = (
    _Kind(gettext_noop("second"), Field.MINUTE, 0, 59),
    _Kind(gettext_noop("minute"), Field.MINUTE, 0, 59),
    _Kind(gettext_noop("hour"), Field.HOUR, 0, 23),
    _Kind(gettext_noop("day"), Field.DAY, 1, 31),
    _Kind(gettext_noop("month"), Field.MONTH, 1, 12),
    _Kind(gettext_noop("weekday"), Field.DOW, 0, 7),
)
_EXPRESSION = gettext_noop("expression")


class _DayRule(NamedTuple):
    """Which days of a month match."""

    days: int  # bit n: the n-th
    last_day: bool
    last_workday: bool
    weekdays: int  # bit 0: Sunday .. bit 6: Saturday
    nth: tuple[tuple[int, int], ...]  # (weekday, n-th in the month, or CronSim.LAST)
    both: bool  # day and weekday must match, or either


class CronExpression:
    """A parsed expression. Immutable; equal when the text is the same after macros, case and spaces."""

    __slots__ = ("_fixed", "_hours", "_minutes", "_months", "_rule", "_seconds", "text")

    def __init__(self, text: str) -> None:
        """Use `parse`, which caches."""
        fields = _split(text)
        seconds, minutes, hours, days, months, weekdays = (
            _parse_field(index, field) for index, field in enumerate(fields)
        )
        self.text = " ".join(fields if len(text.split()) == 6 else fields[1:])
        self._seconds = _mask(seconds)
        self._minutes = _mask(minutes)
        self._hours = _mask(hours)
        self._months = _mask(months)
        self._rule = _day_rule(days, weekdays, fields[3].startswith("*") or fields[5].startswith("*"))
        self._fixed = not fields[1].startswith("*") and not fields[2].startswith("*")

    @classmethod
    def parse(cls, text: str) -> CronExpression:
        """Parse `text`. Raises CronError, which names the field."""
        return _parse(text)

    def __repr__(self) -> str:
        return f"CronExpression({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CronExpression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def check_fires(self) -> None:
        """Raise CronError when no date ever matches, such as 30 February."""
        if self._after(datetime(2000, 1, 1)) is None:
            raise CronError(
                "day", gettext_noop('"%(value)s" never fires: there is no such date.'), value=self.text
            )

    def next_after(self, moment: datetime, tz: tzinfo) -> datetime | None:
        """The first firing strictly after `moment` (aware), in UTC; None when there is none in 50 years.

        The fields are read on the wall clock of `tz`.
        """
        moment = moment.astimezone(UTC).replace(microsecond=0)
        if tz is UTC or getattr(tz, "key", None) == "UTC":
            found = self._after(moment.replace(tzinfo=None))
            return found and found.replace(tzinfo=UTC)
        return self._next_on_wall(moment, tz) if self._fixed else self._next_in_real_time(moment, tz)

    def _next_on_wall(self, moment: datetime, tz: tzinfo) -> datetime | None:
        local = wall(moment, tz)
        while True:
            found = self._after(local)
            if found is None:
                return None
            firing = from_wall(found, tz)
            # In a repeated hour the wall shows times whose one firing is already behind us.
            if firing > moment:
                return firing
            local = found

    def _next_in_real_time(self, moment: datetime, tz: tzinfo) -> datetime | None:
        """Search on the wall clock as if it never jumped; where it does jump first, go on from there."""
        start, offset = moment, offset_at(moment, tz)
        local = moment.replace(tzinfo=None) + offset
        while True:
            found = self._after(local)
            if found is None:
                return None
            firing = (found - offset).replace(tzinfo=UTC)
            jump = first_jump(tz, start, firing, offset)
            if jump is None:
                return firing
            start, offset = jump, offset_at(jump, tz)
            local = jump.replace(tzinfo=None) + offset - SECOND  # the moment of the jump itself may match

    def _after(self, local: datetime) -> datetime | None:
        """The first match strictly after `local` (naive, whole seconds) on a clock that never jumps."""
        local += SECOND
        year, month, day = local.year, local.month, local.day
        rule, months = self._rule, self._months
        if months >> month & 1 and _matching_days(rule, year, month) >> day & 1:
            time = self._time_from(local.hour, local.minute, local.second)
            if time is not None:
                return datetime(year, month, day, *time)
        day += 1
        last_year = min(year + SEARCH_YEARS, 9998)
        while year <= last_year:
            if months >> month & 1:
                rest = _matching_days(rule, year, month) >> day
                if rest:
                    first = (_lowest(self._hours), _lowest(self._minutes), _lowest(self._seconds))
                    return datetime(year, month, day + _lowest(rest), *first)
            day = 1
            month += 1
            if month > 12:
                year, month = year + 1, 1
        return None

    def _time_from(self, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
        """The first matching time of day at or after this one."""
        if self._hours >> hour & 1:
            if self._minutes >> minute & 1:
                rest = self._seconds >> second
                if rest:
                    return hour, minute, second + _lowest(rest)
            rest = self._minutes >> (minute + 1)
            if rest:
                return hour, minute + 1 + _lowest(rest), _lowest(self._seconds)
        rest = self._hours >> (hour + 1)
        if rest:
            return hour + 1 + _lowest(rest), _lowest(self._minutes), _lowest(self._seconds)
        return None


# --- parsing ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=16384)
def _parse(text: str) -> CronExpression:
    return CronExpression(text)


def _split(text: str) -> list[str]:
    """The six fields of `text`, seconds first, in upper case."""
    if len(text) > MAX_LENGTH:
        raise CronError(
            _EXPRESSION, gettext_noop("The expression is longer than %(limit)d characters."), limit=MAX_LENGTH
        )
    fields = text.split()
    if fields and fields[0].startswith("@"):
        fields = _macro(text.strip()).split()
    if len(fields) not in (5, 6):
        message = gettext_noop(
            "A cron expression has 5 fields (minute first) or 6 (second first); this one has %(count)d."
        )
        raise CronError(_EXPRESSION, message, count=len(fields))
    fields = ["*" if field == "?" else field.upper() for field in fields]
    return fields if len(fields) == 6 else ["0", *fields]


def _macro(text: str) -> str:
    if text.lower() == "@reboot":
        raise CronError(
            _EXPRESSION, gettext_noop("@reboot is not supported: a task is not bound to one host's start.")
        )
    try:
        return MACROS[text.lower()]
    except KeyError:
        message = gettext_noop('Unknown macro "%(value)s". Known are: %(known)s.')
        raise CronError(_EXPRESSION, message, value=text, known=", ".join(MACROS)) from None


@lru_cache(maxsize=4096)
def _parse_field(index: int, text: str) -> frozenset[Any]:
    """The items of one field: numbers, or tuples for L and #."""
    kind = _KINDS[index]
    items: set[Any] = set()
    for term in text.split(","):
        step = _step(term)
        if step is not None and step > kind.longest_step:
            raise _explain(kind, term)
        try:
            if step and "-" in term:
                # Given 5-5/2, cronsim would go on to the end of the field, as for 5/2.
                items.update(sorted(kind.parser.parse(term.partition("/")[0]))[::step])
            else:
                items |= kind.parser.parse(term)
        except CronSimError:
            raise _explain(kind, term) from None
    return frozenset(items)


def _step(term: str) -> int | None:
    """The step of "*/15", when it is a number."""
    _, slash, step = term.partition("/")
    return int(step) if slash and re.fullmatch("[0-9]+", step) else None


def _explain(kind: _Kind, term: str) -> CronError:
    """What is wrong with a term that cronsim refused (or whose step is larger than the field)."""
    values = {"value": term, "low": kind.low, "high": kind.high, "longest": kind.longest_step}
    body, slash, _ = term.partition("/")
    if not term:
        return CronError(kind.name, gettext_noop("The %(field)s field has an empty item."))
    if slash and (_step(term) is None or not 1 <= (_step(term) or 0) <= kind.longest_step):
        message = gettext_noop(
            'The step in "%(value)s" (%(field)s field) must be a number from 1 to %(longest)d.'
        )
        return CronError(kind.name, message, **values)
    start, dash, end = body.partition("-")
    numbers = [_number(kind, part) for part in ((start, end) if dash else (start,))]
    if dash and None not in numbers and numbers[0] > numbers[1]:  # type: ignore[operator]
        return CronError(
            kind.name, gettext_noop('The range "%(value)s" in the %(field)s field runs backwards.'), **values
        )
    if all(re.fullmatch("[0-9]+", part) for part in ((start, end) if dash else (start,))):
        message = gettext_noop('"%(value)s" in the %(field)s field is outside %(low)d to %(high)d.')
        return CronError(kind.name, message, **values)
    return CronError(kind.name, gettext_noop('"%(value)s" is not valid in the %(field)s field.'), **values)


def _number(kind: _Kind, text: str) -> int | None:
    try:
        return kind.parser.int(text)
    except CronSimError:
        return None


def _mask(values: frozenset[int]) -> int:
    mask = 0
    for value in values:
        mask |= 1 << value
    return mask


@lru_cache(maxsize=4096)
def _day_rule(days: frozenset[Any], weekdays: frozenset[Any], both: bool) -> _DayRule:
    return _DayRule(
        days=_mask(frozenset(day for day in days if day > 0)),
        last_day=CronSim.LAST in days,
        last_workday=CronSim.LAST_WEEKDAY in days,
        weekdays=_mask(frozenset(day % 7 for day in weekdays if isinstance(day, int))),
        nth=tuple(sorted((item[0] % 7, item[1]) for item in weekdays if isinstance(item, tuple))),
        both=both,
    )


# --- calendar ----------------------------------------------------------------------------------


def _lowest(mask: int) -> int:
    """The number of the lowest bit set."""
    return (mask & -mask).bit_length() - 1


@lru_cache(maxsize=8192)
def _matching_days(rule: _DayRule, year: int, month: int) -> int:
    """The days of this month that match: bit n for the n-th."""
    first, length = monthrange(year, month)
    whole = (1 << (length + 1)) - 2
    first = (first + 1) % 7  # of the 1st, Sunday 0

    by_day = rule.days & whole
    if rule.last_day:
        by_day |= 1 << length
    if rule.last_workday:
        last = (first + length - 1) % 7
        by_day |= 1 << (length - {0: 2, 6: 1}.get(last, 0))

    by_weekday = 0
    for day in range(1, length + 1):
        weekday = (first + day - 1) % 7
        nth_matches = (weekday, (day + 6) // 7) in rule.nth
        last_matches = day + 7 > length and (weekday, CronSim.LAST) in rule.nth
        if rule.weekdays >> weekday & 1 or nth_matches or last_matches:
            by_weekday |= 1 << day
    return by_day & by_weekday if rule.both else by_day | by_weekday
