"""Test runs of definitions that are not stored yet."""

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from executions_app import trials
from executions_app.models import Execution
from quartzflow import bridges
from quartzflow.errors import Conflict, InvalidInput, NotAllowed, NotFound
from quartzflow.models import AuditEntry
from tasks_app.models import Task
from tests import people
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db


def draft(**fields):
    return {
        "name": "draft", "executor_config": {"command": "date"}, "cron_expr": "0 0 1 1 *",
        "group_ids": [people.group().pk], **fields,
    }  # fmt: skip


def test_it_runs_what_is_not_stored_on_the_host_chosen(django_capture_on_commit_callbacks, monkeypatch):
    people.online_client("web-1")
    people.online_client("web-2")
    sent = []
    monkeypatch.setattr("quartzflow.bridges.send_all", sent.extend)
    with django_capture_on_commit_callbacks(execute=True):
        made = trials.do_test_run(people.admin(), None, draft(retry_count=3), "web-2")
    assert not Task.objects.exists()
    stored = Execution.objects.get()
    assert (stored.pk, stored.client_id, stored.max_retries) == (made.pk, "web-2", 0)
    ((_bridge, message),) = [item for item in sent if item[1]["type"] == "dispatch"]
    ((client, data),) = bridges.instructions_of(message)
    assert client == "web-2"
    assert b"date" in data
    entry = AuditEntry.objects.get(action="task.test_run")
    assert entry.changes["executor_config"] == {"command": "date"}


def test_a_stored_task_stays_as_it_is():
    people.online_client("web-1")
    task = people.task()
    trials.do_test_run(people.admin(), task, {"executor_config": {"command": "other"}}, "web-1")
    assert Task.objects.get().executor_config == {"command": "date"}
    assert task.executor_config == {"command": "date"}


def test_only_on_hosts_that_the_task_is_for():
    people.online_client("web-1")
    people.online_client("far", people.group("other"))
    for data, host in (
        (draft(), "far"),
        (draft(), "nobody"),
        (draft(selector={"role": "db"}), "web-1"),
    ):
        with pytest.raises(InvalidInput) as error:
            trials.do_test_run(people.admin(), None, data, host)
        assert set(error.value.errors) == {"test_host"}
    trials.do_test_run(people.admin(), None, draft(group_ids=[], is_global=True), "far")


def test_what_could_not_be_stored_does_not_run():
    people.online_client("web-1")
    with pytest.raises(InvalidInput) as error:
        trials.do_test_run(people.admin(), None, draft(cron_expr="61 * * * *", executor_config={}), "web-1")
    assert set(error.value.errors) == {"cron_expr", "executor_config"}
    assert not Execution.objects.exists()


def test_a_host_that_is_offline_is_said_to_be():
    client = people.online_client("web-1")
    type(client).objects.update(status=0)
    with pytest.raises(Conflict):
        trials.do_test_run(people.admin(), None, draft(), "web-1")


def test_it_takes_the_rights_to_store_and_to_run():
    people.online_client("web-1")
    user = people.stranger()
    names = ("add_task", "view_group", "view_client")
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    with pytest.raises(NotAllowed):
        trials.do_test_run(user, None, draft(), "web-1")
    user.user_permissions.add(Permission.objects.get(codename="trigger_task"))
    user = type(user).objects.get(pk=user.pk)
    made = trials.do_test_run(user, None, draft(), "web-1")
    # One's own can be watched and ended without further rights; that of others cannot.
    assert trials.test_run_of(user, made.pk) == made
    with pytest.raises(NotFound):
        trials.test_run_of(people.admin(), made.pk)
    with pytest.raises(NotFound):
        trials.do_cancel_test_run(people.admin(), made.pk)
    trials.do_cancel_test_run(user, made.pk)
    assert Execution.objects.get().cancelled_by == user.username
    with pytest.raises(Conflict):
        trials.do_cancel_test_run(user, made.pk)


def test_it_is_in_the_history_without_a_way_to_a_task():
    people.online_client("web-1")
    made = trials.do_test_run(people.admin(), None, draft(), "web-1")
    page = browser().get(reverse("admin:executions_app_execution_changelist"))
    (row,) = page.context["cl"].result_list
    assert (row.pk, row.menu_items[0]["icon"]) == (made.pk, "square-terminal")
    assert "calendar-clock" not in [item.get("icon") for item in row.menu_items]
    one = browser().get(reverse("admin:executions_app_execution_change", args=[made.pk]))
    assert (one.status_code, one.context["task"]) == (200, None)
