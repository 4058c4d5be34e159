"""Attempts after a failure: by themselves, by the host that fired alone, and by hand."""

from datetime import timedelta

import pytest
import time_machine
from guardian.shortcuts import assign_perm
from knox.models import AuthToken
from quartzflow_agent.protocol import task_pb2 as pb
from quartzflow_agent.schedule import execution_id, retry_delay
from rest_framework.test import APIClient

from executions_app import control
from executions_app.dispatch import Firing, fire
from executions_app.ingest import Progress, Result, ingest
from executions_app.models import Attempt, Execution, ExecutionLog
from executions_app.retries import do_retry_executions, do_retry_run
from executions_app.sweeps import expire_overdue, pending_for_bridge
from groups_app.models import Client
from quartzflow.errors import Conflict, NotAllowed
from quartzflow.execution_status import ExecutionStatus
from tasks_app import configs
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")
NOON = people.at(2026, 3, 1, 12, 0)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def report(execution, status=pb.FAILURE, attempt=0, **fields):
    fields = {"execution_id": execution.execution_id, "status": status, "attempt": attempt, **fields}
    fields.setdefault("started_at", int(NOON.timestamp() * 1000))
    fields.setdefault("finished_at", fields["started_at"] + 500)
    ingest([Result(execution.client_id, pb.TaskResult(**fields))])
    return Execution.objects.get(execution_id=execution.execution_id)


def fired(**fields):
    people.online_client()
    return fire([Firing(people.task(**fields).pk, NOON)])[0]


def test_the_wait_doubles_up_to_its_longest():
    assert [retry_delay(10, n, 60) for n in range(5)] == [10, 20, 40, 60, 60]
    assert [retry_delay(10, n, 0) for n in range(3)] == [10, 10, 10]
    assert retry_delay(100, 3, 60) == 100 and retry_delay(10, 10**6, 3600) == 3600


def test_attempts_back_off(clock):
    execution = fired(retry_count=3, retry_interval=10, retry_max_interval=15)
    assert report(execution).next_retry_at == NOON + timedelta(seconds=10)
    clock.shift(10)
    assert report(execution).retry_count == 1  # the same end again changes nothing
    assert report(execution, attempt=1).retry_count == 1  # not before the second attempt has begun
    begun = int((NOON + timedelta(seconds=10)).timestamp() * 1000)
    started = pb.TaskProgress(
        execution_id=execution.execution_id, status=pb.RUNNING, attempt=1, started_at=begun
    )
    ingest([Progress("web-1", started)])
    row = report(execution, attempt=1)
    assert (row.retry_count, row.next_retry_at) == (2, NOON + timedelta(seconds=25))
    assert configs.task_config(execution.task).retry_max_interval == 15


def test_the_api_tells_how_each_attempt_ended(clock):
    execution = fired(retry_count=2, retry_interval=10)
    report(execution, exit_code=7, has_exit_code=True, error="secret")
    report(execution, pb.TIMEOUT, attempt=1)
    call = APIClient()
    call.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(people.admin())[1]}")
    found = call.get(f"/api/v1/executions/{execution.pk}").json()["data"]
    first = {"number": 0, "status": 4, "exit_code": 7, "failure_reason": "exit_code"}
    moments = {"start_time": "2026-03-01T12:00:00.000Z", "end_time": "2026-03-01T12:00:00.500Z"}
    assert found["attempts"][0] == first | moments
    assert [(row["number"], row["status"]) for row in found["attempts"]] == [(0, 4), (1, 5)]
    (listed,) = call.get("/api/v1/executions").json()["data"]["items"]
    assert "attempts" not in listed


def test_waiting_for_the_next_attempt_can_be_cancelled(clock):
    execution = fired(retry_count=1)
    row = report(execution)
    control.do_cancel_executions(people.admin(), [row])
    row.refresh_from_db()
    assert (row.status, row.next_retry_at) == (ExecutionStatus.CANCELLED, None)
    clock.shift(60)
    assert pending_for_bridge(people.BRIDGE, NOON + timedelta(hours=1)) == []


def test_a_late_failure_takes_the_place_of_the_servers_guess(clock):
    execution = fired(retry_count=2, timeout=10)
    Execution.objects.update(status=ExecutionStatus.RUNNING, start_time=NOON, accepted_at=NOON)
    clock.shift(100)
    assert expire_overdue() == 1
    row = report(execution, exit_code=3, has_exit_code=True)
    assert (row.status, row.failure_reason, row.exit_code) == (ExecutionStatus.FAILURE, "exit_code", 3)


class TestOfTheHostsOwnFirings:
    def result(self, task, status, attempt, **fields):
        name = execution_id(task.pk, NOON, "web-1")
        begun = int(NOON.timestamp() * 1000)
        message = pb.TaskResult(
            execution_id=name, task_id=str(task.pk), status=status, attempt=attempt, retry_count=attempt, local=True,
            scheduled_time=begun, started_at=begun, finished_at=begun + 10, output=f"try {attempt}", **fields,
        )  # fmt: skip
        ingest([Result("web-1", message)])
        return Execution.objects.get()

    def test_each_further_attempts_end_counts(self, clock):
        people.online_client()
        task = people.task(retry_count=2)
        assert self.result(task, pb.FAILURE, 0).status == ExecutionStatus.FAILURE
        row = self.result(task, pb.SUCCESS, 1)
        assert (row.status, row.retry_count, row.max_retries, row.local) == (
            ExecutionStatus.SUCCESS,
            1,
            2,
            True,
        )
        assert self.result(task, pb.FAILURE, 0).status == ExecutionStatus.SUCCESS  # sent again
        assert ExecutionLog.objects.get().output == "try 1"
        assert Attempt.objects.count() == 2

    def test_also_where_the_server_fired_but_could_not_reach_it(self, clock):
        execution = fired(retry_count=2)
        row = self.result(execution.task, pb.FAILURE, 0)
        assert (row.status, row.local, row.next_retry_at) == (ExecutionStatus.FAILURE, True, None)
        assert self.result(execution.task, pb.SUCCESS, 1).status == ExecutionStatus.SUCCESS


class TestByHand:
    def run_of_three(self, **fields):
        for name in ("a", "b", "c"):
            people.online_client(name)
        return fire([Firing(people.task(**fields).pk, NOON)])

    def test_the_failed_hosts_of_a_run_run_again(self, clock):
        rows = self.run_of_three(routing="sharding")
        for row, status in zip(rows, (pb.SUCCESS, pb.FAILURE, pb.TIMEOUT), strict=True):
            report(row, status)
        again = do_retry_run(people.admin(), rows[0].run_id)
        assert [(e.client_id, e.shard_index, e.shard_total, e.retry_of) for e in again] == [
            ("b", 1, 3, rows[1].pk), ("c", 2, 3, rows[2].pk),
        ]  # fmt: skip
        assert len({e.run_id for e in again}) == 1 and again[0].run_id != rows[0].run_id
        assert again[0].status == ExecutionStatus.PENDING and again[0].execution_type == 2
        with pytest.raises(Conflict):
            do_retry_run(people.admin(), again[0].run_id)

    def test_parameters_stay(self, clock):
        people.online_client()
        (execution,) = control.do_trigger_task(people.admin(), people.task(), {"day": "1"})
        (again,) = do_retry_executions(people.admin(), [report(execution)])
        assert again.params == {"day": "1"}

    def test_what_found_no_host_is_fired_anew(self, clock):
        (execution,) = fire([Firing(people.task().pk, NOON)])
        people.online_client()
        assert [e.client_id for e in do_retry_executions(people.admin(), [execution])] == ["web-1"]

    def test_only_what_has_ended_badly_and_still_may_run(self, clock):
        rows = self.run_of_three()
        with pytest.raises(Conflict):
            do_retry_executions(people.admin(), rows)
        failed = [report(row) for row in rows]
        Client.objects.filter(client_id="b").update(group=people.group("db"))
        with pytest.raises(Conflict, match="b"):
            do_retry_executions(people.admin(), failed)
        with pytest.raises(Conflict):
            do_retry_executions(people.admin(), failed * 400)
        control.do_delete_tasks(people.admin(), [rows[0].task])
        with pytest.raises(Conflict):
            do_retry_executions(people.admin(), failed[:1])

    def test_by_the_api_with_the_right_to_run_the_task(self, clock):
        execution = report(fired())
        user = people.stranger()
        assign_perm("tasks_app.view_task", user, execution.task)
        call = APIClient()
        call.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user)[1]}")
        url = f"/api/v1/executions/{execution.pk}/retry"
        assert call.post(url).status_code == 403
        with pytest.raises(NotAllowed):
            do_retry_executions(user, [execution])
        assign_perm("tasks_app.trigger_task", user, execution.task)
        assert call.post(url).json()["data"]["retry_of"] == execution.pk
        many = call.post("/api/v1/executions/retry", {"ids": [execution.pk]}, format="json")
        assert len(many.json()["data"]["execution_ids"]) == 1
        assert call.post("/api/v1/executions/retry", {"ids": [10**9]}, format="json").status_code == 404
        assert call.post("/api/v1/executions/retry", {"ids": ["x"]}, format="json").status_code == 400

    def test_many_are_cancelled_at_once_or_none(self, clock):
        first = fired(name="a")
        (second,) = fire([Firing(people.task("b").pk, NOON)])
        user = people.stranger()
        for execution in (first, second):
            assign_perm("tasks_app.view_task", user, execution.task)
        assign_perm("tasks_app.cancel_task", user, first.task)
        call = APIClient()
        call.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user)[1]}")
        url, both = "/api/v1/executions/cancel", {"ids": [first.pk, second.pk]}
        assert call.post(url, both, format="json").status_code == 403
        assert not Execution.objects.filter(status=6).exists()
        assign_perm("tasks_app.cancel_task", user, second.task)
        assert call.post(url, both, format="json").json()["data"] == {"count": 2}
        assert Execution.objects.filter(status=6, cancelled_by=user.username).count() == 2
        assert call.post(url, both, format="json").status_code == 409
        assert call.post(url, {"ids": [first.pk, 10**9]}, format="json").status_code == 404
