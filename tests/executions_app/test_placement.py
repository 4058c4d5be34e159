"""Hosts move between groups, and what they run with them."""

from datetime import timedelta

import pytest
from django.utils import timezone
from guardian.shortcuts import assign_perm
from quartzflow_agent.schedule import uuid7

from executions_app.choices import ExecutionType, FailureReason
from executions_app.dispatch import Firing, fire
from executions_app.models import Execution
from executions_app.placement import do_move_clients
from groups_app.models import Client
from quartzflow.errors import NotAllowed, NotFound
from quartzflow.execution_status import ExecutionStatus
from quartzflow.models import AuditEntry
from tasks_app.configs import config_delta, current_version
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")


def waiting(task) -> Execution:
    (made,) = fire([Firing(task.pk, timezone.now() + timedelta(minutes=1), uuid7())])
    return made


def test_a_host_moves_and_gets_the_tasks_of_its_new_group():
    client = people.online_client()
    old, new = people.task("old"), people.task("new", group_ids=[people.group("web").pk])
    version = current_version()
    assert do_move_clients(people.admin(), [client], people.group("web")) == 1
    assert Client.objects.get().group == people.group("web")
    assert current_version() > version
    held = config_delta(client.client_id, version)
    assert {task.id for task in held.tasks} == {str(new.pk)}
    assert str(old.pk) not in {task.id for task in held.tasks}
    entry = AuditEntry.objects.get(action="client.move")
    assert entry.changes == {"group": ["default", "web"]}


def test_what_waits_of_tasks_left_behind_is_cancelled_and_the_rest_is_not():
    client = people.online_client()
    web = people.group("web")
    left = waiting(people.task("left"))
    both = waiting(people.task("both", group_ids=[people.group().pk, web.pk]))
    everywhere = waiting(people.task("everywhere", is_global=True, group_ids=[]))
    by_hand = waiting(people.task("by hand"))
    Execution.objects.filter(pk=by_hand.pk).update(execution_type=ExecutionType.MANUAL)
    runs = waiting(people.task("runs"))
    Execution.objects.filter(pk=runs.pk).update(status=ExecutionStatus.RUNNING)
    do_move_clients(people.admin(), [client], web)
    states = {e.pk: e.status for e in Execution.objects.all()}
    assert states == {
        left.pk: ExecutionStatus.CANCELLED,
        by_hand.pk: ExecutionStatus.CANCELLED,
        both.pk: ExecutionStatus.PENDING,
        everywhere.pk: ExecutionStatus.PENDING,
        runs.pk: ExecutionStatus.RUNNING,
    }
    left.refresh_from_db()
    assert (left.failure_reason, left.cancelled_by) == (FailureReason.HOST_MOVED, "admin")


def test_what_runs_is_ended_on_demand():
    client = people.online_client()
    runs, stays = waiting(people.task("runs")), waiting(people.task("global", is_global=True, group_ids=[]))
    Execution.objects.update(status=ExecutionStatus.RUNNING)
    do_move_clients(people.admin(), [client], people.group("web"), stop_running=True)
    runs.refresh_from_db()
    stays.refresh_from_db()
    assert (runs.status, runs.failure_reason) == (ExecutionStatus.CANCELLED, FailureReason.HOST_MOVED)
    assert stays.status == ExecutionStatus.RUNNING


def test_a_host_leaves_its_group_and_one_that_is_there_stays():
    client = people.online_client()
    assert do_move_clients(people.admin(), [client], people.group()) == 0
    assert not AuditEntry.objects.filter(action="client.move").exists()
    assert do_move_clients(people.admin(), [client], None) == 1
    assert Client.objects.get().group is None
    assert do_move_clients(people.admin(), [Client.objects.get()], people.group()) == 1


def test_both_groups_must_be_the_users_to_manage():
    client = people.online_client()
    user, web = people.stranger(), people.group("web")
    with pytest.raises(NotFound):
        do_move_clients(user, [client], web)
    assign_perm("groups_app.view_group", user, people.group())
    assign_perm("groups_app.manage_hosts", user, web)
    with pytest.raises(NotAllowed):
        do_move_clients(user, [client], web)
    assign_perm("groups_app.manage_hosts", user, people.group())
    assert do_move_clients(user, [client], web) == 1
    Client.objects.update(group=None)
    with pytest.raises(NotFound):  # one without a group is nobody's but those who may change hosts
        do_move_clients(user, [Client.objects.get()], web)
