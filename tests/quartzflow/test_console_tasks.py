"""The console's page and form of one task, without a browser."""

import pytest
from django.urls import reverse
from django.utils import timezone, translation
from guardian.shortcuts import assign_perm

from executions_app.models import Execution
from groups_app.models import Client
from tasks_app.calendars import do_save_calendar
from tasks_app.models import Task
from tests import people
from tests.quartzflow.test_console import browser, execution

pytestmark = pytest.mark.django_db


def detail(task):
    return reverse("admin:tasks_app_task_detail", args=[task.pk])


def test_the_page_says_what_the_task_is_and_how_it_goes():
    client = people.online_client()
    task = people.task(selector={}, labels={"team": "billing"})
    made = execution(task)
    now = timezone.now()
    Execution.objects.filter(pk=made.pk).update(status=3, duration=2000, start_time=now, end_time=now)
    page = browser().get(detail(task))
    assert page.status_code == 200
    assert [figures["success_count"] for _label, _key, figures in page.context["periods"]] == [1, 1]
    assert len(page.context["times"]) == 5
    assert [row.pk for row in page.context["recent"]] == [made.pk]
    assert [(host.client_id, host.holds) for host in page.context["hosts"]] == [("web-1", False)]
    Client.objects.filter(pk=client.pk).update(task_version=task.version)
    assert browser().get(detail(task)).context["behind"] == 0
    assert "team=billing" in page.content.decode()


def test_a_selector_and_what_one_may_see_limit_the_hosts_shown():
    web, db = people.online_client("web-1"), people.online_client("db-1")
    Client.objects.filter(pk=db.pk).update(labels={"role": "db"})
    task = people.task(selector={"role": "db"})
    assert [host.client_id for host in browser().get(detail(task)).context["hosts"]] == ["db-1"]
    user = people.stranger()
    assert browser(user).get(detail(task)).status_code == 404
    assign_perm("tasks_app.view_task", user, task)
    page = browser(user).get(detail(task))
    assert page.context["hosts"] == []
    assert page.context["groups"] == []
    assert not page.context["may_trigger"]
    assert browser(user).post(detail(task), {"params": "A=1"}).status_code == 403
    assert web.client_id not in page.content.decode()


def test_it_runs_with_parameters_on_one_host():
    people.online_client("web-1")
    people.online_client("web-2")
    task = people.task()
    answer = browser().post(detail(task), {"params": "DATE=2026-01-31\nN=5", "host": "web-2"})
    (made,) = Execution.objects.filter(task=task)
    assert answer.headers["Location"] == reverse("admin:executions_app_execution_change", args=[made.pk])
    assert (made.client_id, made.params) == ("web-2", {"DATE": "2026-01-31", "N": "5"})
    answer = browser().post(detail(task), {"params": ""})
    newest = Execution.objects.latest("pk")
    assert answer.headers["Location"] == reverse("admin:executions_app_run", args=[newest.run_id])


@pytest.mark.parametrize("text", ["no separator", "1x=2", "A-B=1"])
def test_parameters_that_cannot_be_are_said_at_the_field(text):
    people.online_client()
    task = people.task()
    page = browser().post(detail(task), {"params": text})
    assert page.context["form"].errors["params"]
    assert not Execution.objects.exists()


def form_of(**fields):
    """What the form of a new task sends, as a browser fills it in."""
    page = browser().get(reverse("admin:tasks_app_task_add"))
    sent = {name: field.value() for name, field in ((f.name, f) for f in page.context["form"])}
    sent = {n: v for n, v in sent.items() if v is not None and v is not False and v not in ({}, [])}
    sent |= {
        "name": "made", "cron_expr": "0 2 * * *", "config_command": "date", "group_ids": [people.group().pk], **fields,
    }  # fmt: skip
    return sent


def test_the_form_keeps_every_field_that_it_shows():
    people.group()
    calendar = do_save_calendar(
        people.admin(), {"name": "China", "timezone": "Asia/Shanghai", "rules": {"working_days": "china"}}
    )
    answer = browser().post(
        reverse("admin:tasks_app_task_add"),
        form_of(
            labels="team=billing",
            selector="env=prod\nrole=web, db",
            offline_policy="wait",
            retry_max_interval=600,
            calendar_id=calendar.pk,
            calendar_mode="only_on",
        ),
    )
    assert answer.status_code == 302, answer.context["form"].errors
    task = Task.objects.get()
    assert task.labels == {"team": "billing"}
    assert task.selector == {"env": "prod", "role": ["web", "db"]}
    assert (task.offline_policy, task.retry_max_interval) == ("wait", 600)
    assert (task.calendar, task.calendar_mode) == (calendar, "only_on")
    page = browser().get(reverse("admin:tasks_app_task_change", args=[task.pk])).content.decode()
    assert "role=web, db" in page


def test_the_preview_keeps_to_the_calendar():
    calendar = do_save_calendar(
        people.admin(), {"name": "week", "timezone": "UTC", "rules": {"working_days": "week"}}
    )
    query = {"schedule_type": "cron", "cron_expr": "0 0 * * *", "timezone": "UTC", "misfire_policy": "skip"}
    url = reverse("admin:tasks_app_task_preview")
    query |= {"calendar_id": calendar.pk, "calendar_mode": "only_on"}
    times = [timezone.datetime.fromisoformat(t) for t in browser().get(url, query).json()["times"]]
    assert len(times) == 5
    assert all(time.isoweekday() <= 5 for time in times)
    query["calendar_mode"] = "not_on"
    times = [timezone.datetime.fromisoformat(t) for t in browser().get(url, query).json()["times"]]
    assert all(time.isoweekday() > 5 for time in times)


def test_settings_are_named_and_written_as_the_form_has_them():
    config = {"command": "date", "interpreter": "/bin/sh", "env": {"TZ": "UTC", "LANG": "C"}}
    page = browser().get(detail(people.task(executor_config=config)))
    with translation.override("zh-hans"):
        shown = [(str(label), words) for label, words in page.context["settings"]]
    assert shown == [("解释器", "/bin/sh"), ("环境变量", "TZ=UTC\nLANG=C")]
