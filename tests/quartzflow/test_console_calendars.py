"""The console's pages of calendars, without a browser."""

import json
from datetime import date

import pytest
from django.urls import reverse
from guardian.shortcuts import assign_perm
from quartzflow_agent.calendars import Calendar as Parsed

from tasks_app.calendar_days import day_of, next_days
from tasks_app.calendars import do_save_calendar
from tasks_app.models import Calendar
from tests import people
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db
ADD = "admin:tasks_app_calendar_add"


def sent(**fields):
    """What the browser sends: one weekly window, one period, and the empty rows behind them."""
    return {
        "name": "maintenance", "description": "", "timezone": "UTC", "working_days": "",
        "dates": "2026-10-01\r\n2026-12-24/2026-12-31\r\n",
        "weekly-TOTAL_FORMS": "2", "weekly-INITIAL_FORMS": "0", "weekly-0-days": ["6", "7"],
        "weekly-0-start": "22:00", "weekly-0-end": "",
        "cron-TOTAL_FORMS": "2", "cron-INITIAL_FORMS": "0", "cron-0-start": "0 2 * * *", "cron-0-minutes": "90",
        **fields,
    }  # fmt: skip


def calendar(name="week", rules=None, zone="UTC"):
    return do_save_calendar(
        people.admin(), {"name": name, "timezone": zone, "rules": rules or {"working_days": "week"}}
    )


def test_every_kind_of_rule_goes_through_the_form_and_back():
    page = browser().post(reverse(ADD), sent(working_days="china"))
    assert page.status_code == 302, (page.context["form"].errors, page.context["form"].weekly.errors)
    made = Calendar.objects.get()
    assert made.rules == {
        "dates": ["2026-10-01", "2026-12-24/2026-12-31"],
        "weekly": [{"days": [6, 7], "start": "22:00", "end": "24:00"}],
        "cron": [{"start": "0 2 * * *", "minutes": 90}],
        "working_days": "china",
    }
    url = reverse("admin:tasks_app_calendar_change", args=[made.pk])
    form = browser().get(url).context["form"]
    again = {
        name: form[name].value() for name in ("name", "description", "timezone", "working_days", "dates")
    }
    for rows in (form.weekly, form.periods):
        again |= {
            f"{rows.prefix}-TOTAL_FORMS": len(rows.forms),
            f"{rows.prefix}-INITIAL_FORMS": rows.initial_form_count(),
        }
        again |= {
            row[n].html_name: row[n].value() for row in rows for n in row.fields if row[n].value() is not None
        }
    assert browser().post(url, again).status_code == 302
    assert Calendar.objects.get().rules == made.rules


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"dates": "someday"},
        {"cron-0-start": "61 * * * *"},
        {"cron-0-minutes": "0"},
        {"weekly-0-start": "25:00"},
        {"weekly-0-days": ["9"]},
    ],
)
def test_what_cannot_be_is_said_and_not_stored(fields):
    page = browser().post(reverse(ADD), sent(**fields))
    assert page.status_code == 200
    form = page.context["form"]
    assert form.errors or any(form.weekly.errors) or any(form.periods.errors)
    assert "errorlist" in page.content.decode() or form.non_field_errors()
    assert not Calendar.objects.exists()


def test_the_preview_shows_days_in_it_and_out_of_it_without_storing():
    url = reverse("admin:tasks_app_calendar_preview")
    answer = browser().post(url, sent(name=""))
    assert "02:00–03:30" in answer.json()["html"]
    assert browser().post(url, sent(**{"cron-0-start": "x"})).json()["error"]
    assert browser().post(url, {"dates": ""}).json()["error"]
    assert browser().get(url).status_code == 405
    assert browser(people.stranger()).post(url, sent()).status_code == 403
    assert not Calendar.objects.exists()


def test_a_calendar_in_use_is_not_deleted_and_names_its_tasks():
    kept = calendar()
    people.task("nightly", calendar_id=kept.pk)
    url = reverse("admin:tasks_app_calendar_remove", args=[kept.pk])
    answer = browser().post(url, headers={"X-Requested-With": "fetch"})
    assert (answer.status_code, "nightly" in answer.json()["message"]) == (409, True)
    other = calendar("other")
    url = reverse("admin:tasks_app_calendar_remove", args=[other.pk])
    assert browser().post(url, headers={"X-Requested-With": "fetch"}).status_code == 200
    assert [c.name for c in Calendar.objects.all()] == ["week"]
    assert [
        t.name
        for t in browser().get(reverse("admin:tasks_app_calendar_change", args=[kept.pk])).context["tasks"]
    ] == ["nightly"]


def test_the_list_shows_the_rules_in_words(django_assert_max_num_queries):
    for number in range(5):
        calendar(f"c{number}", {"working_days": "china", "dates": ["2026-10-01"]})
    visitor = browser()
    with django_assert_max_num_queries(18):
        page = visitor.get(reverse("admin:tasks_app_calendar_changelist")).content.decode()
    assert page.count("法定工作日") == 5
    assert "1 个日期" in page


def test_only_those_see_and_change_a_calendar_who_may():
    kept, user = calendar(), people.stranger()
    url = reverse("admin:tasks_app_calendar_change", args=[kept.pk])
    assert browser(user).get(url).status_code == 404
    assign_perm("tasks_app.view_calendar", user, kept)
    page = browser(user).get(url)
    assert not page.context["may_change"]
    assert browser(user).post(url, sent()).status_code == 403
    assert browser(user).get(reverse(ADD)).status_code == 403
    assert Calendar.objects.get().name == "week"


def parsed(**rules):
    return Parsed.parse(json.dumps({"timezone": "Europe/Berlin", **rules}))


def test_a_day_is_covered_in_parts_and_across_midnight():
    window = parsed(weekly=[{"days": [1], "start": "22:00", "end": "06:00"}])
    assert day_of(window, date(2026, 6, 1)).spans == ("22:00–24:00",)  # a Monday
    assert day_of(window, date(2026, 6, 2)).spans == ("00:00–06:00",)
    assert not day_of(window, date(2026, 6, 3)).covered
    whole = day_of(parsed(dates=["2026-06-03"]), date(2026, 6, 3))
    assert (whole.whole, whole.spans) == (True, ("00:00–24:00",))


def test_a_day_with_a_change_of_the_clock_is_whole_too():
    for day in (date(2026, 3, 29), date(2026, 10, 25)):
        assert day_of(parsed(dates=[day.isoformat()]), day).whole


def test_the_next_days_are_those_asked_for():
    week = parsed(working_days=True)
    inside = next_days(week, True, 3, date(2026, 6, 5))  # a Friday
    outside = next_days(week, False, 3, date(2026, 6, 5))
    assert [day.date.day for day in inside] == [5, 8, 9]
    assert [day.date.day for day in outside] == [6, 7, 13]
    assert next_days(parsed(), True, 3) == []
