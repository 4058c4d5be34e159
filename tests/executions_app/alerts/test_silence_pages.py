"""The console's pages of silence windows, and what the pages of tasks and groups have of alerts."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from guardian.shortcuts import assign_perm

from executions_app.alerts.matching import is_silent
from executions_app.alerts.models import AlertSilence
from executions_app.alerts.silences import do_end_silence, do_save_silence, do_silence_for
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.models import AuditEntry
from tests import people

from .conftest import rule
from .test_pages import alert, signed_in
from .test_setup_pages import SCRIPT, SILENCES, member

pytestmark = pytest.mark.django_db
NOW = people.at(2026, 3, 2, 12)  # a Monday


@pytest.fixture(autouse=True)
def _now():
    with time_machine.travel(NOW, tick=False):
        yield


def sent(**fields: Any) -> dict[str, Any]:
    """What the browser sends."""
    return {
        "name": "", "reason": "move", "scope": "global", "task_ids": [""], "window": "4", "begins": "", "ends": "",
        "time_begins": "", "time_ends": "", "zone": "Asia/Shanghai", **fields,
    }  # fmt: skip


def once(**fields: Any) -> AlertSilence:
    window = {"name": "move", "begins": NOW, "ends": NOW + timedelta(hours=2)}
    return do_save_silence(people.admin(), None, {**window, **fields})


@pytest.mark.parametrize(("window", "hours"), [("1", 1), ("4", 4), ("24", 24), ("168", 168)])
def test_a_quick_range_begins_now_and_names_itself(window: str, hours: int):
    task = people.task("nightly")
    browser = signed_in(people.admin())
    answer = browser.post(f"{SILENCES}add/", sent(window=window, scope="tasks", task_ids=["nightly"]))
    assert answer.status_code == 302, answer.context["form"].errors
    made = AlertSilence.objects.get()
    assert (made.begins, made.ends, made.reason) == (NOW, NOW + timedelta(hours=hours), "move")
    assert made.name.startswith("nightly → 2026-03-") and list(made.tasks.all()) == [task]


def test_times_are_those_of_the_users_zone():
    browser = signed_in(people.admin())
    times = {"window": "span", "begins": "2026-03-02T20:00", "ends": "2026-03-02T22:30:00"}
    assert browser.post(f"{SILENCES}add/", sent(**times)).status_code == 302
    made = AlertSilence.objects.get()
    assert (made.begins, made.ends) == (NOW, NOW + timedelta(hours=2.5))  # Asia/Shanghai
    form = browser.get(f"{SILENCES}{made.pk}/change/").context["form"]
    assert (form["window"].value(), form["begins"].value()) == ("span", "2026-03-02T20:00:00")


def test_a_weekly_window_goes_through_the_form_and_back():
    browser = signed_in(people.admin())
    weekly = {"window": "weekly", "weekdays": ["5", "6"], "time_begins": "22:00", "time_ends": "06:00"}
    answer = browser.post(f"{SILENCES}add/", sent(**weekly, name="weekends"))
    assert answer.status_code == 302
    made = AlertSilence.objects.get()
    assert made.weekdays == [5, 6] and made.zone == "Asia/Shanghai" and made.ends is None
    form = browser.get(answer["Location"]).context["form"]
    again = {name: form[name].value() for name in form.fields if form[name].value() is not None}
    assert browser.post(answer["Location"], {**again, "time_ends": "07:00"}).status_code == 302
    made.refresh_from_db()
    assert f"{made.time_begins:%H:%M}–{made.time_ends:%H:%M}" == "22:00–07:00" and made.name == "weekends"
    assert "22:00 – 07:00" in browser.get(SILENCES).content.decode()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"window": "span"}, "begins"),
        ({"window": "span", "begins": "2026-03-02T20:00", "ends": "2026-03-02T19:00"}, "ends"),
        ({"window": "span", "begins": "soon", "ends": "2026-03-02T19:00"}, "begins"),
        ({"window": "weekly", "time_begins": "22:00", "time_ends": "06:00"}, "weekdays"),
        ({"window": "weekly", "weekdays": ["1"], "time_begins": "22:00"}, "time_ends"),
        ({"window": "forever"}, "window"),
        ({"name": "taken"}, "name"),
        ({"scope": "tasks", "task_ids": ["unknown"]}, "task_ids"),
    ],
)
def test_an_error_names_its_field_and_keeps_what_was_typed(fields: dict[str, Any], field: str):
    once(name="taken")
    browser, body = signed_in(people.admin()), sent(reason="kept words", **fields)
    assert field in browser.post(f"{SILENCES}check/", body).json()["errors"]
    page = browser.post(f"{SILENCES}add/", body)
    assert page.status_code == 200 and field in page.context["form"].errors
    assert "kept words" in page.content.decode() and AlertSilence.objects.count() == 1


def test_a_window_is_ended_and_only_once():
    made, browser = once(), signed_in(people.admin())
    url = f"{SILENCES}{made.pk}/end/"
    assert url in browser.get(SILENCES).content.decode()
    assert url in browser.get(f"{SILENCES}{made.pk}/change/").content.decode()
    assert browser.post(url, headers=SCRIPT).json()["reload"]
    assert browser.post(url, headers=SCRIPT).status_code == 409
    made.refresh_from_db()
    assert made.ends == NOW and not is_silent(made, NOW)
    assert url not in browser.get(SILENCES).content.decode()
    assert AuditEntry.objects.filter(action="alert_silence.update").count() == 1


def test_a_window_that_has_not_begun_is_ended_before_it_does():
    made = once(begins=NOW + timedelta(hours=1))
    do_end_silence(people.admin(), made)
    made.refresh_from_db()
    assert (made.begins, made.ends) == (NOW, NOW)
    weekly = {"name": "w", "weekdays": [0], "time_begins": "01:00", "time_ends": "02:00", "zone": "UTC"}
    with pytest.raises(Conflict):
        do_end_silence(people.admin(), do_save_silence(people.admin(), None, weekly))


def test_the_list_tells_how_windows_stand():
    once(name="open")
    once(name="planned", begins=NOW + timedelta(hours=1))
    once(name="past", begins=NOW - timedelta(hours=2), ends=NOW - timedelta(hours=1))
    browser = signed_in(people.admin())
    page = browser.get(SILENCES).content.decode()
    assert page.index(">open<") and all(words in page for words in ("静默中", "未开始", "已结束"))
    current = browser.get(f"{SILENCES}?state=current").content.decode()
    assert ">open<" in current and ">planned<" in current and ">past<" not in current
    over = browser.get(f"{SILENCES}?state=over").content.decode()
    assert ">past<" in over and ">open<" not in over


def test_a_task_is_silenced_from_its_page():
    task, browser = people.task("nightly"), signed_in(people.admin())
    url = f"{SILENCES}for/task/{task.pk}/4/"
    assert url in browser.get(f"/console/tasks_app/task/{task.pk}/detail/").content.decode()
    assert browser.post(url, headers=SCRIPT).json()["reload"]
    made = AlertSilence.objects.get()
    assert made.ends == NOW + timedelta(hours=4) and list(made.tasks.all()) == [task]
    assert made.name in browser.get(f"/console/tasks_app/task/{task.pk}/detail/").content.decode()
    group = people.group()
    url = f"{SILENCES}for/group/{group.pk}/1/"
    assert url in browser.get(f"/console/groups_app/group/{group.pk}/change/").content.decode()
    assert browser.post(url).status_code == 302
    assert list(AlertSilence.objects.latest("pk").groups.all()) == [group]
    for wrong, status in (
        (f"for/task/{task.pk}/9999/", 400),
        ("for/task/99/1/", 404),
        ("for/host/1/1/", 404),
    ):
        assert browser.post(SILENCES + wrong, headers=SCRIPT).status_code == status
    assert browser.get(url).status_code == 405
    with pytest.raises(InvalidInput):
        do_silence_for(people.admin(), task, 0)


def test_whoever_may_not_silence_is_refused():
    task, developer = people.task("nightly"), member("developer")
    url = f"{SILENCES}for/task/{task.pk}/4/"
    browser = signed_in(developer)
    assert url not in browser.get(f"/console/tasks_app/task/{task.pk}/detail/").content.decode()
    assert browser.post(url, headers=SCRIPT).status_code == 403
    stranger = people.stranger()
    assign_perm("executions_app.add_alertsilence", stranger)
    assert signed_in(stranger).post(url, headers=SCRIPT).status_code == 404
    assert not AlertSilence.objects.exists()


def test_an_alert_is_silenced_from_its_row():
    one = alert("nightly")
    page = signed_in(people.admin()).get("/console/executions_app/alert/").content.decode()
    assert f"{SILENCES}for/task/{one.task_id}/24/" in page
    user = people.stranger()
    assign_perm("tasks_app.view_task", user, people.Task.objects.get())
    assert "/for/task/" not in signed_in(user).get("/console/executions_app/alert/").content.decode()


def test_a_tasks_page_shows_the_rules_that_apply_to_it():
    task, other = people.task("nightly"), people.task("other", group_ids=[people.group("db").pk])
    rule("failure", name="everything")
    rule("failure", name="this task", scope="tasks", task_ids=[task.pk])
    rule("timeout", name="its group", scope="groups", group_ids=[people.group().pk])
    rule("failure", name="another task", scope="tasks", task_ids=[other.pk])
    rule("failure", name="another group", scope="groups", group_ids=[people.group("db").pk])
    rule("agent_offline", name="only hosts")
    browser = signed_in(people.admin())
    alerts = browser.get(f"/console/tasks_app/task/{task.pk}/detail/").context["alerts"]
    names = {found.name for found in alerts["rules"]}
    assert names == {"everything", "this task", "its group"}
    assert alerts["add_url"].endswith(f"?task={task.pk}") and alerts["open_count"] == 0
    alerts = browser.get(f"/console/groups_app/group/{people.group('db').pk}/change/").context["alerts"]
    names = {found.name for found in alerts["rules"]}
    assert names == {"everything", "another group", "only hosts"}
    everywhere = people.task("everywhere", is_global=True, group_ids=[])
    alerts = browser.get(f"/console/tasks_app/task/{everywhere.pk}/detail/").context["alerts"]
    assert {"its group", "another group"} <= {found.name for found in alerts["rules"]}


def test_a_tasks_page_shows_open_alerts_and_nothing_to_whoever_may_not_see_rules():
    one = alert("nightly")
    url = f"/console/tasks_app/task/{one.task_id}/detail/"
    assert signed_in(people.admin()).get(url).context["alerts"]["open_count"] == 1
    assert signed_in(member("viewer")).get(url).context["alerts"] is None


def test_a_weekly_window_is_open_on_a_tasks_page_only_in_its_hours():
    task = people.task("nightly")
    weekly = {"name": "w", "weekdays": [0], "time_begins": "11:00", "time_ends": "13:00", "zone": "UTC"}
    do_save_silence(people.admin(), None, weekly)
    browser, url = signed_in(people.admin()), f"/console/tasks_app/task/{task.pk}/detail/"
    assert [row.name for row in browser.get(url).context["alerts"]["silences"]] == ["w"]
    AlertSilence.objects.update(time_begins="13:00", time_ends="14:00")
    assert browser.get(url).context["alerts"]["silences"] == []
