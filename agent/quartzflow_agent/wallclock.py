"""Wall clocks: from moments to what a clock on the wall shows, and back, across its jumps."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo

UTC = timezone.utc
SECOND = timedelta(seconds=1)
# Two switches of a zone's offset that cancel each other are weeks apart (Ramadan in Morocco is the shortest).
SCAN_STEP = timedelta(days=3)


def offset_at(moment: datetime, tz: tzinfo) -> timedelta:
    offset = moment.astimezone(tz).utcoffset()
    assert offset is not None  # noqa: S101  a tzinfo that has no offset is no time zone
    return offset


def wall(moment: datetime, tz: tzinfo) -> datetime:
    return moment.astimezone(tz).replace(tzinfo=None, fold=0)


def from_wall(local: datetime, tz: tzinfo) -> datetime:
    """The moment when a wall clock first shows `local`; when it skips it, the moment of that jump."""
    moment = local.replace(tzinfo=tz).astimezone(UTC)
    if wall(moment, tz) == local:
        return moment
    before = local.replace(tzinfo=tz, fold=1).astimezone(UTC)
    return first_jump(tz, before, moment, offset_at(before, tz)) or moment


def first_jump(tz: tzinfo, start: datetime, end: datetime, offset: timedelta) -> datetime | None:
    """The first second in (start, end] at which the offset is no longer `offset`, the one at `start`."""
    while start < end:
        stop = min(start + SCAN_STEP, end)
        if offset_at(stop, tz) != offset:
            while stop - start > SECOND:
                middle = (start + (stop - start) / 2).replace(microsecond=0)
                if offset_at(middle, tz) == offset:
                    start = middle
                else:
                    stop = middle
            return stop
        start = stop
    return None
