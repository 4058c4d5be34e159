"""A change of a task between its firing's being sent out and its time loses nothing and runs nothing wrong."""

from datetime import timedelta

import pytest
import time_machine
from quartzflow_agent import schedule
from quartzflow_agent.protocol import task_pb2 as pb

from executions_app import control, ingest
from executions_app.choices import FailureReason
from executions_app.dispatch import Firing, fire
from executions_app.ingest import Progress
from executions_app.instructions import instruction, load_tasks
from executions_app.models import Execution
from executions_app.sweeps import expire_overdue, pending_for_bridge
from executions_app.tasks import fire_one
from groups_app import presence
from groups_app.models import Client
from quartzflow.execution_status import ExecutionStatus
from tasks_app import configs
from tasks_app.models import Task
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")
NOON = people.at(2026, 3, 1, 12, 0)
AHEAD = NOON - timedelta(seconds=1)


@pytest.fixture
def clock():
    with time_machine.travel(NOON - timedelta(minutes=10), tick=False) as traveller:
        yield traveller


def waiting(clock, **fields):
    """A task, and its execution at noon, one second ahead."""
    people.online_client()
    task = people.task(**fields)
    clock.move_to(AHEAD)
    (execution,) = fire([Firing(task.pk, NOON)])
    return Task.objects.get(pk=task.pk), execution


def edit(task, **fields):
    control.do_update_task(people.admin(), task, fields)
    return Execution.objects.get()


def test_what_is_still_on_the_schedule_runs_by_the_new_definition(clock):
    task, _ = waiting(clock)
    row = edit(task, executor_config={"command": "uptime"}, timeout=20, retry_count=2, retry_interval=7)
    assert (row.status, row.timeout, row.max_retries, row.retry_interval) == (1, 20, 2, 7)
    assert row.task_version == task.version == 2
    ((_, message),) = pending_for_bridge(people.BRIDGE, NOON + timedelta(seconds=5))
    assert (message.executor_config["command"], message.task_version) == ("uptime", 2)


@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [
        ({}, {"cron_expr": "0 * * * *"}, True),  # both have noon
        ({}, {"cron_expr": "30 * * * *"}, False),
        ({}, {"timezone": "UTC"}, True),
        ({}, {"schedule_type": "none", "cron_expr": ""}, False),
        ({}, {"end_at": NOON - timedelta(seconds=1)}, False),
        (
            {"schedule_type": "fixed_rate", "cron_expr": "", "interval_seconds": 60},
            {"misfire_grace": 60},
            True,
        ),
        (
            {"schedule_type": "fixed_rate", "cron_expr": "", "interval_seconds": 60},
            {"interval_seconds": 7},
            False,
        ),
        (
            {"schedule_type": "fixed_delay", "cron_expr": "", "interval_seconds": 60},
            {"interval_seconds": 7},
            False,
        ),
        ({"schedule_type": "fixed_delay", "cron_expr": "", "interval_seconds": 60}, {"timeout": 20}, True),
    ],
)
def test_what_a_new_schedule_does_not_have_is_cancelled(clock, before, after, stays):
    task, _ = waiting(clock, **before)
    row = edit(task, **after)
    assert row.failure_reason == ("" if stays else FailureReason.TASK_CHANGED)


def test_what_was_due_before_the_edit_is_left_alone(clock):
    task, _ = waiting(clock)
    clock.move_to(NOON + timedelta(seconds=1))
    assert edit(task, cron_expr="30 * * * *").status == ExecutionStatus.PENDING


def test_a_host_that_is_no_longer_meant_does_not_run_it(clock):
    task, _ = waiting(clock)
    row = edit(task, group_ids=[people.group("db").pk])
    assert row.failure_reason == FailureReason.TASK_CHANGED


@pytest.mark.parametrize(
    ("selector", "status"),
    [({"env": "prod"}, ExecutionStatus.PENDING), ({"env": "test"}, ExecutionStatus.CANCELLED)],
)
def test_a_host_without_the_labels_that_are_meant_now_does_not_run_it(clock, selector, status):
    task, _ = waiting(clock)
    Client.objects.update(labels={"env": "prod"})
    row = edit(task, selector=selector)
    assert row.status == status
    assert row.failure_reason == ("" if status == ExecutionStatus.PENDING else FailureReason.TASK_CHANGED)


def test_a_changed_spread_moves_what_waits(clock):
    task, before = waiting(clock, spread_seconds=600)
    assert 0 < before.delay_ms == schedule.spread_delay_ms(task.pk, "web-1", 600) < 600_000
    assert configs.task_config(task).spread_seconds == 600
    assert instruction(before, load_tasks({task.pk})[task.pk]).delay_ms == before.delay_ms
    assert edit(task, spread_seconds=0).delay_ms == 0


def test_a_run_by_hand_and_another_attempt_are_not_delayed(clock):
    task, row = waiting(clock, spread_seconds=600)
    (by_hand,) = control.do_trigger_task(people.admin(), task)
    assert by_hand.delay_ms == 0
    row.next_retry_at, row.retry_count = NOON, 1
    assert instruction(row, load_tasks({task.pk})[task.pk]).delay_ms == 0


def test_a_lost_host_has_its_share_of_the_spread_before_it_is_given_up(clock):
    _, row = waiting(clock, spread_seconds=3600, timeout=10)
    Execution.objects.update(accepted_at=NOON)
    presence.mark_offline([("web-1", "s1")], "gone")
    clock.move_to(NOON + timedelta(seconds=69, milliseconds=row.delay_ms))
    assert expire_overdue() == 0
    clock.shift(2)
    assert expire_overdue() == 1


def test_a_host_that_moved_with_the_task_still_runs_it(clock):
    task, _ = waiting(clock)
    Client.objects.update(group=people.group("db"))
    assert edit(task, group_ids=[people.group("db").pk]).status == ExecutionStatus.PENDING


def test_a_firing_of_the_old_schedule_that_comes_late_is_dropped(clock):
    people.online_client()
    task = people.task()
    clock.move_to(AHEAD)
    control.do_update_task(people.admin(), task, {"cron_expr": "30 * * * *"})
    assert fire([Firing(task.pk, NOON)]) == []
    assert len(fire([Firing(task.pk, NOON + timedelta(minutes=30))])) == 1
    assert len(fire([Firing(task.pk, NOON - timedelta(minutes=1))])) == 1  # was due before the edit


def test_disabling_also_ends_what_waits_for_its_next_attempt(clock):
    task, _ = waiting(clock)
    Execution.objects.update(status=ExecutionStatus.RUNNING, retry_count=1, next_retry_at=NOON)
    control.do_disable_tasks(people.admin(), [task])
    assert Execution.objects.get().failure_reason == FailureReason.TASK_DISABLED


def test_an_agent_that_starts_what_was_cancelled_is_told_again(clock, monkeypatch):
    _, execution = waiting(clock)
    control.do_cancel_executions(people.admin(), [execution])
    told = []
    monkeypatch.setattr(ingest, "send_cancels", told.extend)
    started = pb.TaskProgress(
        execution_id=execution.execution_id, status=pb.RUNNING, started_at=int(NOON.timestamp() * 1000)
    )
    ingest.ingest([Progress("web-1", started)])
    assert told == [("web-1", execution.execution_id, "cancelled_by_user")]
    assert Execution.objects.get().status == ExecutionStatus.CANCELLED


def test_agents_learn_since_when_the_schedule_counts(clock):
    task = people.task()
    begun = int((NOON - timedelta(minutes=10)).timestamp() * 1000)
    assert configs.task_config(task).schedule_since == begun
    clock.move_to(NOON)
    control.do_update_task(people.admin(), task, {"timeout": 20, "misfire_policy": "skip"})
    assert configs.task_config(Task.objects.get()).schedule_since == begun
    control.do_update_task(people.admin(), task, {"cron_expr": "0 3 * * *"})
    assert configs.task_config(Task.objects.get()).schedule_since == int(NOON.timestamp() * 1000)
    clock.shift(60)
    control.do_disable_tasks(people.admin(), [task])
    control.do_enable_tasks(people.admin(), [task])
    assert Task.objects.get().schedule_since == NOON + timedelta(minutes=1)


def test_the_task_that_a_periodic_row_names_fires_now(clock):
    people.online_client()
    task = people.task()
    fire_one(task.pk)
    fire_one(task.pk + 1)
    assert Execution.objects.get().task_id == task.pk
