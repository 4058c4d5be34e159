"""Tasks are written whole or not at all, and every change has a version."""

import pytest
from django_celery_beat.models import PeriodicTask
from guardian.shortcuts import assign_perm

from executions_app.dispatch import Firing, fire
from executions_app.models import Execution
from groups_app.actions import do_delete_group, do_save_group
from groups_app.models import Group
from quartzflow.errors import Conflict, InvalidInput, NotAllowed, NotFound
from tasks_app import actions, configs
from tasks_app.models import ConfigChange, Task, TaskGroup
from tests import people

pytestmark = pytest.mark.django_db


def test_a_new_task_has_everything_that_belongs_to_it():
    task = people.task("日志清理", cron_expr="0 2 * * *", description="清理过期日志")
    assert task.version == configs.current_version() == 1
    row = PeriodicTask.objects.get()
    assert (row.name, row.enabled, row.crontab.hour) == (f"task:{task.pk}", True, "2")
    assert task.created_by == "admin" and task.owner == people.admin()
    assert ConfigChange.objects.get().group_ids == [people.group().pk]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"timeout": 9}, "timeout"),
        ({"timeout": 3601}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"retry_count": -1}, "retry_count"),
        ({"executor_type": 9}, "executor_type"),
        ({"executor_config": {}}, "executor_config"),
        ({"executor_config": []}, "executor_config"),
        ({"executor_config": {"command": "a\0b"}}, "executor_config"),
        ({"executor_config": {"command": "x", "env": {"QF_X": "1"}}}, "executor_config"),
        ({"executor_config": {"command": "x", "env": {"1": "1"}}}, "executor_config"),
        ({"executor_config": {"command": "x", "work_dir": "relative"}}, "executor_config"),
        ({"executor_config": {"command": "x", "sudo": "yes"}}, "executor_config"),
        ({"executor_type": 2, "executor_config": {"url": "file:///etc/passwd"}}, "executor_config"),
        (
            {"executor_type": 2, "executor_config": {"url": "http://x", "headers": {"a b": "c"}}},
            "executor_config",
        ),
        ({"cron_expr": ""}, "cron_expr"),
        ({"cron_expr": "61 * * * *"}, "cron_expr"),
        ({"cron_expr": "0 0 30 2 *"}, "cron_expr"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"schedule_type": "fixed_rate"}, "interval_seconds"),
        ({"schedule_type": "once"}, "run_at"),
        ({"schedule_type": "sometimes"}, "schedule_type"),
        ({"group_ids": []}, "group_ids"),
        ({"group_ids": [99999]}, "group_ids"),
        ({"group_ids": "1"}, "group_ids"),
        ({"labels": {"a": 1}}, "labels"),
        ({"created_by": "somebody"}, "created_by"),
        ({"version": 5}, "version"),
        ({"start_at": people.at(2026, 2, 1), "end_at": people.at(2026, 1, 1)}, "end_at"),
        ({"end_at": [None, None]}, "end_at"),
        ({"start_at": 5}, "start_at"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_written(fields, wrong):
    with pytest.raises(InvalidInput) as error:
        people.task(**fields)
    assert list(error.value.errors) == [wrong]
    assert not Task.objects.exists() and not PeriodicTask.objects.exists()


def test_names_are_unique():
    people.task("job")
    with pytest.raises(InvalidInput) as error:
        people.task("job")
    assert "name" in error.value.errors


def test_an_edit_is_refused_while_the_task_executes_unless_forced():
    people.online_client()
    task = people.task()
    fire([Firing(task.pk, people.at(2026, 1, 1))])
    Execution.objects.update(status=2)
    with pytest.raises(Conflict):
        actions.do_update_task(people.admin(), task, {"timeout": 20})
    assert Task.objects.get().timeout == 300
    actions.do_update_task(people.admin(), Task.objects.get(), {"timeout": 20}, force=True)
    assert Task.objects.get().timeout == 20


def test_a_new_schedule_begins_now_and_another_edit_keeps_the_old_one_going():
    task = people.task()
    PeriodicTask.objects.update(last_run_at=people.at(2026, 1, 1))
    actions.do_update_task(people.admin(), task, {"description": "x"})
    assert PeriodicTask.objects.get().last_run_at == people.at(2026, 1, 1)
    actions.do_update_task(people.admin(), task, {"cron_expr": "0 3 * * *"})
    row = PeriodicTask.objects.get()
    assert (row.last_run_at, row.crontab.hour) == (None, "3")


def test_unbinding_reaches_the_hosts_that_held_the_task():
    web, db = people.group("web"), people.group("db")
    task = people.task(group_ids=[web.pk])
    actions.do_update_task(people.admin(), task, {"group_ids": [db.pk]})
    assert ConfigChange.objects.last().group_ids == sorted([web.pk, db.pk])
    assert configs.group_delta(web.pk, 1).deleted_task_ids == [str(task.pk)]
    assert [t.id for t in configs.group_delta(db.pk, 1).tasks] == [str(task.pk)]


def test_an_agent_gets_what_changed_or_everything():
    people.online_client()
    first = people.task("a")
    second = people.task("b")
    full = configs.config_delta("web-1", 0)
    assert (full.action, full.version, [t.name for t in full.tasks]) == (3, 2, ["b", "a"])
    assert [t.name for t in configs.config_delta("web-1", 1).tasks] == ["b"]
    assert configs.config_delta("web-1", 2).action == 1 and not configs.config_delta("web-1", 2).tasks
    actions.do_delete_tasks(people.admin(), [first])
    delta = configs.config_delta("web-1", 2)
    assert (list(delta.deleted_task_ids), delta.version) == ([str(first.pk)], 3)
    # From the future (another server's database, a restored backup), and too long ago: everything.
    assert configs.config_delta("web-1", 99).action == 3
    ConfigChange.objects.filter(version__lt=3).delete()
    assert configs.config_delta("web-1", 1).action == 3
    configs.record_client_changes(["web-1"])
    assert configs.config_delta("web-1", 3).action == 3
    assert [t.name for t in configs.config_delta("web-1", 3).tasks] == [second.name]


def test_enable_and_disable_change_only_what_is_not_so_yet():
    task = people.task()
    assert actions.do_set_enabled(people.admin(), [task], False) == 1
    assert not PeriodicTask.objects.get().enabled
    assert actions.do_set_enabled(people.admin(), [task], False) == 0
    assert ConfigChange.objects.count() == 2


def test_once_expires():
    task = people.task(schedule_type="once", cron_expr="", run_at=people.at(2030, 1, 1))
    other = people.task("other")
    assert actions.expire_once([task.pk, other.pk]) == 1
    assert not Task.objects.get(pk=task.pk).is_enabled
    assert Task.objects.get(pk=other.pk).is_enabled


def test_expressions_that_celery_cannot_say_are_kept_all_the_same():
    for expression in ("*/5 * * * * *", "0 0 L * *", "0 9 * * 1#1", "@daily"):
        task = people.task(expression, cron_expr=expression)
        assert task.schedule_spec().next_after(people.at(2026, 1, 1)) is not None
        assert task.periodic_task.crontab is not None


def test_a_task_without_schedule_has_no_periodic_task():
    task = people.task()
    actions.do_update_task(people.admin(), task, {"schedule_type": "none", "cron_expr": ""})
    assert not PeriodicTask.objects.exists()
    assert Task.objects.get().periodic_task is None


def test_deleting_a_task_keeps_its_history_readable():
    people.online_client()
    task = people.task()
    fire([Firing(task.pk, people.at(2026, 1, 1))])
    actions.do_delete_tasks(people.admin(), [task])
    assert not Task.objects.exists() and not PeriodicTask.objects.exists() and not TaskGroup.objects.exists()
    assert Execution.objects.get().task_name == "job"


def test_a_group_with_tasks_cannot_be_deleted():
    task = people.task()
    with pytest.raises(Conflict, match="job"):
        do_delete_group(people.admin(), people.group())
    actions.do_delete_tasks(people.admin(), [task])
    do_delete_group(people.admin(), people.group())
    assert not Group.objects.exists()


def test_group_fields_are_checked():
    group = do_save_group(people.admin(), {"name": "prod", "tags": ["a", "b"]})
    assert group.tag_list == ["a", "b"]
    for data, field in (({"name": "prod"}, "name"), ({"name": ""}, "name"), ({"name": "x", "id": 7}, "id")):
        with pytest.raises(InvalidInput) as error:
            do_save_group(people.admin(), data)
        assert field in error.value.errors


def test_rights_are_per_object():
    user, task = people.stranger(), people.task()
    with pytest.raises(NotAllowed):
        actions.do_create_task(user, {"name": "x"})
    with pytest.raises(NotFound):
        actions.do_update_task(user, task, {"timeout": 20})
    assign_perm("tasks_app.view_task", user, task)
    with pytest.raises(NotAllowed):
        actions.do_update_task(user, task, {"timeout": 20})
    assign_perm("tasks_app.change_task", user, task)
    # guardian caches what a user object may do; a request has a new one.
    user = type(user).objects.get(pk=user.pk)
    actions.do_update_task(user, task, {"timeout": 20})
    with pytest.raises(InvalidInput) as wrong:  # binding to a group one may not see
        actions.do_update_task(user, task, {"group_ids": [people.group("secret").pk]})
    assert list(wrong.value.errors) == ["group_ids"]
