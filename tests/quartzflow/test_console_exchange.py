"""The console's pages of a task's versions, and of import and export."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import translation
from guardian.shortcuts import assign_perm

from executions_app.dispatch import Firing, fire
from executions_app.models import Execution
from tasks_app.actions import do_update_task
from tasks_app.models import Task
from tests import people

pytestmark = pytest.mark.django_db
NEW = b"- {name: new, executor_config: {command: date}, cron_expr: '@daily', groups: [default]}"


@pytest.fixture(autouse=True)
def _english(settings):
    settings.LANGUAGE_CODE = "en"
    with translation.override("en"):
        yield


@pytest.fixture
def page(client):
    client.force_login(people.admin())
    return client


def versions(task):
    return reverse("admin:tasks_app_task_versions", args=[task.pk])


def test_versions_are_listed_and_the_newest_two_are_compared(page, django_assert_max_num_queries):
    task = people.task(executor_config={"command": "a\nb", "env": {"API_TOKEN": "s3cret"}})
    do_update_task(people.admin(), task, {"executor_config": {"command": "a\n<i>"}, "timeout": 20})
    with django_assert_max_num_queries(25):
        text = page.get(versions(task)).content.decode()
    assert "executor_config.command" in text and "+&lt;i&gt;" in text and "s3cret" not in text
    assert page.get(versions(task), {"from": 1, "to": 1}).context["changes"] == []
    assert "no version 9" in page.get(versions(task), {"from": 9, "to": 1}).content.decode()
    Task.objects.get().versions.all().delete()
    assert "No versions yet" in page.get(versions(task)).content.decode()


def test_a_version_is_gone_back_to_by_a_button(page):
    task = people.task()
    do_update_task(people.admin(), task, {"timeout": 20})
    url = reverse("admin:tasks_app_task_restore", args=[task.pk, 1])
    assert url in page.get(versions(task)).content.decode()
    assert page.get(url).status_code == 405
    people.online_client()
    fire([Firing(task.pk, people.at(2026, 1, 1))])
    Execution.objects.update(status=2)
    headers = {"X-Requested-With": "fetch"}
    assert page.post(url, headers=headers).status_code == 409
    assert f"{url}?force=1" in page.get(versions(task)).content.decode()
    answer = page.post(f"{url}?force=1", headers=headers).json()
    assert answer["reload"] and Task.objects.get().timeout == 300
    assert page.post(url, headers=headers).status_code == 409


def test_who_may_only_see_a_task_may_see_its_versions_and_not_go_back(client):
    task, user = people.task(), people.stranger()
    do_update_task(people.admin(), task, {"timeout": 20})
    user.is_staff = True
    user.save()
    client.force_login(user)
    assert client.get(versions(task)).status_code in (302, 404)
    assign_perm("tasks_app.view_task", user, task)
    assert "Restore" not in client.get(versions(task)).content.decode()
    url = reverse("admin:tasks_app_task_restore", args=[task.pk, 1])
    assert client.post(url, headers={"X-Requested-With": "fetch"}).status_code == 403


def send(page, data, name="tasks.yaml", **fields):
    file = SimpleUploadedFile(name, data)
    return page.post(reverse("admin:tasks_app_task_import"), {"file": file, **fields})


def test_a_file_is_shown_first_and_then_taken(page):
    people.group()
    shown = send(page, NEW)
    assert [row.action for row in shown.context["rows"]] == ["created"] and not Task.objects.exists()
    done = page.post(reverse("admin:tasks_app_task_import"), {"key": shown.context["key"]}, follow=True)
    assert "1 created" in done.content.decode() and Task.objects.get().name == "new"
    again = page.post(reverse("admin:tasks_app_task_import"), {"key": shown.context["key"]}, follow=True)
    assert "too old" in again.content.decode()


def test_what_changed_since_the_preview_is_told(page):
    group = people.group()
    shown = send(page, NEW)
    group.name = "other"
    group.save()
    told = page.post(reverse("admin:tasks_app_task_import"), {"key": shown.context["key"]})
    assert [row.action for row in told.context["rows"]] == ["refused"] and not Task.objects.exists()


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"- {name: <b>}", "tasks.yaml", "&lt;b&gt;"),
        (b"{", "tasks.yaml", "not valid YAML"),
        (b"x", "tasks.txt", "must end in"),
        (b" " * (5 * 1024 * 1024 + 1), "tasks.json", "larger than 5 MB"),
        (b"[]", "tasks.json", "holds no tasks"),
    ],
)
def test_a_file_that_cannot_be_taken_says_why(page, data, name, words):
    assert words in send(page, data, name).content.decode()


def test_import_is_for_those_who_may_change_something(client):
    user = people.stranger()
    user.is_staff = True
    user.save()
    client.force_login(user)
    assert client.get(reverse("admin:tasks_app_task_import")).status_code == 403
    assert client.post(reverse("admin:tasks_app_task_export"), {"format": "json"}).status_code == 403


def test_the_list_goes_out_as_it_is_filtered(page):
    people.task("on"), people.task("off", status=0)
    url = reverse("admin:tasks_app_task_export")
    text = page.post(f"{url}?q=on", {"format": "yaml"}).content.decode()
    assert "name: 'on'" in text and "name: 'off'" not in text
    assert page.get(url).status_code == 405
    assert page.post(url, {"format": "pdf"}).status_code == 302
    listed = page.get(reverse("admin:tasks_app_task_changelist")).content.decode()
    assert url in listed and reverse("admin:tasks_app_task_import") in listed
