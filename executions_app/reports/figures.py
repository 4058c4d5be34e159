"""The figures of a report: ended executions by day, task, group, host and reason of failure (FR-6.4).

The database counts, one day after another, and no execution is ever loaded. What retention has taken away is added
from the daily statistics (FR-5.2); those know days in UTC, no reasons, and the durations of all ends together.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, Max, QuerySet, Sum

from groups_app.models import Client, Group
from quartzflow.execution_status import TERMINAL, ExecutionStatus
from quartzflow.permissions import User, visible
from tasks_app.models import Task

from ..daily import REMOVED_COUNTS
from ..models import DailyStats, Execution
from ..selectors import MOST_NAMED, executions_for
from .periods import Period

BAD = (ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT)
AT_ONCE = 100_000  # executions that are counted while somebody waits for a page
SORTED = 1_000_000  # durations that are sorted for the percentile
PERCENT = 95  # of the successful executions took no longer than the 95th percentile


@dataclass
class Tally:
    """Ended executions. Durations are in ms."""

    success: int = 0
    failure: int = 0
    timeout: int = 0
    cancelled: int = 0
    duration: int = 0  # of `timed` executions together
    timed: int = 0
    longest: int = 0

    @property
    def total(self) -> int:
        return self.success + self.failure + self.timeout + self.cancelled

    @property
    def bad(self) -> int:
        return self.failure + self.timeout

    @property
    def other(self) -> int:
        return self.cancelled

    @property
    def rate(self) -> float | None:
        """Percent that succeeded; cancelled ones do not lower it (PRD §8.3)."""
        judged = self.success + self.bad
        return round(100 * self.success / judged, 1) if judged else None

    @property
    def mean(self) -> int | None:
        return round(self.duration / self.timed) if self.timed else None

    def add(self, other: "Tally") -> None:
        for name in ("success", "failure", "timeout", "cancelled", "duration", "timed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.longest = max(self.longest, other.longest)


@dataclass
class Row:
    """One task, group or host. `key` is its id, "" where there is none."""

    key: str
    name: str
    tally: Tally = field(default_factory=Tally)


@dataclass
class Figures:
    """What was found for a period. `tasks`, `groups` and `hosts`: those with the most executions first."""

    period: Period
    total: Tally = field(default_factory=Tally)
    days: dict[date, Tally] = field(default_factory=dict)
    tasks: list[Row] = field(default_factory=list)
    groups: list[Row] = field(default_factory=list)
    hosts: list[Row] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)  # FailureReason → executions, the most first
    p95: int | None = None  # ms; of successful executions that are still kept
    removed: int = 0  # executions that are known from the daily statistics alone

    def failing(self, count: int = 10) -> list[Row]:
        """The tasks that failed most often."""
        bad = [row for row in self.tasks if row.tally.bad]
        return sorted(bad, key=lambda row: (-row.tally.bad, row.name))[:count]

    def to_json(self, most: int | None = None) -> dict[str, Any]:
        """For storing; `most` rows of a kind."""
        found = asdict(self)
        found["period"] = [str(self.period.first), str(self.period.last), self.period.zone]
        found["days"] = {str(day): asdict(tally) for day, tally in self.days.items()}
        for name in ("tasks", "groups", "hosts"):
            found[name] = found[name][:most]
        return found

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Figures":
        first, last, zone = stored["period"]
        rows = {
            name: [Row(row["key"], row["name"], Tally(**row["tally"])) for row in stored[name]]
            for name in ("tasks", "groups", "hosts")
        }
        return cls(
            Period(date.fromisoformat(first), date.fromisoformat(last), zone),
            Tally(**stored["total"]),
            {date.fromisoformat(day): Tally(**tally) for day, tally in stored["days"].items()},
            rows["tasks"],
            rows["groups"],
            rows["hosts"],
            stored["reasons"],
            stored["p95"],
            stored["removed"],
        )


@dataclass(frozen=True)
class Chosen:
    """What of the executions is counted; None and "": all."""

    task_id: int | None = None
    group_id: int | None = None
    client_id: str = ""

    def of(self, executions: QuerySet[Execution]) -> QuerySet[Execution]:
        if self.task_id is not None:
            executions = executions.filter(task=self.task_id)
        if self.group_id is not None:
            executions = executions.filter(group_id=self.group_id)
        return executions.filter(client_id=self.client_id) if self.client_id else executions

    def of_daily(self, rows: QuerySet[DailyStats]) -> QuerySet[DailyStats]:
        if self.task_id is not None:
            rows = rows.filter(task_id=self.task_id)
        if self.group_id is not None:
            hosts = Client.objects.filter(group=self.group_id)
            rows = rows.filter(client_id__in=hosts.values("client_id"))
        return rows.filter(client_id=self.client_id) if self.client_id else rows


EVERYTHING = Chosen()


def too_many(user: User, period: Period, chosen: Chosen = EVERYTHING) -> bool:
    """Whether counting would keep somebody waiting."""
    rows = _within(chosen.of(executions_for(user)), period.begin, period.end)
    return rows.order_by().values("pk")[: AT_ONCE + 1].count() > AT_ONCE


def count(
    user: User,
    period: Period,
    chosen: Chosen = EVERYTHING,
    progress: Callable[[float], None] = lambda part: None,
) -> Figures:
    """The figures of what the user may see. `progress` is told which part of the days is done, 0 to 1.

    1. Each day: its executions, and what the daily statistics have of those that are gone.
    2. Names; the rows in order. 3. The 95th percentile, unless there are too many to be sorted.
    """
    counter = _Counter(user, period, chosen)
    days = list(period.days())
    for number, day in enumerate(days, 1):
        counter.take(day)
        progress(number / len(days))
    return counter.result()


def _within(rows: QuerySet[Execution], begin: datetime, end: datetime) -> QuerySet[Execution]:
    return rows.filter(scheduled_time__gte=begin, scheduled_time__lt=end)


class _Counter:
    """Adds up one day after another."""

    def __init__(self, user: User, period: Period, chosen: Chosen) -> None:
        self.user, self.period = user, period
        self.figures = Figures(period)
        self.executions = chosen.of(executions_for(user)).order_by()
        self.removed = chosen.of_daily(_removed_for(user)).order_by()
        self.tasks: dict[int, Row] = {}
        self.groups: dict[int | None, Tally] = defaultdict(Tally)
        self.hosts: dict[str, Tally] = defaultdict(Tally)
        self.reasons: dict[str, int] = defaultdict(int)
        self._group_of: dict[str, int] | None = None

    def take(self, day: date) -> None:
        begin, end = self.period.bounds(day)
        of_day = self.figures.days[day] = Tally()
        self._take_executions(of_day, begin, end)
        self._take_removed(of_day, day)

    def _take_executions(self, of_day: Tally, begin: datetime, end: datetime) -> None:
        rows = (
            _within(self.executions, begin, end)
            .filter(status__in=TERMINAL)
            .values("task_id", "client_id", "group_id", "status", "failure_reason")
            .annotate(
                count=Count("id"), sum=Sum("duration"), timed=Count("duration"), longest=Max("duration"),
                name=Max("task_name"),
            )
        )  # fmt: skip
        for row in rows.iterator(2000):
            status = ExecutionStatus(row["status"])
            found = Tally(**{status.name.lower(): row["count"]})
            if status == ExecutionStatus.SUCCESS:
                found.duration, found.timed, found.longest = (
                    row["sum"] or 0,
                    row["timed"],
                    row["longest"] or 0,
                )
            if status in BAD:
                self.reasons[row["failure_reason"]] += row["count"]
            of_day.add(found)
            self._add(row["task_id"], row["name"], row["client_id"], row["group_id"], found)

    def _take_removed(self, of_day: Tally, day: date) -> None:
        for row in self.removed.filter(day=day).iterator(2000):
            ended = row.removed_success + row.removed_failure + row.removed_timeout
            found = Tally(
                row.removed_success, row.removed_failure, row.removed_timeout, row.removed_cancelled,
                row.removed_total_ms, ended, row.removed_max_ms,
            )  # fmt: skip
            of_day.add(found)
            self.figures.removed += found.total
            self._add(row.task_id, row.task_name, row.client_id, self._group(row.client_id), found)

    def _add(self, task_id: int, name: str, client_id: str, group_id: int | None, found: Tally) -> None:
        self.figures.total.add(found)
        task = self.tasks.setdefault(task_id, Row(str(task_id), name))
        task.name = name or task.name
        task.tally.add(found)
        self.groups[group_id].add(found)
        self.hosts[client_id].add(found)

    def _group(self, client_id: str) -> int | None:
        """The host's group of today: the daily statistics do not know the one it was in."""
        if self._group_of is None:
            self._group_of = dict(
                Client.objects.exclude(group=None).order_by().values_list("client_id", "group_id")
            )
        return self._group_of.get(client_id)

    def result(self) -> Figures:
        figures = self.figures
        figures.tasks = _ordered(self.tasks.values())
        names = _group_names(self.user, [pk for pk in self.groups if pk is not None])
        figures.groups = _ordered(
            Row(str(pk or ""), names.get(pk, f"#{pk}") if pk else "", tally)
            for pk, tally in self.groups.items()
        )
        figures.hosts = _ordered(Row(client_id, client_id, tally) for client_id, tally in self.hosts.items())
        figures.reasons = dict(sorted(self.reasons.items(), key=lambda pair: (-pair[1], pair[0])))
        if 0 < figures.total.success <= SORTED:
            figures.p95 = p95(_within(self.executions, self.period.begin, self.period.end))
        return figures


def p95(executions: QuerySet[Execution]) -> int | None:
    """The duration in ms that 95 % of the successful ones do not exceed (nearest rank)."""
    rows = executions.filter(status=ExecutionStatus.SUCCESS, duration__isnull=False).order_by("duration")
    durations = rows.values_list("duration", flat=True)
    number = durations.count()
    rank = (number * PERCENT + 99) // 100
    return durations[rank - 1] if number else None


def _ordered(rows: Any) -> list[Row]:
    return sorted(rows, key=lambda row: (-row.tally.total, row.name))


def _removed_for(user: User) -> QuerySet[DailyStats]:
    """What the daily statistics have of executions that are gone; like executions_for."""
    rows = DailyStats.objects.exclude(**dict.fromkeys(REMOVED_COUNTS, 0))
    if user.has_perm("executions_app.view_execution"):
        return rows
    tasks = visible(user, Task.objects.all()).order_by().values_list("pk", flat=True)
    few = list(tasks[: MOST_NAMED + 1])
    return rows.filter(task_id__in=few if len(few) <= MOST_NAMED else tasks)


def _group_names(user: User, pks: list[int]) -> dict[int, str]:
    """Of those groups that the user may see, or that tasks are bound to which the user may see."""
    mine = visible(user, Group.objects.filter(pk__in=pks))
    theirs = Group.objects.filter(pk__in=pks, tasks__in=visible(user, Task.objects.all()))
    return {group.pk: group.name for rows in (mine, theirs) for group in rows}


def folded(figures: Figures, by: str) -> list[tuple[date, date, Tally]]:
    """The days folded by "day", "week" (from Monday) or "month": first day, last day, sum."""
    found: dict[date, list[Any]] = {}
    for day, tally in figures.days.items():
        key = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}[by]
        part = found.setdefault(key, [day, day, Tally()])
        part[1] = day
        part[2].add(tally)
    return [(first, last, tally) for first, last, tally in found.values()]
