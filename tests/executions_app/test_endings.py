"""A fixed delay counts from the end of the whole run, however that end came."""

import pytest
import time_machine
from quartzflow_agent.protocol import task_pb2 as pb

from executions_app import control
from executions_app.dispatch import Firing, fire
from executions_app.ingest import Result, ingest
from executions_app.sweeps import expire_overdue
from tasks_app.models import Task
from tests import people

pytestmark = pytest.mark.django_db
NOON = people.at(2026, 3, 1, 12, 0)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def delayed():
    return people.task(schedule_type="fixed_delay", cron_expr="", interval_seconds=30)


def next_fire():
    return Task.objects.get().next_fire_at


def end(execution):
    ingest(
        [Result(execution.client_id, pb.TaskResult(execution_id=execution.execution_id, status=pb.SUCCESS))]
    )


def test_it_begins_when_the_last_host_has_ended(clock):
    people.online_client("web-1")
    people.online_client("web-2")
    first, second = fire([Firing(delayed().pk, NOON)])
    end(first)
    assert next_fire() is None
    clock.shift(10.5)
    end(second)
    assert next_fire() == people.at(2026, 3, 1, 12, 0, 41)


def test_it_begins_when_nobody_was_online(clock):
    fire([Firing(delayed().pk, NOON)])
    assert next_fire() == people.at(2026, 3, 1, 12, 0, 30)


def test_it_begins_when_the_run_is_given_up(clock):
    people.online_client()
    fire([Firing(delayed().pk, NOON)])
    clock.shift(100)
    expire_overdue()
    assert next_fire() == people.at(2026, 3, 1, 12, 2, 10)


def test_it_begins_when_the_run_is_cancelled_and_not_for_one_by_hand(clock):
    people.online_client()
    task = delayed()
    control.do_cancel_executions(people.admin(), control.do_trigger_task(people.admin(), task))
    assert next_fire() is None
    control.do_cancel_executions(people.admin(), fire([Firing(task.pk, NOON)]))
    assert next_fire() == people.at(2026, 3, 1, 12, 0, 30)


def test_it_counts_from_the_firing_when_the_run_ended_before_its_time(clock):
    fire([Firing(delayed().pk, people.at(2026, 3, 1, 12, 0, 2))])
    assert next_fire() == people.at(2026, 3, 1, 12, 0, 32)
