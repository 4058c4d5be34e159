"""When a task fires: one description of it, and one computation, for the server and for every agent.

Firing times are nominal: whole seconds, aware, UTC. They name executions, so both sides must agree on them.
"""

from __future__ import annotations

import os
import time
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from quartzflow_agent.calendars import Calendar
from quartzflow_agent.cron import CronExpression, ScheduleError, gettext_noop
from quartzflow_agent.wallclock import SECOND, UTC
from quartzflow_agent.zones import zone as zone  # re-exported

if TYPE_CHECKING:
    from quartzflow_agent.protocol.task_pb2 import TaskConfig

CRON = "cron"
FIXED_RATE = "fixed_rate"
FIXED_DELAY = "fixed_delay"
ONCE = "once"
NONE = "none"
SCHEDULE_TYPES = (CRON, FIXED_RATE, FIXED_DELAY, ONCE, NONE)

FIRE_ONCE = "fire_once"
SKIP = "skip"
FIRE_ALL = "fire_all"
MISFIRE_POLICIES = (FIRE_ONCE, SKIP, FIRE_ALL)

ONLY_ON = "only_on"
NOT_ON = "not_on"
CALENDAR_MODES = (ONLY_ON, NOT_ON)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_JUST_BEFORE = timedelta(microseconds=1)
SEARCH_LIMIT = 5000  # changes of a calendar that are looked at for an allowed time


@dataclass(frozen=True)
class Schedule:
    """The schedule of one task. Datetimes are aware."""

    schedule_type: str = CRON
    cron_expr: str = ""  # cron: see quartzflow_agent.cron
    timezone: str = "UTC"  # cron: IANA name of the wall clock that the expression means
    interval_seconds: int = 0  # fixed_rate, fixed_delay: at least 1
    run_at: datetime | None = None  # once: the moment, cut to the whole second
    anchor_at: datetime | None = None  # fixed_rate fires at anchor + n * interval, n >= 0; None: from 1970 on
    start_at: datetime | None = None  # no firing before this
    end_at: datetime | None = None  # no firing after this; at this very moment is still in time
    misfire_policy: str = FIRE_ONCE  # what becomes of the times that were missed
    misfire_grace: int = 3600  # seconds; a time missed by more than this is given up whatever the policy
    calendar: str = ""  # JSON, see quartzflow_agent.calendars; "": none
    calendar_mode: str = (
        NOT_ON  # whether the calendar's moments are the only ones allowed, or those forbidden
    )

    def validate(self) -> None:
        """Raise ScheduleError (CronError for the expression) when this schedule cannot work."""
        if self.schedule_type not in SCHEDULE_TYPES:
            raise ScheduleError(
                "schedule_type",
                gettext_noop('Unknown kind of schedule: "%(value)s".'),
                value=self.schedule_type,
            )
        if self.misfire_policy not in MISFIRE_POLICIES:
            raise ScheduleError(
                "misfire_policy",
                gettext_noop('Unknown misfire policy: "%(value)s".'),
                value=self.misfire_policy,
            )
        zone(self.timezone)
        if self.schedule_type == CRON:
            self._cron.check_fires()
        elif self.schedule_type in (FIXED_RATE, FIXED_DELAY) and self.interval_seconds < 1:
            raise ScheduleError("interval_seconds", gettext_noop("The interval must be at least 1 second."))
        elif self.schedule_type == ONCE and self.run_at is None:
            raise ScheduleError("run_at", gettext_noop("Say when the task is to run."))
        if self.misfire_grace < 0:
            raise ScheduleError("misfire_grace", gettext_noop("The misfire grace time cannot be negative."))
        if self.calendar_mode not in CALENDAR_MODES:
            raise ScheduleError(
                "calendar_mode",
                gettext_noop('Unknown use of a calendar: "%(value)s".'),
                value=self.calendar_mode,
            )
        if self.calendar:
            Calendar.parse(self.calendar)
        if self.start_at and self.end_at and self.end_at < self.start_at:
            raise ScheduleError("end_at", gettext_noop("The end of validity lies before its start."))

    @cached_property
    def _cron(self) -> CronExpression:
        return CronExpression.parse(self.cron_expr)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first nominal time strictly after `moment`; None when there is none.

        For fixed_delay `moment` is the end of the previous run (of the whole run, on every host).
        Times that the calendar does not allow are left out; a fixed delay is put off until it does.
        """
        found = self.next_nominal_after(moment)
        if not self.calendar:
            return found
        for _ in range(SEARCH_LIMIT):
            if found is None or self.allows(found):
                return found
            allowed = self.allowed_from(found)
            if self.schedule_type == FIXED_DELAY:
                return None if allowed is None or (self.end_at and allowed > self.end_at) else allowed
            found = allowed and self.next_nominal_after(allowed - _JUST_BEFORE)
        return None

    def allows(self, moment: datetime) -> bool:
        """Whether the calendar lets the task fire at this moment."""
        if not self.calendar:
            return True
        return Calendar.parse(self.calendar).covers(moment) == (self.calendar_mode == ONLY_ON)

    def allowed_from(self, moment: datetime) -> datetime | None:
        """The first moment from this one on at which the calendar lets the task fire; None: none in years."""
        if not self.calendar:
            return moment
        calendar = Calendar.parse(self.calendar)
        only_on = self.calendar_mode == ONLY_ON
        return calendar.next_covered(moment) if only_on else calendar.next_uncovered(moment)

    def next_nominal_after(self, moment: datetime) -> datetime | None:
        """As `next_after`, whatever the calendar says."""
        if self.start_at is not None and moment < self.start_at:
            moment = self.start_at - _JUST_BEFORE
        found = self._next(moment)
        if found is None or (self.end_at is not None and found > self.end_at):
            return None
        return found

    def _next(self, moment: datetime) -> datetime | None:
        if self.schedule_type == CRON:
            return self._cron.next_after(moment, zone(self.timezone))
        if self.schedule_type == FIXED_RATE:
            anchor = _whole_seconds(self.anchor_at or EPOCH)
            passed = _whole_seconds(moment) - anchor
            return EPOCH + timedelta(
                seconds=anchor + max(passed // self.interval_seconds + 1, 0) * self.interval_seconds
            )
        if self.schedule_type == FIXED_DELAY:
            # Rounded up, so that the delay is never shorter than promised.
            return EPOCH - timedelta(seconds=(EPOCH - moment) // SECOND - self.interval_seconds)
        if self.schedule_type == ONCE and self.run_at is not None:
            once = self.run_at.astimezone(UTC).replace(microsecond=0)
            return once if once > moment else None
        return None

    def fires_at(self, moment: datetime) -> bool:
        """Whether `moment` is one of the nominal times. Any may be one of a fixed delay, within its validity."""
        if self.schedule_type == FIXED_DELAY:
            begun = self.start_at is None or moment >= self.start_at
            return begun and (self.end_at is None or moment <= self.end_at)
        return self.next_after(moment - SECOND) == moment

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """The next `count` nominal times (fewer when the schedule ends).

        fixed_delay gives one at most: the ones after it depend on how long the run takes.
        """
        if self.schedule_type == FIXED_DELAY:
            count = min(count, 1)
        times: list[datetime] = []
        moment: datetime | None = after
        while len(times) < count:
            moment = self.next_after(moment)  # type: ignore[arg-type]
            if moment is None:
                break
            times.append(moment)
        return times

    def missed(
        self, last_fired: datetime, now: datetime, limit: int, until: datetime | None = None
    ) -> list[datetime]:
        """The times in (last_fired, until] that are still to be fired at `now`, oldest first.

        skip: none. fire_once: the latest. fire_all: the latest `limit`. In each case only times that lie
        behind `now` by the grace time at most. `until` is `now` unless given.
        """
        if self.misfire_policy == SKIP:
            return []
        count = limit if self.misfire_policy == FIRE_ALL else 1
        oldest = now - timedelta(seconds=self.misfire_grace) - _JUST_BEFORE
        return self._latest(max(last_fired, oldest), now if until is None else until, count)

    def _latest(self, after: datetime, until: datetime, count: int) -> list[datetime]:
        """The latest `count` times in (after, until], looking back twice as far each time.

        A task of every second that was down for days costs no more than one of every day.
        """
        if self.schedule_type == FIXED_DELAY or count < 1:
            return []
        width = timedelta(seconds=max(count, 60))
        while True:
            start = max(after, until - width)
            times: list[datetime] = []
            moment = self.next_after(start)
            while moment is not None and moment <= until:
                times.append(moment)
                moment = self.next_after(moment)
            if len(times) >= count or start == after:
                return times[-count:]
            width *= 2

    def to_dict(self) -> dict[str, Any]:
        """A JSON object; datetimes in ISO 8601."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schedule:
        """The inverse of `to_dict`. TypeError for unknown keys, ValueError for a malformed datetime."""
        values: dict[str, Any] = dict(data)
        for name, value in data.items():
            if name.endswith("_at") and value is not None:
                values[name] = datetime.fromisoformat(value)
        return cls(**values)

    @classmethod
    def from_task_config(cls, config: TaskConfig) -> Schedule:
        """The schedule in a task's configuration on the wire (0 there: not set)."""
        return cls(
            schedule_type=config.schedule_type or CRON,
            cron_expr=config.cron_expr,
            timezone=config.timezone or "UTC",
            interval_seconds=config.interval_seconds,
            run_at=_from_ms(config.run_at),
            anchor_at=_from_ms(config.anchor_at),
            start_at=_from_ms(config.start_at),
            end_at=_from_ms(config.end_at),
            misfire_policy=config.misfire_policy or FIRE_ONCE,
            misfire_grace=config.misfire_grace,
            calendar=config.calendar,
            calendar_mode=config.calendar_mode or NOT_ON,
        )


def _whole_seconds(moment: datetime) -> int:
    return (moment - EPOCH) // SECOND


def _from_ms(milliseconds: int) -> datetime | None:
    return EPOCH + timedelta(milliseconds=milliseconds) if milliseconds else None


def retry_delay(interval: int, attempt: int, longest: int) -> int:
    """Seconds between the end of a failed attempt (0: the first) and the next one.

    Always `interval`; with `longest` it doubles with each attempt, up to that.
    """
    return min(interval << min(attempt, 20), max(longest, interval)) if longest else interval


def spread_delay_ms(task_id: int | str, client_id: str, spread_seconds: int) -> int:
    """How long this client waits after the nominal time: always the same, evenly within `spread_seconds`."""
    return zlib.crc32(f"{task_id}/{client_id}".encode()) % (spread_seconds * 1000) if spread_seconds else 0


# --- names -----------------------------------------------------------------------------------------------


def run_id(task_id: int | str, scheduled: datetime | None, unique: str | None = None) -> str:
    """The name of one firing: `run_<yyyymmdd>_<hhmmss>_<task>` (UTC), or `run_<unique>_<task>`.

    `unique` (a UUIDv7) is for firings that have no nominal time: manual, API, dependency.
    """
    return f"run_{_moment_name(scheduled, unique)}_{task_id}"


def execution_id(
    task_id: int | str,
    scheduled: datetime | None,
    client_id: str,
    shard: int | None = None,
    unique: str | None = None,
) -> str:
    """The name of one execution, a pure function of its firing, its client and its shard.

    `exec_<yyyymmdd>_<hhmmss>_<task>_<client>[_s<shard>]` (UTC), or `exec_<unique>_…` as in `run_id`.
    """
    suffix = "" if shard is None else f"_s{shard}"
    return f"exec_{_moment_name(scheduled, unique)}_{task_id}_{client_id}{suffix}"


def _moment_name(scheduled: datetime | None, unique: str | None) -> str:
    if unique is not None:
        return unique
    if scheduled is None:
        raise ValueError("a firing is named by its nominal time or by a unique id")
    return f"{scheduled.astimezone(UTC):%Y%m%d_%H%M%S}"


def uuid7() -> str:
    """A UUIDv7 (RFC 9562) as text: sorts by time, to a quarter of a microsecond, then at random."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    value = (
        milliseconds << 80
        | 0x7 << 76
        | fraction << 64
        | 0b10 << 62
        | int.from_bytes(os.urandom(8), "big") >> 2
    )
    return str(uuid.UUID(int=value))
