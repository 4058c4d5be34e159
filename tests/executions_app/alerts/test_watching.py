"""The short way to a task's alerts: its form says who is told when it fails or times out."""

import pytest
from django.urls import reverse

from executions_app.alerts.models import AlertRule
from executions_app.alerts.watching import do_watch_task, told
from quartzflow.errors import InvalidInput, NotAllowed
from tasks_app.console.forms import TaskForm
from tasks_app.models import Task
from tests import people

from .conftest import Receiver, rule, webhook
from .test_pages import signed_in
from .test_setup_pages import member

pytestmark = pytest.mark.django_db


def sent(**fields):
    """What the browser sends for a task."""
    values = {**TaskForm.defaults(), "name": "nightly", "cron_expr": "@daily", "config_command": "date"}
    values = {name: value for name, value in values.items() if value is not None and value is not False}
    return {**values, "enabled": "on", "group_ids": [people.group().pk], **fields}


def rules() -> list[tuple[str, str, list[str]]]:
    found = AlertRule.objects.order_by("kind")
    return [(row.name, row.kind, [channel.name for channel in row.channels.all()]) for row in found]


def test_a_new_tasks_form_makes_its_rules(receiver: Receiver):
    hook, browser = webhook(receiver), signed_in(people.admin())
    assert b"tell_channel_ids" in browser.get(reverse("admin:tasks_app_task_add")).content
    answer = browser.post(reverse("admin:tasks_app_task_add"), sent(tell_channel_ids=[hook.pk]))
    assert answer.status_code == 302, answer.context["form"].errors
    task = Task.objects.get()
    assert rules() == [("nightly 执行失败", "failure", ["hook"]), ("nightly 执行超时", "timeout", ["hook"])]
    assert told(task) == [hook.pk]
    form = TaskForm(people.admin(), None, like=task)
    assert form["tell_channel_ids"].value() == [hook.pk]


def test_an_edit_changes_the_rules_that_are_the_tasks_own(receiver: Receiver):
    hook, other = webhook(receiver), webhook(receiver, name="other")
    browser, task = signed_in(people.admin()), people.task("nightly")
    mine = rule("failure", hook, name="by hand", scope="tasks", task_ids=[task.pk], severity="critical")
    both = [task.pk, people.task("second").pk]
    rule("failure", hook, name="of two", scope="tasks", task_ids=both)
    url = reverse("admin:tasks_app_task_change", args=[task.pk])
    page = browser.get(url)
    assert page.context["form"]["tell_channel_ids"].value() == [hook.pk]
    assert browser.post(url, sent(tell_channel_ids=[hook.pk])).status_code == 302
    assert AlertRule.objects.count() == 2  # nothing to change
    assert browser.post(url, sent(tell_channel_ids=[other.pk])).status_code == 302
    assert rules() == [
        ("by hand", "failure", ["other"]), ("of two", "failure", ["hook"]), ("nightly 执行超时", "timeout", ["other"]),
    ]  # fmt: skip
    mine.refresh_from_db()
    assert mine.severity == "critical"
    assert browser.post(url, sent()).status_code == 302
    assert told(task) == [] and AlertRule.objects.count() == 3


def test_without_the_right_or_a_channel_the_form_has_no_such_field(receiver: Receiver):
    add = reverse("admin:tasks_app_task_add")
    assert b"tell_channel_ids" not in signed_in(people.admin()).get(add).content
    hook, developer = webhook(receiver), signed_in(member("developer"))
    assert b"tell_channel_ids" not in developer.get(add).content
    assert developer.post(add, sent(tell_channel_ids=[hook.pk])).status_code == 302
    assert Task.objects.exists() and not AlertRule.objects.exists()
    with pytest.raises(NotAllowed):
        do_watch_task(member("developer"), Task.objects.get(), [hook.pk])


def test_a_task_is_not_saved_without_its_rules(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    hook, browser = webhook(receiver), signed_in(people.admin())
    page = browser.post(reverse("admin:tasks_app_task_add"), sent(tell_channel_ids=["999"]))
    assert list(page.context["form"].errors) == ["tell_channel_ids"]

    # Somebody takes the channel away between the form's look and the action's.
    monkeypatch.setattr("executions_app.alerts.checks.visible", lambda user, queryset: queryset.none())
    page = browser.post(reverse("admin:tasks_app_task_add"), sent(tell_channel_ids=[hook.pk]))
    assert list(page.context["form"].errors) == ["tell_channel_ids"]
    assert not Task.objects.exists() and not AlertRule.objects.exists()


def test_a_name_that_is_taken_gets_the_tasks_number(receiver: Receiver):
    rule("failure", name="nightly 执行失败")
    task, hook = people.task("nightly"), webhook(receiver)
    do_watch_task(people.admin(), task, [hook.pk])
    assert rules()[1][0] == f"nightly 执行失败 #{task.pk}"
    with pytest.raises(InvalidInput) as caught:
        do_watch_task(people.admin(), task, [999])
    assert list(caught.value.errors) == ["channel_ids"]
