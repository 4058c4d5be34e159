"""The tables are compared with each other, and mended."""

import io
import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from guardian.models import UserObjectPermission
from guardian.shortcuts import assign_perm

from executions_app.choices import ExecutionType
from executions_app.consistency import CHECKS, check_all
from executions_app.dispatch import fire, new_firing
from executions_app.models import DependencyEvent, Execution
from groups_app.models import Bridge, Client, Group
from quartzflow.execution_status import ExecutionStatus
from quartzflow.models import AuditEntry, AuditHead
from tasks_app.models import ConfigVersion, Task, TaskGroup
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")


def execution(**fields):
    Client.objects.exists() or people.online_client()
    task = Task.objects.first() or people.task()
    (made,) = fire([new_firing(task, ExecutionType.MANUAL)])
    Execution.objects.filter(pk=made.pk).update(**fields)
    return made


def break_schedule_row_missing():
    Task.objects.filter(pk=people.task().pk).update(periodic_task=None)
    PeriodicTask.objects.filter(name__startswith="task:").delete()


def break_schedule_row_orphaned():
    PeriodicTask.objects.create(
        name="task:99", task="executions_app.tasks.fire", interval=people.task().periodic_task.interval,
        crontab=people.task("b").periodic_task.crontab,
    )  # fmt: skip


def break_schedule_row_switched():
    PeriodicTask.objects.filter(pk=people.task().periodic_task_id).update(enabled=False)


def break_config_version():
    people.task()
    ConfigVersion.objects.update(version=0)


def break_task_nowhere():
    people.task()
    TaskGroup.objects.all().delete()


def break_execution_stray():
    execution()
    Client.objects.update(group=people.group("web"))


def break_execution_task():
    execution(task_id=999)


def break_execution_host():
    execution()
    Client.objects.all().delete()


def break_execution_end():
    execution(status=ExecutionStatus.SUCCESS, end_time=None)


def break_dependency_event():
    DependencyEvent.objects.create(task_id=99, parent_id=1, run_id="r", status=ExecutionStatus.SUCCESS)


def break_host_bridge():
    people.online_client()
    Bridge.objects.all().delete()


def break_permission():
    gone = people.group("gone")
    assign_perm("groups_app.view_group", people.stranger(), gone)
    assign_perm("groups_app.view_group", people.stranger(), people.group("stays"))
    Group.objects.filter(pk=gone.pk)._raw_delete("default")


def break_audit():
    people.task()
    AuditHead.objects.update(hash="0" * 64)


BREAKS = {name.removeprefix("break_"): work for name, work in globals().items() if name.startswith("break_")}


def test_every_check_but_that_of_the_file_is_tested():
    assert {check.name for check in CHECKS} - {"database"} == set(BREAKS)


def test_a_sound_installation_passes():
    execution()
    execution(status=ExecutionStatus.SUCCESS, end_time=timezone.now() - timedelta(hours=1))
    assert check_all() == []


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_wrong_is_found_and_mended_once(name):
    BREAKS[name]()
    (found,) = check_all()
    assert (found.check, found.fixed, len(found.examples)) == (name, False, found.count)
    again = check_all(fix=True)
    assert [one.check for one in again] == [name]
    if found.fixable:
        assert check_all() == []
        entry = AuditEntry.objects.get(action="consistency.fix")
        assert (entry.changes["check"], entry.changes["count"]) == (name, found.count)
    else:
        assert not again[0].fixed
        assert check_all()


def test_rights_of_objects_that_are_there_stay():
    break_permission()
    check_all(fix=True)
    assert UserObjectPermission.objects.count() == 1


def call(*arguments):
    out = io.StringIO()
    code = 0
    try:
        call_command("check_consistency", *arguments, stdout=out)
    except SystemExit as end:
        code = end.code
    return code, out.getvalue()


def test_the_command_tells_by_its_exit_status():
    assert call() == (0, f"{len(CHECKS)} checks, nothing found\n")
    assert call("--json") == (0, "[]\n")
    break_host_bridge()
    break_task_nowhere()
    code, text = call()
    assert code == 1
    assert "host_bridge: hosts are online on bridges that are gone (1; --fix mends it)" in text
    code, text = call("--fix", "--json")
    assert code == 1
    assert {one["check"]: one["fixed"] for one in json.loads(text)} == {
        "host_bridge": True,
        "task_nowhere": False,
    }
    Task.objects.update(is_global=True)
    assert call()[0] == 0
