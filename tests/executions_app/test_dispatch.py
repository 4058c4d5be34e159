"""Firings become rows once, for the right hosts."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone
from quartzflow_agent.protocol import task_pb2

from executions_app import control
from executions_app.choices import ExecutionType, FailureReason
from executions_app.dispatch import Firing, fire, new_firing
from executions_app.instructions import instruction, load_tasks
from executions_app.models import Execution
from executions_app.sweeps import expire_overdue, pending_for_bridge
from groups_app import presence
from groups_app.models import Client
from quartzflow.errors import Conflict, InvalidInput, NotAllowed, NotFound
from quartzflow.execution_status import ExecutionStatus
from tests import people

pytestmark = pytest.mark.django_db
NOON = people.at(2026, 3, 1, 12, 0)


def test_a_firing_has_one_name_however_often_it_is_fired():
    people.online_client("web-1")
    people.online_client("web-2")
    task = people.task()
    first = fire([Firing(task.pk, NOON)])
    assert [e.execution_id for e in first] == [f"exec_20260301_120000_{task.pk}_web-{n}" for n in (1, 2)]
    assert len({e.run_id for e in first}) == 1
    assert fire([Firing(task.pk, NOON)]) == []
    assert Execution.objects.count() == 2


def test_only_hosts_of_the_tasks_groups_are_meant():
    people.online_client("web-1")
    people.online_client("db-1", people.group("db"))
    task = people.task(group_ids=[people.group("db").pk])
    assert [e.client_id for e in fire([Firing(task.pk, NOON)])] == ["db-1"]
    everywhere = people.task("everywhere", is_global=True, group_ids=[])
    assert [e.client_id for e in fire([Firing(everywhere.pk, NOON)])] == ["db-1", "web-1"]


def test_nobody_online_is_recorded_as_a_failure():
    task = people.task()
    (execution,) = fire([Firing(task.pk, NOON)])
    assert (execution.status, execution.failure_reason) == (
        ExecutionStatus.FAILURE,
        FailureReason.NO_ONLINE_CLIENT,
    )
    assert execution.client_id == ""


def test_a_host_that_was_lost_a_moment_ago_is_still_meant():
    for n in (1, 2):
        people.online_client(f"web-{n}")
    presence.mark_offline([("web-1", "s1")], "bridge restarts")
    every, one = people.task("every"), people.task("one", routing="failover")
    assert [e.client_id for e in fire([Firing(every.pk, NOON)])] == ["web-1", "web-2"]
    assert [e.client_id for e in fire([Firing(one.pk, NOON)])] == ["web-2"]
    presence.mark_offline([("web-2", "s1")], "bridge restarts")
    (row,) = fire([Firing(one.pk, NOON + timedelta(minutes=1))])
    assert (row.client_id, row.status) == ("web-1", ExecutionStatus.PENDING)
    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        (row,) = fire([Firing(every.pk, NOON + timedelta(minutes=2))])
    assert row.failure_reason == FailureReason.NO_ONLINE_CLIENT


def test_disabled_and_deleted_tasks_do_not_fire():
    people.online_client()
    disabled, deleted = people.task("a", status=0), people.task("b")
    control.do_delete_tasks(people.admin(), [deleted])
    assert fire([Firing(disabled.pk, NOON), Firing(deleted.pk, NOON)]) == []


def test_an_edited_task_is_sent_as_it_is_now():
    people.online_client()
    task = people.task()
    fire([Firing(task.pk, NOON)])
    from tasks_app.actions import do_update_task

    do_update_task(people.admin(), task, {"executor_config": {"command": "uptime"}})
    fire([Firing(task.pk, NOON + timedelta(minutes=1))])
    Execution.objects.update(created_at=NOON)
    sent = pending_for_bridge(people.BRIDGE, timezone.now())
    assert {m.executor_config["command"] for _, m in sent} == {"uptime"}
    assert sent[0][1].scheduled_time == int(NOON.timestamp() * 1000)


@pytest.mark.parametrize("routing", ["random", "round_robin", "least_loaded", "consistent_hash", "failover"])
def test_other_routings_choose_one_host_and_the_same_again(routing):
    for n in range(3):
        people.online_client(f"web-{n}")
    task = people.task(routing=routing)
    (execution,) = fire([Firing(task.pk, NOON)])
    assert execution.client_id in {"web-0", "web-1", "web-2"}
    assert fire([Firing(task.pk, NOON)]) == []


def test_random_spreads_what_is_begun_within_one_second():
    for n in range(3):
        people.online_client(f"web-{n}")
    task = people.task(routing="random")
    with time_machine.travel(NOON) as clock:
        begun = []
        for _ in range(20):
            begun += fire([new_firing(task, ExecutionType.MANUAL)])
            clock.shift(timedelta(milliseconds=7))
    assert len({execution.client_id for execution in begun}) > 1


@pytest.mark.parametrize(
    "routing", ["random", "round_robin", "least_loaded", "consistent_hash", "failover", "sharding"]
)
def test_a_repetition_never_chooses_another_host(routing):
    people.online_client("web-1")
    task = people.task(routing=routing)
    assert len(fire([Firing(task.pk, NOON)])) == 1
    for n in (0, 2, 3):
        people.online_client(f"web-{n}")
    presence.mark_offline([("web-1", "s1")], "lost")
    Client.objects.filter(client_id="web-1").update(last_heartbeat=NOON)
    assert fire([Firing(task.pk, NOON), Firing(task.pk, NOON)]) == []
    assert len({e.run_id for e in fire([Firing(task.pk, NOON + timedelta(minutes=1))] * 2)}) == 1


def test_a_repetition_does_not_look_again_for_a_host_but_a_replay_does():
    task = people.task(routing="failover")
    fire([Firing(task.pk, NOON)])
    people.online_client("web-1")
    assert fire([Firing(task.pk, NOON)]) == []
    replay = Firing(task.pk, NOON, execution_type=ExecutionType.REPLAY)
    assert [e.client_id for e in fire([replay])] == ["web-1"]
    assert fire([replay]) == []


def test_the_least_loaded_host_is_known_within_a_batch_and_by_the_table():
    for n in range(3):
        people.online_client(f"web-{n}")
    Client.objects.filter(client_id="web-1").update(running=5)
    fire([Firing(people.task("busy").pk, NOON, client_ids=frozenset({"web-0"}))])
    tasks = [people.task(f"t{n}", routing="least_loaded") for n in range(4)]
    rows = fire([Firing(task.pk, NOON) for task in tasks])
    assert [e.client_id for e in rows] == ["web-2", "web-0", "web-2", "web-0"]


def test_turns_go_on_within_a_batch():
    for n in range(3):
        people.online_client(f"web-{n}")
    task = people.task(routing="round_robin")
    rows = fire([Firing(task.pk, NOON + timedelta(minutes=n)) for n in range(4)])
    assert [e.client_id for e in rows] == ["web-0", "web-1", "web-2", "web-0"]


def test_round_robin_takes_turns():
    for n in range(3):
        people.online_client(f"web-{n}")
    task = people.task(routing="round_robin")
    chosen = [fire([Firing(task.pk, NOON + timedelta(minutes=n))])[0].client_id for n in range(4)]
    assert chosen == ["web-0", "web-1", "web-2", "web-0"]


def test_sharding_numbers_the_hosts():
    people.online_client("web-1")
    people.online_client("web-2")
    rows = fire([Firing(people.task(routing="sharding").pk, NOON)])
    assert [(e.client_id, e.shard_index, e.shard_total) for e in rows] == [("web-1", 0, 2), ("web-2", 1, 2)]
    assert rows[1].execution_id.endswith("_s1")


def test_running_by_hand_works_for_a_disabled_task_and_takes_parameters():
    people.online_client()
    task = people.task(status=0)
    (execution,) = control.do_trigger_task(people.admin(), task, {"day": "星期一", "n": 3, "dry": True})
    assert execution.execution_type == ExecutionType.MANUAL
    assert execution.params == {"day": "星期一", "n": "3", "dry": "true"}
    message = instruction(execution, load_tasks({task.pk})[task.pk])
    assert (message.trigger, dict(message.params)["n"]) == ("manual", "3")


@pytest.mark.parametrize(
    "params", [{"a b": 1}, {"1a": 1}, {"a": None}, {"a": "x\0"}, {"a": "x" * 9000}, [], {"a": {}}]
)
def test_bad_parameters_are_refused(params):
    task = people.task()
    with pytest.raises(InvalidInput) as wrong:
        control.do_trigger_task(people.admin(), task, params or [1])
    assert "params" in wrong.value.errors
    assert not Execution.objects.exists()


def test_a_stranger_cannot_run_cancel_or_even_know():
    people.online_client()
    task = people.task()
    with pytest.raises(NotFound):
        control.do_trigger_task(people.stranger(), task)
    rows = fire([Firing(task.pk, NOON)])
    with pytest.raises(NotFound):
        control.do_cancel_executions(people.stranger(), rows)
    from guardian.shortcuts import assign_perm

    assign_perm("tasks_app.view_task", people.stranger(), task)
    with pytest.raises(NotAllowed):
        control.do_trigger_task(people.stranger(), task)


def test_cancelling_ends_the_row_once():
    people.online_client()
    rows = fire([Firing(people.task().pk, NOON)])
    assert control.do_cancel_executions(people.admin(), rows) == 1
    row = Execution.objects.get()
    assert (row.status, row.failure_reason, row.cancelled_by) == (6, "cancelled_by_user", "admin")
    with pytest.raises(Conflict):
        control.do_cancel_executions(people.admin(), rows)


def test_disabling_drops_what_waits_but_not_what_was_started_by_hand():
    people.online_client()
    task = people.task()
    fire([Firing(task.pk, NOON)])
    control.do_trigger_task(people.admin(), task)
    control.do_disable_tasks(people.admin(), [task])
    assert sorted(Execution.objects.values_list("execution_type", "status")) == [(1, 6), (2, 1)]


class TestGivingUp:
    def fire(self, **fields):
        people.online_client()
        with time_machine.travel(NOON, tick=False):
            return fire([Firing(people.task(**fields).pk, NOON)])[0]

    def reason_after(self, seconds):
        with time_machine.travel(NOON + timedelta(seconds=seconds), tick=False):
            expire_overdue()
        return Execution.objects.get().failure_reason

    def test_what_no_agent_took_expires(self):
        self.fire()
        assert self.reason_after(59) == ""
        assert self.reason_after(61) == FailureReason.EXPIRED

    def test_one_that_makes_up_for_a_missed_time_has_its_grace_from_when_it_was_made(self):
        people.online_client()
        task = people.task()
        with time_machine.travel(NOON + timedelta(minutes=30), tick=False):
            fire([Firing(task.pk, NOON)])
        assert self.reason_after(1850) == ""
        assert self.reason_after(1861) == FailureReason.EXPIRED

    def test_what_a_lost_agent_runs_ends_after_timeout_and_grace(self):
        self.fire(timeout=10)
        Execution.objects.update(status=ExecutionStatus.RUNNING, start_time=NOON, accepted_at=NOON)
        assert self.reason_after(69) == ""
        assert self.reason_after(71) == FailureReason.AGENT_LOST

    def test_what_waits_in_the_queue_of_an_online_agent_goes_on_waiting(self):
        self.fire(timeout=10)
        Execution.objects.update(accepted_at=NOON)
        assert self.reason_after(1000) == ""
        assert self.reason_after(86399) == ""
        presence.mark_offline([("web-1", "s1")], "gone")
        assert self.reason_after(1000) == FailureReason.AGENT_LOST

    def test_but_not_for_ever(self):
        self.fire(timeout=10)
        Execution.objects.update(accepted_at=NOON)
        assert self.reason_after(86401) == FailureReason.AGENT_LOST


def test_the_sweep_finds_what_was_not_accepted_and_attempts_that_are_due():
    people.online_client()
    (execution,) = fire([Firing(people.task().pk, NOON)])
    later = timezone.now() + timedelta(seconds=5)
    assert [m.execution_id for _, m in pending_for_bridge(people.BRIDGE, later)] == [execution.execution_id]
    assert pending_for_bridge("another", later) == []
    Execution.objects.update(accepted_at=NOON)
    assert pending_for_bridge(people.BRIDGE, later) == []
    soon = timezone.now() + timedelta(seconds=1)
    Execution.objects.update(accepted_at=None, status=2, retry_count=1, next_retry_at=soon)
    ((client, message),) = pending_for_bridge(people.BRIDGE, later)
    assert (client, message.attempt, message.trigger) == ("web-1", 1, "retry")
    Execution.objects.update(next_retry_at=timezone.now() + timedelta(minutes=1))
    assert pending_for_bridge(people.BRIDGE, later) == []
    assert message.executor_type == task_pb2.SHELL
