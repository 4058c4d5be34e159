"""Tasks after tasks: conditions, several parents, cycles, nothing lost or doubled, and the view of a run."""

import itertools
import threading

import pytest
from django.db import connection, transaction
from knox.models import AuthToken
from quartzflow_agent.protocol import task_pb2 as pb
from rest_framework.test import APIClient

from executions_app import chains, control, endings, kick
from executions_app.choices import ExecutionType
from executions_app.dispatch import Firing, fire
from executions_app.ingest import Result, ingest
from executions_app.models import DependencyEvent, Execution
from executions_app.runs import run_view
from executions_app.tasks import advance, housekeeping
from quartzflow.celery import app
from quartzflow.errors import InvalidInput, NotFound
from quartzflow.execution_status import ExecutionStatus
from tasks_app.actions import do_update_task
from tasks_app.dependencies import check_dependencies, find_cycle
from tasks_app.models import Task, TaskDependency
from tasks_app.substitutions import UPSTREAM
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")
NOON = people.at(2026, 3, 1, 12, 0)


@pytest.fixture(autouse=True)
def _host(each_database):
    people.online_client("a")


@pytest.fixture
def kicks(monkeypatch):
    found = []
    monkeypatch.setattr(endings, "kick", lambda: found.append(1))
    return found


def after(*parents, condition="success", name="child", **fields):
    dependencies = [{"task_id": parent.pk, "condition": condition} for parent in parents]
    return people.task(name, schedule_type="none", cron_expr="", dependencies=dependencies, **fields)


def run(task, status=pb.SUCCESS, minute=0, host="a"):
    """Fire the task and end it on this host; on others it goes on."""
    rows = fire([Firing(task.pk, people.at(2026, 3, 1, 12, minute))])
    for row in rows:
        if row.client_id == host:
            end(row, status)
    return rows


def end(row, status=pb.SUCCESS):
    ingest([Result(row.client_id, pb.TaskResult(execution_id=row.execution_id, status=status))])


def children(task):
    return list(Execution.objects.filter(task=task).order_by("id"))


@pytest.mark.parametrize(
    ("condition", "ends"),
    [
        ("success", {pb.SUCCESS}),
        ("failure", {pb.FAILURE, pb.TIMEOUT}),
        ("always", {pb.SUCCESS, pb.FAILURE, pb.TIMEOUT, pb.CANCELLED}),
    ],
)
def test_a_task_runs_after_the_ends_that_it_waits_for(kicks, condition, ends):
    parent = people.task("parent")
    child = after(parent, condition=condition)
    for minute, status in enumerate([pb.SUCCESS, pb.FAILURE, pb.TIMEOUT, pb.CANCELLED]):
        before = len(children(child))
        (row,) = run(parent, status, minute)
        advance()
        assert len(children(child)) - before == (status in ends)
    assert kicks
    last = children(child)[-1]
    assert last.execution_type == ExecutionType.DEPENDENCY and last.status == ExecutionStatus.PENDING
    if condition == "always":
        assert last.params["upstream_run_id"] == row.run_id
        assert last.params["upstream_status"] == "cancelled"
        assert set(last.params) == UPSTREAM


def test_it_waits_for_the_last_host_and_runs_once(kicks):
    people.online_client("b")
    parent = people.task("parent")
    child = after(parent)
    _, second = run(parent)
    advance()
    assert children(child) == [] and not kicks
    end(second)
    end(second)
    advance()
    advance()
    assert len({row.run_id for row in children(child)}) == 1


def test_a_run_succeeds_only_when_every_shard_does(kicks):
    people.online_client("b")
    parent = people.task("parent", routing="sharding")
    child = after(parent)
    _, second = run(parent)
    end(second, pb.FAILURE)
    advance()
    assert children(child) == []
    assert DependencyEvent.objects.get().status == ExecutionStatus.FAILURE


def test_all_parents_are_waited_for_and_each_set_counts_once(kicks):
    one, two = people.task("one"), people.task("two")
    child = after(one, two)
    run(one)
    run(one, pb.FAILURE, 1)  # its newest end counts
    run(two)
    advance()
    assert children(child) == []
    run(one, pb.SUCCESS, 2)
    advance()
    (row,) = children(child)
    assert row.params["upstream_statuses"] == "success,success"
    run(one, pb.SUCCESS, 3)
    advance()
    assert len(children(child)) == 1
    run(two, pb.SUCCESS, 4)
    advance()
    assert len(children(child)) == 2
    assert not DependencyEvent.objects.exclude(state=chains.DONE).exists()


def test_any_parent_suffices(kicks):
    one, two = people.task("one"), people.task("two")
    child = after(one, two, dependency_mode="any")
    run(one)
    run(two)
    advance()
    assert len(children(child)) == 2


def test_disabled_and_no_longer_dependent_tasks_do_not_run(kicks):
    parent = people.task("parent")
    off, gone = after(parent, name="off"), after(parent, name="gone")
    run(parent)
    control.do_disable_tasks(people.admin(), [off])
    do_update_task(people.admin(), gone, {"dependencies": []})
    advance()
    assert not Execution.objects.exclude(task=parent).exists()
    control.do_enable_tasks(people.admin(), [off])
    advance()
    assert not Execution.objects.exclude(task=parent).exists()


def test_the_sweep_finds_what_a_dead_process_did_not_say(kicks):
    parent = people.task("parent")
    child = after(parent)
    run(parent)
    housekeeping()
    assert len(children(child)) == 1


def test_what_fails_does_not_hold_up_the_rest(kicks, monkeypatch):
    parent = people.task("parent")
    broken, child = after(parent, name="broken"), after(parent)
    run(parent)
    begin = chains._begin

    def begin_unless_broken(task, events):
        if task.pk == broken.pk:
            raise RuntimeError("no")
        return begin(task, events)

    def fails():
        raise RuntimeError("no")

    monkeypatch.setattr(chains, "_begin", begin_unless_broken)
    monkeypatch.setattr("executions_app.tasks.expire_overdue", fails)
    housekeeping()
    assert [len(children(task)) for task in (broken, child)] == [0, 1]
    monkeypatch.undo()
    housekeeping()
    assert [len(children(task)) for task in (broken, child)] == [1, 1]


def test_a_cancelled_run_has_ended_too(kicks):
    parent = people.task("parent")
    child = after(parent, condition="always")
    control.do_cancel_executions(people.admin(), fire([Firing(parent.pk, NOON)]))
    advance()
    assert len(children(child)) == 1


def test_two_hosts_that_end_at_once_do_not_miss_each_other(kicks):
    people.online_client("b")
    parent = people.task("parent")
    child = after(parent)
    first, second = fire([Firing(parent.pk, NOON)])
    go_on = threading.Event()

    def other():
        go_on.wait(5)
        end(second)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    with transaction.atomic():
        end(first)
        go_on.set()
        thread.join(0.5)  # it waits for our commit
        assert thread.is_alive()
    thread.join(10)
    advance()
    assert len({row.run_id for row in children(child)}) == 1


class TestWriting:
    @pytest.mark.parametrize(
        "wrong",
        [
            7,
            [7],
            [{"task_id": "1"}],
            [{"task_id": 999}],
            [{"task_id": 1, "condition": "maybe"}],
            [{"task_id": 1, "x": 1}],
            [{"task_id": 999}] * 51,
        ],
    )
    def test_what_is_wrong_is_named(self, wrong):
        people.task("a")
        with pytest.raises(InvalidInput) as error:
            people.task("b", dependencies=wrong)
        assert list(error.value.errors) == ["dependencies"]
        assert not TaskDependency.objects.exists()

    def test_a_cycle_is_refused_and_named(self):
        a = people.task("a")
        b = after(a, name="b")
        c = after(b, name="c")
        with pytest.raises(InvalidInput) as error:
            do_update_task(people.admin(), a, {"dependencies": [{"task_id": c.pk}]})
        assert "a → b → c → a" in str(error.value.errors["dependencies"][0])
        with pytest.raises(InvalidInput):
            do_update_task(people.admin(), a, {"dependencies": [{"task_id": a.pk}]})
        assert TaskDependency.objects.count() == 2

    def test_a_long_chain_is_no_cycle(self):
        tasks = [people.task(f"t{n}") for n in range(3)]
        TaskDependency.objects.bulk_create(
            TaskDependency(task=child, parent=parent) for parent, child in itertools.pairwise(tasks)
        )
        assert find_cycle(999, [tasks[2].pk]) == []
        assert find_cycle(tasks[0].pk, [tasks[2].pk]) == [tasks[n].pk for n in (0, 1, 2, 0)]

    def test_one_may_not_wait_for_what_one_may_not_see(self):
        secret = people.task("secret")
        assert check_dependencies(people.admin(), people.task("mine"), [{"task_id": secret.pk}])[1] == []
        parents, wrong = check_dependencies(people.stranger(), people.task("x"), [{"task_id": secret.pk}])
        assert (parents, len(wrong)) == ([], 1)


def test_the_view_of_a_run_shows_the_chain(kicks):
    people.online_client("b")
    parent = people.task("parent")
    child = after(parent)
    grandchild = after(child, name="grandchild")
    rows = run(parent)
    end(rows[1])
    advance()
    for row in children(child):
        end(row)
    advance()
    middle = children(child)[0].run_id
    call = APIClient()
    call.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(people.admin())[1]}")
    shown = call.get(f"/api/v1/runs/{middle}").json()["data"]
    assert (shown["status_name"], shown["counts"], shown["total"]) == ("SUCCESS", {"SUCCESS": 2}, 2)
    assert {node["task_name"]: node["status_name"] for node in shown["chain"]} == {
        "parent": "SUCCESS", "child": "SUCCESS", "grandchild": "RUNNING",
    }  # fmt: skip
    last = children(grandchild)[0].run_id
    assert {(edge["parent"], edge["child"]) for edge in shown["edges"]} == {
        (rows[0].run_id, middle), (middle, last),
    }  # fmt: skip
    assert call.post(f"/api/v1/runs/{last}/cancel").json()["data"]["status_name"] == "CANCELLED"
    again = call.post(f"/api/v1/runs/{last}/retry").json()["data"]
    assert (again["total"], again["status_name"]) == (2, "RUNNING")
    assert call.get("/api/v1/runs/run_none").status_code == 404
    assert call.post("/api/v1/runs/run_none/cancel").status_code == 404
    with pytest.raises(NotFound):
        run_view(people.stranger(), middle)
    tasks = call.get(f"/api/v1/tasks/{child.pk}").json()["data"]
    assert tasks["dependencies"] == [{"task_id": parent.pk, "condition": "success"}]


def test_old_links_are_forgotten(kicks, settings):
    parent = people.task("parent")
    after(parent)
    run(parent)
    advance()
    assert chains.forget_old_events() == 0
    settings.QF_CHAINS_KEPT = -1
    assert chains.forget_old_events() == 1


def test_kicks_are_gathered_into_one_message_and_survive_a_broker_that_is_away(monkeypatch):
    sent, done = [], threading.Event()

    def send(name, **options):
        sent.append(name)
        done.set()
        raise OSError("away")

    monkeypatch.setattr(app, "send_task", send)
    kicker = kick.Kicker(pause=0.05)
    for _ in range(5):
        kicker()
    assert done.wait(5)
    assert sent == [kick.ADVANCE]
    assert Task.objects.count() == 0
