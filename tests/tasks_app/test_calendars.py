"""Calendars: written, resolved, kept to by scheduler, dispatch and agents."""

from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from django_celery_beat.models import PeriodicTask
from knox.models import AuthToken
from quartzflow_agent.schedule import Schedule
from rest_framework.test import APIClient

from executions_app import control
from executions_app.choices import FailureReason
from executions_app.dispatch import Firing, fire
from executions_app.models import Execution
from executions_app.tasks import refresh_calendars
from quartzflow.errors import Conflict, InvalidInput, NotAllowed
from quartzflow.lease import SCHEDULER, LeaseKeeper
from tasks_app import calendars, configs
from tasks_app.actions import do_update_task
from tasks_app.models import Calendar, ConfigChange, Task
from tasks_app.scheduler.conductor import Conductor
from tasks_app.scheduler.plan import Plan
from tasks_app.selectors import next_fire_time
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")
NOON = people.at(2026, 10, 1, 12)  # China's national day


def holidays(**fields) -> Calendar:
    data = {"name": "holidays", "timezone": "UTC", "rules": {"dates": ["2026-10-01/2026-10-07"]}}
    return control.do_save_calendar(people.admin(), {**data, **fields})


def china() -> Calendar:
    return holidays(name="工作日", timezone="Asia/Shanghai", rules={"working_days": "china"})


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def working(calendar: Calendar, day: date) -> bool:
    return calendars.Parsed.parse(calendar.resolved).covers(
        datetime(day.year, day.month, day.day, 4, tzinfo=UTC)
    )


def test_chinas_working_days_know_days_off_in_lieu_and_make_up_days(clock):
    calendar = china()
    shown = {day: working(calendar, date(2026, 10, day)) for day in (1, 7, 8, 9, 10, 11)}
    assert shown == {1: False, 7: False, 8: True, 9: True, 10: True, 11: False}  # Saturday the 10th is worked
    assert working(calendar, date(2027, 3, 1)) and not working(
        calendar, date(2027, 3, 6)
    )  # not announced yet


def test_official_days_are_refreshed_when_the_year_or_the_library_changes(clock):
    calendar = china()
    task = people.task(calendar_id=calendar.pk, calendar_mode="only_on")
    assert calendars.refresh_calendars() == []
    Calendar.objects.update(resolved='{"working_days": true}')
    refresh_calendars()
    assert Calendar.objects.get().resolved == calendar.resolved
    assert Task.objects.get().version == ConfigChange.objects.latest("id").version > task.version


def test_the_scheduler_skips_and_counts_what_is_not_allowed(clock):
    task = people.task(cron_expr="* * * * * *", calendar_id=holidays().pk)
    sent = []
    beat = Conductor(lambda firings, _: sent.extend(firings), LeaseKeeper(SCHEDULER, holder="a"), Plan())
    for _ in range(4):
        beat.step()
        clock.shift(1)
    beat.save()
    row = Task.objects.get()
    assert (sent, row.skipped_count) == ([], 5)
    assert row.last_skipped_at == PeriodicTask.objects.get().last_run_at == NOON + timedelta(seconds=5)
    assert PeriodicTask.objects.get().total_run_count == 0
    assert next_fire_time(row) == people.at(2026, 10, 8)
    do_update_task(people.admin(), Task.objects.get(pk=task.pk), {"calendar_mode": "only_on"})
    beat._polled_at = float("-inf")
    beat.step()
    assert {task_id for task_id, _ in sent} == {task.pk}


def test_a_once_that_may_not_fire_is_over(clock):
    open_at = NOON + timedelta(days=30)
    task = people.task(schedule_type="once", cron_expr="", run_at=open_at, calendar_id=holidays().pk)
    calendars.do_save_calendar(people.admin(), {"rules": {"dates": ["2026-10-31"]}}, Calendar.objects.get())
    clock.move_to(open_at)
    beat = Conductor(lambda firings, _: pytest.fail("fired"), LeaseKeeper(SCHEDULER, holder="a"), Plan())
    beat.step()
    clock.shift(5)
    beat._expired_at = float("-inf")
    beat.step()
    beat.save()
    assert not Task.objects.get().is_enabled
    assert Task.objects.get(pk=task.pk).skipped_count == 1


def test_a_fixed_delay_waits_for_the_end_of_the_holidays(clock):
    people.task(schedule_type="fixed_delay", cron_expr="", interval_seconds=60, calendar_id=holidays().pk)
    beat = Conductor(lambda firings, _: pytest.fail("fired"), LeaseKeeper(SCHEDULER, holder="a"), Plan())
    beat.step()
    assert beat.plan.next_time() == people.at(2026, 10, 8).timestamp()


def test_a_change_of_the_calendar_changes_its_tasks_and_cancels_what_waits(clock):
    people.online_client()
    calendar = holidays(rules={"dates": ["2026-12-25"]})
    task = people.task(calendar_id=calendar.pk)
    fire([Firing(task.pk, NOON + timedelta(minutes=1))])
    control.do_save_calendar(people.admin(), {"rules": {"dates": ["2026-10-01"]}}, calendar)
    assert Execution.objects.get().failure_reason == FailureReason.TASK_CHANGED
    assert Task.objects.get().version == configs.current_version() == 2
    assert fire([Firing(task.pk, NOON + timedelta(minutes=2))]) == []
    message = configs.task_config(Task.objects.get())
    spec = Schedule.from_task_config(message)
    assert spec == Task.objects.get().schedule_spec() and spec.calendar_mode == "not_on"


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"rules": {"dates": ["tomorrow"]}}, "rules"),
        ({"rules": []}, "rules"),
        ({"rules": {"working_days": "mars"}}, "rules"),
        ({"rules": {"off_days": []}}, "rules"),
        ({"timezone": "Mars"}, "timezone"),
        ({"name": ""}, "name"),
        ({"resolved": "{}"}, "resolved"),
    ],
)
def test_what_is_wrong_with_a_calendar_is_named(fields, wrong):
    with pytest.raises(InvalidInput) as error:
        holidays(**fields)
    assert list(error.value.errors) == [wrong]
    assert not Calendar.objects.exists()


def test_a_task_needs_a_calendar_that_its_editor_may_see_and_that_lets_it_fire(clock):
    never = holidays(rules={"weekly": [{"days": [1], "end": "06:00"}]})
    for fields in (
        {"calendar_id": 999},
        {"calendar_id": "1"},
        {"calendar_id": never.pk, "calendar_mode": "only_on", "cron_expr": "0 12 * * *", "timezone": "UTC"},
    ):
        with pytest.raises(InvalidInput) as error:
            people.task(**fields)
        assert list(error.value.errors) == ["calendar_id"]


def test_rights():
    with pytest.raises(NotAllowed):
        calendars.do_save_calendar(people.stranger(), {"name": "x"})
    calendar = holidays()
    people.task(calendar_id=calendar.pk)
    with pytest.raises(Conflict, match="job"):
        calendars.do_delete_calendar(people.admin(), calendar)
    Task.objects.update(calendar=None)
    calendars.do_delete_calendar(people.admin(), calendar)
    assert not Calendar.objects.exists()


def test_the_api(clock):
    call = APIClient()
    call.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(people.admin())[1]}")
    rules = {"dates": ["2026-10-02"], "weekly": [{"days": [6], "start": "08:00"}]}
    body = {"name": "国庆", "timezone": "UTC", "rules": rules}
    made = call.post("/api/v1/calendars", body, format="json")
    assert made.status_code == 201, made.json()
    pk = made.json()["data"]["id"]
    days = call.get(f"/api/v1/calendars/{pk}/days", {"from": "2026-10-01", "count": 3}).json()["data"]
    assert [day["covered"] for day in days] == ["none", "all", "part"]
    for wrong in ({"from": "x"}, {"count": "0"}):
        assert call.get(f"/api/v1/calendars/{pk}/days", wrong).status_code == 400
    assert call.put(f"/api/v1/calendars/{pk}", {"description": "x"}, format="json").status_code == 200
    assert call.get(f"/api/v1/calendars/{pk}").json()["data"]["task_count"] == 0
    assert call.get("/api/v1/calendars").json()["data"]["total"] == 1
    query = {"expr": "0 0 * * *", "timezone": "UTC", "calendar_id": pk, "calendar_mode": "only_on"}
    times = call.get("/api/v1/tasks/cron/parse", query).json()["data"]["next_executions"]
    assert times == ["2026-10-02T00:00:00Z"]
    assert call.get("/api/v1/tasks/cron/parse", {**query, "calendar_mode": "x"}).status_code == 400
    task = people.task(calendar_id=pk)
    shown = call.get(f"/api/v1/tasks/{task.pk}").json()["data"]
    assert (shown["calendar_id"], shown["calendar_mode"], shown["skipped_count"]) == (pk, "not_on", 0)
    assert call.delete(f"/api/v1/calendars/{pk}").status_code == 409
    Task.objects.update(calendar=None)
    assert call.delete(f"/api/v1/calendars/{pk}").status_code == 200
