"""Ranges of whole days in a time zone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.utils import timezone

from .choices import Days

MOST_DAYS = 400
ONE = timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """The days from `first` to `last`, both included, as the zone has them."""

    first: date
    last: date
    zone: str

    def __post_init__(self) -> None:
        if not 0 <= (self.last - self.first).days < MOST_DAYS:
            raise ValueError(f"not a period: {self.first} to {self.last}")

    def days(self) -> Iterator[date]:
        for number in range((self.last - self.first).days + 1):
            yield self.first + number * ONE

    def bounds(self, day: date) -> tuple[datetime, datetime]:
        """When the day begins, and when the next one does: 23 to 25 hours later."""
        zone = ZoneInfo(self.zone)
        return datetime.combine(day, time(), zone), datetime.combine(day + ONE, time(), zone)

    @property
    def begin(self) -> datetime:
        return self.bounds(self.first)[0]

    @property
    def end(self) -> datetime:
        """When the day after the last one begins."""
        return self.bounds(self.last)[1]

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} – {self.last}"


def period_of(
    days: str, zone: str, first: date | None = None, last: date | None = None, now: datetime | None = None
) -> Period:
    """The period that a choice of Days means at the moment `now`; `first` and `last` are for CUSTOM.

    Raises ValueError for an end before the begin, and for more than MOST_DAYS.
    """
    today = (now or timezone.now()).astimezone(ZoneInfo(zone)).date()
    monday, first_of_month = today - today.weekday() * ONE, today.replace(day=1)
    if days == Days.CUSTOM:
        if first is None or last is None:
            raise ValueError("a custom period needs both its days")
        return Period(first, last, zone)
    begin, end = {
        Days.TODAY: (today, today),
        Days.YESTERDAY: (today - ONE, today - ONE),
        Days.LAST_7: (today - 6 * ONE, today),
        Days.LAST_30: (today - 29 * ONE, today),
        Days.LAST_WEEK: (monday - 7 * ONE, monday - ONE),
        Days.LAST_MONTH: ((first_of_month - ONE).replace(day=1), first_of_month - ONE),
    }[Days(days)]
    return Period(begin, end, zone)
