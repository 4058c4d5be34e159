"""What the overview shows: the next hour, the last ones, and the figures of the days chosen (FR-6.4)."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from executions_app import overview
from executions_app.overview import ahead
from executions_app.reports import figures, query
from quartzflow.execution_status import ExecutionStatus
from tasks_app.models import Task
from tests import people
from tests.executions_app.reports.conftest import bad, ended, ok

pytestmark = pytest.mark.django_db
NOW = people.at(2026, 3, 2, 12, 0, 40)
PAGE = "/console/"


def browser(user=None) -> Client:
    found = Client()
    found.force_login(user or people.admin())
    return found


def tasks():
    return Task.objects.order_by("pk")


# --- the next hour ---


def test_the_next_hour_has_every_firing_in_its_minute():
    people.task("often", cron_expr="*/10 * * * *")
    people.task("once", schedule_type="once", run_at=timezone.now() + timedelta(days=1))
    Task.objects.filter(name="once").update(run_at=people.at(2026, 3, 2, 12, 20, 5))
    people.task("off", status=0)
    people.task("later", cron_expr="30 13 * * *", timezone="UTC")
    found = ahead(tasks(), 60, 6, NOW)
    minutes = {
        minute.start.strftime("%H:%M"): [task.name for task in minute.tasks] for minute in found.minutes
    }
    assert len(minutes) == 60 and found.whole
    assert {at: names for at, names in minutes.items() if names} == {
        "12:10": ["often"], "12:20": ["often", "once"], "12:30": ["often"], "12:40": ["often"], "12:50": ["often"],
    }  # fmt: skip
    assert [(moment.strftime("%H:%M:%S"), task.name) for moment, task in found.first] == [
        ("12:10:00", "often"),
        ("12:20:05", "once"),
    ]


def test_what_fires_every_second_is_there_once_a_minute():
    task = people.task("busy", schedule_type="fixed_rate", interval_seconds=1, cron_expr="")
    found = ahead(Task.objects.filter(pk=task.pk), 60, 6, timezone.now())
    assert [len(minute.tasks) for minute in found.minutes] == [1] * 60


def test_of_very_many_firings_whole_minutes_are_drawn_as_far_as_they_go(monkeypatch):
    monkeypatch.setattr(overview, "MARKS", 25)
    for number in range(10):
        people.task(f"job-{number}")
    found = ahead(tasks(), 60, 6, NOW)
    assert (found.whole, found.until) == (False, people.at(2026, 3, 2, 12, 3))
    assert [len(minute.tasks) for minute in found.minutes][:5] == [0, 10, 10, 0, 0]


@given(second=st.integers(0, 59), step=st.integers(1, 59))
def test_no_firing_is_drawn_before_now_or_twice(second, step):
    if not Task.objects.exists():
        people.task()
    Task.objects.update(cron_expr=f"*/{step} * * * *")
    now = NOW.replace(second=second)
    found = ahead(tasks(), 60, 6, now)
    drawn = [minute.start for minute in found.minutes for _task in minute.tasks]
    expected = [
        at
        for number in range(60)
        if (at := NOW.replace(second=0) + timedelta(minutes=number)) > now and at.minute % step == 0
    ]
    assert drawn == expected


# --- the page ---


def test_every_mark_leads_to_what_it_counts():
    now, web = timezone.now(), people.group("web")
    task = people.task("backup")
    ok(now, task=task, group_id=web.pk, duration=2000)
    bad(now, "agent_lost", task=task, host="db-1", group_id=web.pk)
    ended(ExecutionStatus.TIMEOUT, now, task=people.task("other"), host="db-1", failure_reason="timeout")
    visitor = browser()
    page = visitor.get(PAGE)
    assert page.context["in_range"]["total_count"] == 3
    assert "P95 2.0 s" in page.content.decode()
    urls = [
        url.replace("&amp;", "&")
        for url in re.findall(r'href="([^"]*/execution/[?]time=[^"]*)"', page.content.decode())
    ]
    for end, count in [
        ("failure_reason__exact=agent_lost&status=bad", 1), (f"task__id__exact={task.pk}&status=bad", 1),
        (f"task__id__exact={task.pk}", 2), (f"group_id__exact={web.pk}", 2), ("client_id__exact=db-1", 2),
        ("status=bad", 2), ("status=3", 1), (":00", 3),
    ]:  # fmt: skip
        url = next(url for url in urls if url.endswith(end))
        assert visitor.get(url).context["cl"].result_count == count, url


@pytest.mark.parametrize(
    ("query", "bars"),
    [
        ({"from": "2026-03-01", "to": "2026-03-31"}, 31),
        ({"from": "2026-03-01", "to": "2026-03-31", "by": "week"}, 6),
        ({"from": "2026-03-01", "to": "2026-04-30", "by": "month"}, 2),
        ({"days": "7"}, 7),
        ({}, 24),
    ],
)
def test_the_trend_is_by_hour_day_week_or_month(query, bars):
    ok(people.at(2026, 3, 2))
    ok(timezone.now())
    assert len(browser().get(PAGE, query).context["chart"]["bars"]) == bars


def test_only_what_one_may_see_is_counted_and_named():
    ok(timezone.now(), task=people.task("clandestine"))
    page = browser(people.stranger()).get(PAGE)
    assert page.context["in_range"]["total_count"] == 0 and "clandestine" not in page.content.decode()


def test_of_too_many_executions_the_counts_stay_and_the_cards_say_so(monkeypatch):
    monkeypatch.setattr(query.app, "send_task", lambda *args, **more: None)
    monkeypatch.setattr(figures, "AT_ONCE", 1)
    ok(timezone.now())
    ok(timezone.now())
    page = browser().get(PAGE)
    assert page.context["in_range"]["total_count"] == 2 and page.context["chart"]["top"] == 2
    assert "正在统计" in browser().get(PAGE, {"days": "30"}).content.decode()


def test_the_overview_costs_the_same_whatever_there_is():
    visitor = browser()
    people.online_client("web-1", people.group("web"))
    ok(timezone.now(), task=people.task("first"), group_id=people.group("web").pk)
    bad(timezone.now())
    visitor.get(PAGE)
    with CaptureQueriesContext(connection) as few:
        visitor.get(PAGE)
    for number in range(12):
        group = people.group(f"group-{number}")
        task = people.task(f"job-{number}", group_ids=[group.pk], cron_expr=f"{number} * * * *")
        ok(timezone.now(), task=task, host=f"web-{number}", group_id=group.pk)
        bad(timezone.now(), task=task)
    with CaptureQueriesContext(connection) as many:
        visitor.get(PAGE)
    assert len(many) <= len(few) <= 32
    with CaptureQueriesContext(connection) as month:
        visitor.get(PAGE, {"days": "30"})
    assert len(month) <= len(few) + 2 * 29
