"""Which hosts a firing is for: labels, hosts that are offline, limits of what runs at once."""

from datetime import timedelta

import pytest
import time_machine
from quartzflow_agent.protocol import task_pb2 as pb

from executions_app import control, limits
from executions_app.choices import FailureReason
from executions_app.dispatch import Firing, fire
from executions_app.ingest import Accepted, Result, ingest
from executions_app.models import Execution
from executions_app.sweeps import expire_overdue, pending_for_bridge
from executions_app.tasks import housekeeping
from groups_app import presence
from groups_app.choices import ClientStatus
from groups_app.models import Client
from quartzflow.errors import InvalidInput
from quartzflow.execution_status import ExecutionStatus
from tasks_app import configs
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")
NOON = people.at(2026, 3, 1, 12, 0)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def hosts(**labels):
    """One online host a name, with these labels."""
    for name, found in labels.items():
        people.online_client(name)
        Client.objects.filter(client_id=name).update(labels=found)


def fired(task, minute=0):
    return [e.client_id for e in fire([Firing(task.pk, NOON + timedelta(minutes=minute))])]


class TestLabels:
    @pytest.mark.parametrize(
        ("selector", "meant"),
        [
            ({}, ["a", "b", "c"]),
            ({"env": "prod"}, ["a", "b"]),
            ({"env": "prod", "role": "db"}, ["b"]),
            ({"role": ["db", "cache"]}, ["b", "c"]),
            ({"zone": "x"}, [""]),
        ],
    )
    def test_only_hosts_with_the_labels_are_meant(self, clock, selector, meant):
        hosts(a={"env": "prod"}, b={"env": "prod", "role": "db"}, c={"env": "dev", "role": "cache"})
        assert fired(people.task(selector=selector)) == meant

    def test_labels_choose_among_the_tasks_groups_only(self, clock):
        hosts(a={"env": "prod"})
        people.online_client("other", people.group("db"))
        Client.objects.update(labels={"env": "prod"})
        assert fired(people.task(selector={"env": "prod"})) == ["a"]

    def test_an_agent_does_not_fire_such_a_task_by_itself(self):
        assert configs.task_config(people.task("a")).local_firing
        assert not configs.task_config(people.task("b", selector={"env": "prod"})).local_firing

    @pytest.mark.parametrize("wrong", [[], {"a": 1}, {"a": []}, {"a": [1]}, {str(n): "x" for n in range(21)}])
    def test_a_wrong_selector_is_named(self, wrong):
        with pytest.raises(InvalidInput) as error:
            people.task(selector=wrong)
        assert list(error.value.errors) == ["selector"]


class TestHostsOffline:
    def fire_with_one_offline(self, **fields):
        hosts(a={}, b={})
        presence.mark_offline([("b", "s1")], "gone")
        Client.objects.filter(client_id="b").update(last_heartbeat=NOON - timedelta(hours=1))
        return fired(people.task(**fields))

    def test_they_are_left_out(self, clock):
        assert self.fire_with_one_offline() == ["a"]

    def test_they_are_waited_for(self, clock):
        assert self.fire_with_one_offline(offline_policy="wait") == ["a", "b"]
        clock.shift(3000)
        assert expire_overdue() == 1  # the one that was online had a minute
        Client.objects.filter(client_id="b").update(status=ClientStatus.ONLINE, bridge_id=people.BRIDGE)
        ((client, message),) = pending_for_bridge(people.BRIDGE, NOON + timedelta(hours=1))
        assert client == "b" and message.expires_at == int((NOON.timestamp() + 3600) * 1000)

    def test_but_not_longer_than_the_grace_time(self, clock):
        self.fire_with_one_offline(offline_policy="wait", misfire_grace=600)
        clock.shift(601)
        assert expire_overdue() == 2
        assert set(Execution.objects.values_list("failure_reason", flat=True)) == {FailureReason.EXPIRED}

    def test_only_where_every_host_is_meant(self, clock):
        assert self.fire_with_one_offline(offline_policy="wait", routing="failover") == ["a"]

    def test_hosts_that_were_not_let_in_are_never_waited_for(self, clock):
        hosts(a={})
        presence.mark_offline([("a", "s1")], "gone")
        Client.objects.update(approval="revoked", last_heartbeat=None)
        assert fired(people.task(offline_policy="wait")) == [""]


def test_what_waits_for_its_next_attempt_expires_too(clock):
    hosts(a={})
    (execution,) = fire([Firing(people.task(retry_count=1, retry_interval=30).pk, NOON)])
    ingest([Result("a", pb.TaskResult(execution_id=execution.execution_id, status=pb.FAILURE))])
    assert Execution.objects.get().next_retry_at == NOON + timedelta(seconds=30)
    clock.shift(89)
    assert expire_overdue() == 0
    clock.shift(2)
    assert expire_overdue() == 1
    row = Execution.objects.get()
    assert (row.status, row.failure_reason, row.next_retry_at) == (4, "expired", None)


class TestLimits:
    @pytest.fixture(autouse=True)
    def _three_hosts(self, each_database, clock, settings):
        hosts(a={}, b={}, c={})
        settings.QF_MAX_RUNNING = 2

    def state(self):
        return dict(Execution.objects.order_by("id").values_list("client_id", "hold"))

    def test_what_is_beyond_waits_and_goes_when_another_ends(self):
        rows = fire([Firing(people.task().pk, NOON)])
        assert self.state() == {"a": "", "b": "", "c": "limit"}
        assert {client for client, _ in pending_for_bridge(people.BRIDGE, NOON + timedelta(hours=1))} == {
            "a",
            "b",
        }
        ingest([Accepted("a", rows[0].execution_id)])
        assert self.state()["c"] == "limit"
        ingest([Result("a", pb.TaskResult(execution_id=rows[0].execution_id, status=pb.SUCCESS))])
        assert self.state()["c"] == ""

    def test_cancelling_makes_room_and_what_is_held_can_be_cancelled(self):
        rows = fire([Firing(people.task().pk, NOON)])
        control.do_cancel_executions(people.admin(), [rows[2]])
        (later,) = control.do_trigger_task(people.admin(), people.task("other"), client_ids=["c"])
        assert Execution.objects.get(pk=later.pk).hold == "limit"
        control.do_cancel_executions(people.admin(), [rows[0]])
        assert Execution.objects.get(pk=later.pk).hold == ""

    def test_the_limit_of_one_host_leaves_the_others_alone(self, settings):
        settings.QF_MAX_RUNNING, settings.QF_MAX_RUNNING_PER_CLIENT = 0, 1
        fire([Firing(people.task().pk, NOON)])
        fire([Firing(people.task("other").pk, NOON)])
        assert (
            list(Execution.objects.order_by("id").values_list("hold", flat=True)) == [""] * 3 + ["limit"] * 3
        )
        Execution.objects.filter(client_id="b", hold="").update(status=ExecutionStatus.SUCCESS)
        housekeeping()
        assert Execution.objects.filter(hold="limit").count() == 2
        assert not Execution.objects.filter(hold="limit", client_id="b").exists()

    def test_what_waits_too_long_expires(self, clock):
        fire([Firing(people.task(misfire_grace=600, timeout=3600).pk, NOON)])
        running = Execution.objects.filter(hold="")
        running.update(status=ExecutionStatus.RUNNING, accepted_at=NOON, start_time=NOON)
        clock.shift(599)
        assert expire_overdue() == 0
        clock.shift(2)
        assert expire_overdue() == 1
        assert Execution.objects.get(client_id="c").failure_reason == FailureReason.EXPIRED

    def test_who_waits_for_a_host_takes_no_place_and_has_its_grace_time(self, clock):
        presence.mark_offline([("a", "s1"), ("b", "s1")], "gone")
        Client.objects.filter(client_id__in="ab").update(last_heartbeat=NOON - timedelta(hours=1))
        fire([Firing(people.task(offline_policy="wait").pk, NOON)])
        assert self.state() == {"a": "limit", "b": "limit", "c": ""}
        fire([Firing(people.task("other").pk, NOON)])
        assert Execution.objects.get(task_name="other").hold == ""
        clock.shift(3000)
        expire_overdue()
        assert set(Execution.objects.filter(status=ExecutionStatus.PENDING).values_list("client_id")) == {
            ("a",),
            ("b",),
        }
        Client.objects.filter(client_id="a").update(status=ClientStatus.ONLINE, bridge_id=people.BRIDGE)
        housekeeping()
        assert self.state()["a"] == ""
        ((client, _message),) = pending_for_bridge(people.BRIDGE, NOON + timedelta(hours=1))
        assert client == "a"
        clock.shift(601)
        expire_overdue()
        assert Execution.objects.get(client_id="b").failure_reason == FailureReason.EXPIRED

    def test_lifting_the_limits_lets_all_go(self, settings):
        fire([Firing(people.task().pk, NOON)])
        settings.QF_MAX_RUNNING = 0
        assert not limits.are_set()
        housekeeping()
        assert set(self.state().values()) == {""}
