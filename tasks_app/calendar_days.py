"""Which parts of which days a calendar covers: what people look at before they trust one."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from quartzflow_agent.calendars import Calendar
from quartzflow_agent.wallclock import from_wall, wall

MOST_SPANS = 50  # of one day
LONGEST = 400  # days that are looked at


@dataclass(frozen=True)
class Day:
    """One day on the calendar's wall clock; `spans` are the covered parts, as texts such as "22:00–24:00"."""

    date: date
    spans: tuple[str, ...]
    whole: bool

    @property
    def covered(self) -> bool:
        return bool(self.spans)


def day_of(calendar: Calendar, day: date) -> Day:
    """How much of the day the calendar covers."""
    begin, end = (from_wall(_midnight(day + timedelta(days=n)), calendar.tz) for n in (0, 1))
    spans: list[tuple[datetime, datetime]] = []
    moment: datetime | None = begin
    while len(spans) < MOST_SPANS:
        start = calendar.next_covered(moment) if moment else None
        if start is None or start >= end:
            break
        stop = calendar.next_uncovered(start)
        moment = min(stop or end, end)
        spans.append((start, moment))
        if moment >= end:
            break
    texts = tuple(f"{_clock(a, calendar, end)}–{_clock(b, calendar, end)}" for a, b in spans)
    return Day(day, texts, spans == [(begin, end)])


def next_days(calendar: Calendar, covered: bool, count: int, first: date | None = None) -> list[Day]:
    """The next days, today included, of which the calendar covers some part (or nothing)."""
    day = first or wall(datetime.now(UTC), calendar.tz).date()
    found: list[Day] = []
    for n in range(LONGEST):
        shown = day_of(calendar, day + timedelta(days=n))
        if shown.covered == covered:
            found.append(shown)
        if len(found) == count:
            break
    return found


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)


def _clock(moment: datetime, calendar: Calendar, end: datetime) -> str:
    return "24:00" if moment >= end else f"{wall(moment, calendar.tz):%H:%M}"
