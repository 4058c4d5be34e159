"""What is counted, against rows that the tests made."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from guardian.shortcuts import assign_perm
from hypothesis import given
from hypothesis import strategies as st

from executions_app.models import DailyStats, Execution
from executions_app.reports import figures as module
from executions_app.reports import tables
from executions_app.reports.choices import Days
from executions_app.reports.figures import Chosen, Figures, Tally, count, folded, p95, too_many
from executions_app.reports.periods import Period, period_of
from quartzflow.execution_status import ExecutionStatus
from tests import people

from .conftest import DAY, DAYS, HOUR, NOON, bad, ended, ok

pytestmark = pytest.mark.django_db


def test_everything_is_counted_by_day_task_group_host_and_reason():
    web, backup, reports = people.group("web"), people.task("backup"), people.task("reports")
    for duration in (1000, 3000):
        ok(NOON, task=backup, duration=duration, group_id=web.pk)
    bad(NOON + DAY, task=backup, host="web-2", group_id=web.pk)
    bad(NOON + DAY, "agent_lost", task=reports, host="db-1")
    ended(ExecutionStatus.TIMEOUT, NOON, task=reports, host="db-1", failure_reason="timeout")
    ended(ExecutionStatus.CANCELLED, NOON, task=reports, host="db-1", failure_reason="concurrency")
    ended(ExecutionStatus.RUNNING, NOON, task=reports)  # has no result yet
    ok(NOON - 3 * DAY, task=backup)  # of other days
    ok(NOON + 3 * DAY, task=backup)

    found = count(people.admin(), DAYS)

    assert found.total == Tally(2, 2, 1, 1, duration=4000, timed=2, longest=3000)
    assert (found.total.total, found.total.rate, found.total.mean) == (6, 40.0, 2000)
    assert {day: tally.total for day, tally in found.days.items()} == {
        date(2026, 3, 1): 0,
        date(2026, 3, 2): 4,
        date(2026, 3, 3): 2,
    }
    assert [(row.name, row.tally.total) for row in found.tasks] == [("backup", 3), ("reports", 3)]
    assert [(row.name, row.tally.total) for row in found.groups] == [("", 3), ("web", 3)]
    assert [(row.name, row.tally.total) for row in found.hosts] == [("db-1", 3), ("web-1", 2), ("web-2", 1)]
    assert found.reasons == {"agent_lost": 1, "exit_code": 1, "timeout": 1}
    assert [(row.name, row.tally.bad) for row in found.failing()] == [("reports", 2), ("backup", 1)]
    assert Figures.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("moment", "counted"), [(-1, False), (0, True), (24 * 3600 - 1, True), (24 * 3600, False)]
)
def test_a_day_is_one_of_the_zone(moment, counted):
    begin = datetime(2026, 3, 2, tzinfo=ZoneInfo("Asia/Shanghai"))
    ok(begin + timedelta(seconds=moment))
    day = Period(date(2026, 3, 2), date(2026, 3, 2), "Asia/Shanghai")
    assert count(people.admin(), day).total.total == counted


def test_a_day_has_23_or_25_hours_when_the_clock_changes():
    day = Period(date(2026, 3, 29), date(2026, 3, 29), "Europe/Berlin")
    assert day.end.timestamp() - day.begin.timestamp() == 23 * 3600


def test_filters_choose():
    web, backup = people.group("web"), people.task("backup")
    ok(NOON, task=backup, host="web-1", group_id=web.pk)
    ok(NOON, host="web-2", group_id=web.pk)
    ok(NOON, host="db-1")
    user = people.admin()
    assert count(user, DAYS, Chosen(task_id=backup.pk)).total.total == 1
    assert count(user, DAYS, Chosen(group_id=web.pk)).total.total == 2
    assert count(user, DAYS, Chosen(client_id="db-1")).total.total == 1
    assert count(user, DAYS, Chosen(task_id=backup.pk, client_id="db-1")).total.total == 0


def test_one_counts_what_one_may_see():
    mine, other, hidden = people.task("mine"), people.task("other"), people.group("hidden")
    ok(NOON, task=mine, group_id=hidden.pk)
    bad(NOON, task=other)
    assign_perm("tasks_app.view_task", people.stranger(), mine)
    found = count(people.stranger(), DAYS)
    assert ([row.name for row in found.tasks], found.total.total) == (["mine"], 1)
    assert [row.name for row in found.groups] == [f"#{hidden.pk}"]
    assert count(people.stranger("nobody"), DAYS).total.total == 0


def removed(day: date, task, host: str = "web-1", **fields) -> DailyStats:
    return DailyStats.objects.create(task_id=task.pk, task_name=task.name, client_id=host, day=day, **fields)


def test_what_retention_took_away_is_added_from_the_daily_statistics():
    task, client = people.task("backup"), people.online_client("web-1", people.group("web"))
    kept = ok(NOON, task=task, group_id=client.group_id)
    removed(
        date(2026, 3, 2), task, success_count=4, failure_count=1, removed_success=3, removed_failure=1,
        removed_total_ms=8000, removed_max_ms=5000,
    )  # fmt: skip
    removed(date(2026, 3, 3), task, success_count=7)  # all of it is there still, or will be counted there
    found = count(people.admin(), DAYS)
    assert found.total == Tally(4, 1, 0, 0, duration=8000 + kept.duration, timed=5, longest=5000)
    assert (found.removed, [row.name for row in found.groups]) == (4, ["web"])
    assign_perm("tasks_app.view_task", people.stranger(), task)
    assert count(people.stranger(), DAYS).total == found.total
    assert count(people.stranger("nobody"), DAYS).total.total == 0
    for chosen in (Chosen(task_id=task.pk), Chosen(group_id=client.group_id), Chosen(client_id="web-1")):
        assert count(people.admin(), DAYS, chosen).removed == 4
    for chosen in (
        Chosen(task_id=task.pk + 1),
        Chosen(group_id=people.group().pk),
        Chosen(client_id="web-2"),
    ):
        assert count(people.admin(), DAYS, chosen).removed == 0


def test_queries_are_two_a_day_whatever_there_is_to_count():
    user = people.admin()
    with CaptureQueriesContext(connection) as few:
        count(user, DAYS)
    for number in range(30):
        ok(NOON + number * HOUR, host=f"web-{number}", task=people.task(f"job-{number}"))
    with CaptureQueriesContext(connection) as many:
        count(user, DAYS)
    assert len(few) == 2 * 3
    assert len(many) <= len(few) + 2  # the 95th percentile


def test_too_many_are_told_without_counting_them_all(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    for _ in range(2):
        ok(NOON)
    assert not too_many(people.admin(), DAYS)
    ok(NOON)
    assert too_many(people.admin(), DAYS)
    assert not too_many(people.admin(), DAYS, Chosen(client_id="nobody"))
    monkeypatch.setattr(module, "SORTED", 2)
    assert count(people.admin(), DAYS).p95 is None


@given(durations=st.lists(st.integers(0, 10_000), min_size=1, max_size=60))
def test_the_95th_percentile_is_the_nearest_rank(durations):
    Execution.objects.all().delete()
    for duration in durations:
        ok(NOON, duration=duration)
    bad(NOON, duration=99_999)
    found = p95(Execution.objects.all())
    assert sum(duration <= found for duration in durations) >= 0.95 * len(durations)
    assert sum(duration < found for duration in durations) < 0.95 * len(durations)


def test_nothing_has_no_percentile_rate_or_mean():
    found = count(people.admin(), DAYS)
    assert (found.p95, found.total.rate, found.total.mean) == (None, None, None)
    assert p95(Execution.objects.all()) is None


def test_progress_ends_at_the_whole():
    parts: list[float] = []
    count(people.admin(), DAYS, progress=parts.append)
    assert parts == [1 / 3, 2 / 3, 1.0]


@pytest.mark.parametrize(
    ("days", "first", "last"),
    [
        (Days.TODAY, "2026-03-04", "2026-03-04"),
        (Days.YESTERDAY, "2026-03-03", "2026-03-03"),
        (Days.LAST_7, "2026-02-26", "2026-03-04"),
        (Days.LAST_30, "2026-02-03", "2026-03-04"),
        (Days.LAST_WEEK, "2026-02-23", "2026-03-01"),
        (Days.LAST_MONTH, "2026-02-01", "2026-02-28"),
    ],
)
def test_choices_of_days(days, first, last):
    # A Wednesday, already in Shanghai.
    period = period_of(days, "Asia/Shanghai", now=people.at(2026, 3, 3, 17))
    assert (str(period.first), str(period.last)) == (first, last)


@pytest.mark.parametrize(
    ("first", "last"), [(date(2026, 3, 2), date(2026, 3, 1)), (date(2024, 1, 1), date(2026, 1, 1))]
)
def test_a_period_is_neither_backwards_nor_endless(first, last):
    with pytest.raises(ValueError, match="not a period"):
        Period(first, last, "UTC")
    with pytest.raises(ValueError, match="both its days"):
        period_of(Days.CUSTOM, "UTC", first)


@given(by=st.sampled_from(["day", "week", "month"]), length=st.integers(1, 100))
def test_folding_loses_nothing(by, length):
    first = date(2026, 1, 15)
    figures = Figures(Period(first, first + (length - 1) * DAY, "UTC"))
    figures.days = {day: Tally(success=1) for day in figures.period.days()}
    parts = folded(figures, by)
    assert sum(tally.success for _first, _last, tally in parts) == length
    assert [(last - first).days + 1 for first, last, _tally in parts] == [
        tally.success for *_days, tally in parts
    ]
    if by == "week":
        assert all(first.weekday() == 0 for first, _last, _tally in parts[1:])
    if by == "month":
        assert all(first.month == last.month for first, last, _tally in parts)


def test_bars_are_as_long_as_what_they_stand_for():
    for number in range(8):
        ok(NOON, host=f"web-{number % 2}")
    bad(NOON, host="web-0")
    figures = count(people.admin(), DAYS)
    first, second = tables.table(figures, "host").rows
    assert (first.good, first.bad, first.bad_from) == (80, 20, 80)
    assert (second.good, second.bad) == (80, 0)
    assert tables.table(figures, "host", 1).count == 2
    chart = tables.trend(tables.days(figures))
    assert (chart["top"], [len(bar["parts"]) for bar in chart["bars"]]) == (9, [0, 2, 0])
