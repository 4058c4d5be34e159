"""The words and next times that a task's form shows of a schedule while it is written."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from tests import people

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser() -> Browser:
    found = Browser()
    found.force_login(people.admin())
    return found


def preview(browser, **changes):
    data = {
        "schedule_type": "cron",
        "cron_expr": "0 2 * * *",
        "timezone": "Asia/Shanghai",
        "misfire_policy": "fire_once",
        "misfire_grace": "3600",
    }
    return browser.get(reverse("admin:tasks_app_task_preview"), {**data, **changes}).json()


def test_the_preview_gives_the_next_five_times_in_the_tasks_zone(browser):
    answer = preview(browser, cron_expr="30 8 * * *", timezone="Europe/Berlin")
    assert answer["timezone"] == "Europe/Berlin"
    assert len(answer["times"]) == 5
    local = [datetime.fromisoformat(time).astimezone(ZoneInfo("Europe/Berlin")) for time in answer["times"]]
    assert {(time.hour, time.minute) for time in local} == {(8, 30)}


def test_the_preview_names_what_is_wrong(browser):
    answer = preview(browser, cron_expr="* * * *")
    assert answer["field"] == "cron_expr"
    assert "4" in answer["error"]


def test_the_preview_knows_every_kind_of_schedule(browser):
    assert len(preview(browser, schedule_type="fixed_rate", interval_seconds="60")["times"]) == 5
    assert len(preview(browser, schedule_type="fixed_delay", interval_seconds="60")["times"]) == 1
    soon = (timezone.now() + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%S")
    assert len(preview(browser, schedule_type="once", run_at=soon)["times"]) == 1
    assert preview(browser, schedule_type="none")["times"] == []
    assert preview(browser, schedule_type="fixed_rate")["field"] == "interval_seconds"
