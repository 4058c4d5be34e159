"""Everything that people do with tasks and executions is in the audit trail, once, with what changed."""

import pytest

from executions_app import control
from executions_app.dispatch import Firing, fire
from quartzflow import audit
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.models import AuditEntry
from tasks_app import actions
from tasks_app.models import Task
from tests import people

pytestmark = pytest.mark.django_db


def trail():
    entries = AuditEntry.objects.filter(action__regex="^(task|execution)[.]").order_by("pk")
    return [(entry.actor_name, entry.action, entry.changes) for entry in entries]


def test_the_life_of_a_task():
    people.online_client()
    user = people.admin()
    secret = {"command": "x", "env": {"API_TOKEN": "t0ps3cret"}}
    task = people.task(executor_config=secret)
    control.do_update_task(user, task, {"timeout": 20, "group_ids": [people.group("web").pk]})
    control.do_disable_tasks(user, [task])
    control.do_disable_tasks(user, [task])
    control.do_enable_tasks(user, [task])
    task = control.do_update_task(user, Task.objects.get(), {"timeout": 20})
    control.do_trigger_task(user, task, {"day": "1", "password": "hunter2"})
    control.do_delete_tasks(user, [task])
    found = trail()
    assert [action for _, action, _ in found] == [
        "task.create", "task.update", "task.disable", "task.enable", "task.trigger", "task.delete",
    ]  # fmt: skip
    assert found[1][2] == {"timeout": [300, 20], "groups": [["default"], ["web"]]}
    assert found[4][2]["params"] == {"day": "1", "password": audit.MASK}
    assert "t0ps3cret" not in str(found)
    assert "hunter2" not in str(found)
    assert {actor for actor, _, _ in found} == {"admin"}
    assert list(audit.verify()) == []


def test_what_is_refused_leaves_no_entry():
    people.online_client()
    task = people.task()
    before = trail()
    with pytest.raises(InvalidInput):
        control.do_update_task(people.admin(), task, {"timeout": 1})
    with pytest.raises(InvalidInput):
        control.do_trigger_task(people.admin(), Task.objects.get(), {"a b": 1})
    assert trail() == before


def test_a_cancel_names_what_it_ended():
    people.online_client()
    rows = fire([Firing(people.task().pk, people.at(2026, 3, 1, 12, 0))])
    control.do_cancel_executions(people.admin(), rows)
    with pytest.raises(Conflict):
        control.do_cancel_executions(people.admin(), rows)
    assert trail()[-1] == ("admin", "execution.cancel", {"count": 1, "executions": [rows[0].execution_id]})


def test_a_task_that_expires_by_itself_is_the_systems_doing():
    task = people.task(schedule_type="once", cron_expr="", run_at=people.at(2030, 1, 1))
    actions.expire_once([task.pk])
    assert trail()[-1][:2] == ("system", "task.disable")
