"""Time zones by name."""

from __future__ import annotations

from datetime import timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from quartzflow_agent.cron import ScheduleError, gettext_noop


@lru_cache(maxsize=1024)
def zone(name: str) -> tzinfo:
    """The time zone of an IANA name. Raises ScheduleError when there is none."""
    if name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ScheduleError("timezone", gettext_noop('Unknown time zone: "%(value)s".'), value=name) from None
