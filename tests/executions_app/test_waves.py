"""Broadcasts in waves."""

import pytest
import time_machine
from quartzflow_agent.protocol import task_pb2 as pb

from executions_app import control
from executions_app.choices import FailureReason
from executions_app.dispatch import Firing, fire
from executions_app.ingest import Result, ingest
from executions_app.models import Execution
from executions_app.runs import run_view
from executions_app.sweeps import expire_overdue
from executions_app.waves import wave_of
from groups_app.choices import ClientStatus
from groups_app.models import Client
from quartzflow.errors import InvalidInput
from quartzflow.execution_status import ExecutionStatus
from tasks_app import configs
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")
NOON = people.at(2026, 3, 1, 12, 0)


@pytest.mark.parametrize(
    ("size", "hosts", "waves"),
    [
        ("", 3, [None] * 3),
        ("3", 3, [None] * 3),
        ("100%", 3, [None] * 3),
        ("1", 3, [0, 1, 2]),
        ("2", 5, [0, 0, 1, 1, 2]),
        ("50%", 5, [0, 0, 0, 1, 1]),
        ("1%", 3, [0, 1, 2]),
    ],
)
def test_hosts_are_parted(size, hosts, waves):
    assert [wave_of(size, n, hosts) for n in range(hosts)] == waves


def fired(hosts=4, **fields):
    for n in range(hosts):
        people.online_client(f"h{n}")
    return fire([Firing(people.task(**fields).pk, NOON)])


def holds():
    return list(Execution.objects.order_by("id").values_list("hold", flat=True))


def end(row, status=pb.SUCCESS):
    ingest([Result(row.client_id, pb.TaskResult(execution_id=row.execution_id, status=status))])


def test_the_next_wave_goes_when_the_one_before_has_ended():
    rows = fired(wave_size="2")
    assert holds() == ["", "", "wave", "wave"]
    assert run_view(people.admin(), rows[0].run_id)["held"] == 2
    end(rows[0])
    assert holds() == ["", "", "wave", "wave"]
    end(rows[1])
    assert holds() == [""] * 4
    assert Execution.objects.filter(expires_at=None).count() == 0
    for row in rows[2:]:
        end(row)
    assert run_view(people.admin(), rows[0].run_id)["status_name"] == "SUCCESS"


def test_too_many_failures_stop_it():
    rows = fired(wave_size="50%", wave_max_failed=49)
    end(rows[0], pb.FAILURE)
    end(rows[1])
    left = Execution.objects.filter(failure_reason=FailureReason.WAVE_STOPPED)
    assert left.count() == 2 and set(left.values_list("status", "hold")) == {(ExecutionStatus.CANCELLED, "")}
    assert run_view(people.admin(), rows[0].run_id)["status_name"] == "FAILURE"


def test_as_many_failures_as_allowed_do_not():
    rows = fired(wave_size="50%", wave_max_failed=50)
    end(rows[0], pb.FAILURE)
    end(rows[1])
    assert holds() == [""] * 4


def test_a_wave_of_hosts_that_do_not_come_is_over_when_they_expire():
    rows = fired(2, wave_size="1", wave_max_failed=100)
    Execution.objects.filter(pk=rows[0].pk).update(expires_at=NOON)
    expire_overdue()
    assert holds() == ["", ""]


def test_a_later_wave_waits_for_hosts_that_are_offline_where_the_task_does():
    with time_machine.travel(NOON, tick=False) as clock:
        people.online_client("h0")
        people.online_client("h1")
        Client.objects.filter(client_id="h1").update(status=ClientStatus.OFFLINE, last_heartbeat=None)
        rows = fire([Firing(people.task(wave_size="1", offline_policy="wait", misfire_grace=600).pk, NOON)])
        clock.shift(30)
        end(rows[0])
        assert holds() == ["", ""]
        clock.shift(599)
        assert expire_overdue() == 0
        clock.shift(2)
        assert expire_overdue() == 1


def test_cancelling_ends_what_is_held_too():
    rows = fired(wave_size="1")
    control.do_cancel_executions(people.admin(), rows)
    assert not Execution.objects.exclude(status=ExecutionStatus.CANCELLED).exists()


def test_limits_hold_in_waves_too(settings):
    settings.QF_MAX_RUNNING = 1
    rows = fired(wave_size="2")
    assert holds() == ["", "limit", "wave", "wave"]
    end(rows[0])
    end(rows[1])
    assert holds() == ["", "", "", "limit"]


def test_what_expires_while_it_waits_for_a_free_place_has_failed_too(settings):
    settings.QF_MAX_RUNNING = 1
    rows = fired(wave_size="2", wave_max_failed=49)
    assert holds() == ["", "limit", "wave", "wave"]
    Execution.objects.filter(pk=rows[1].pk).update(expires_at=NOON)
    expire_overdue()
    end(rows[0])
    assert Execution.objects.filter(failure_reason=FailureReason.WAVE_STOPPED).count() == 2


def test_other_routings_know_no_waves_and_agents_do_not_fire_waves_by_themselves():
    assert not configs.fires_locally(people.task("w", wave_size="1"))
    rows = fired(routing="sharding", wave_size="1")
    assert [row.wave for row in rows] == [None] * 4


@pytest.mark.parametrize("wrong", ["0", "x", "101%", "0%", "-1", "5 %", "1\n"])
def test_a_wrong_size_is_named(wrong):
    task = people.task()
    with pytest.raises(InvalidInput) as error:
        control.do_update_task(people.admin(), task, {"wave_size": wrong, "wave_max_failed": 101})
    assert "wave_max_failed" in error.value.errors and (
        wrong.strip() == "1" or "wave_size" in error.value.errors
    )
