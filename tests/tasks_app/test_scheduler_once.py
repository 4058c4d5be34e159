"""Beat instances over the real tables: tasks that fire once, and fixed delays."""

from datetime import timedelta

import pytest

from executions_app.models import Execution
from quartzflow.execution_status import ExecutionStatus
from tasks_app import actions
from tasks_app.models import Task
from tests import people
from tests.tasks_app.scheduler_world import NOON, lose_lease

pytestmark = pytest.mark.usefixtures("each_database")


# --- once and fixed delay --------------------------------------------------------------------------------


def once(policy: str = "fire_once") -> Task:
    return people.task(
        "once",
        schedule_type="once",
        cron_expr="",
        run_at=NOON + timedelta(seconds=10),
        misfire_policy=policy,
        misfire_grace=100,
    )


def execution(task: Task, **fields) -> Execution:
    defaults = {"execution_id": f"exec_{task.pk}", "run_id": "run", "client_id": "web-1"}
    defaults["scheduled_time"] = task.run_at
    return Execution.objects.create(task_id=task.pk, task_name=task.name, **{**defaults, **fields})


def is_enabled(task: Task) -> bool:
    return Task.objects.get(pk=task.pk).is_enabled


def test_once_fires_and_is_disabled_when_it_has_started(world):
    task = once()
    beat = world.instance()
    world.run(beat, until=9)
    assert world.fired == [(task.pk, 10)]
    row = execution(task)
    world.run(beat, until=15)
    assert is_enabled(task)  # the bridge may still have to send it again, or the host be busy
    Execution.objects.filter(pk=row.pk).update(status=ExecutionStatus.RUNNING)
    world.run(beat, until=17)
    assert not is_enabled(task)
    world.run(beat, until=60)
    assert world.fired == [(task.pk, 10)]


def test_once_is_disabled_when_its_execution_has_ended(world):
    task = once()
    beat = world.instance()
    world.run(beat, until=9)
    execution(task, status=ExecutionStatus.FAILURE)
    world.run(beat, until=13)
    assert not is_enabled(task)


def test_once_is_not_disabled_before_its_time(world):
    task = once()
    beat = world.instance()
    world.run(beat, until=9)
    execution(task, status=ExecutionStatus.RUNNING)
    assert is_enabled(task)


def test_once_whose_firing_nobody_handled_is_disabled_after_its_grace_time(world):
    task = once()
    beat = world.instance()
    world.run(beat, until=105)
    assert is_enabled(task)
    world.run(beat, until=113)
    assert not is_enabled(task)


def test_once_that_was_missed_and_is_skipped_is_disabled_without_firing(world):
    task = once("skip")
    world.move(60)
    beat = world.instance()
    world.run(beat, until=62)
    assert (world.fired, is_enabled(task)) == ([], False)


def test_once_that_fired_before_a_restart_is_disabled_by_the_next_instance(world):
    task = once()
    beat = world.instance()
    world.run(beat, until=9)
    beat.close()
    execution(task, status=ExecutionStatus.RUNNING)
    world.run(world.instance("next"), until=13)
    assert (world.fired, is_enabled(task)) == ([(task.pk, 10)], False)


def test_once_that_is_moved_to_another_time_fires_again(world):
    task = once()
    beat = world.instance()
    world.run(beat, until=11)
    later = NOON + timedelta(seconds=40)
    actions.do_update_task(people.admin(), Task.objects.get(pk=task.pk), {"run_at": later})
    execution(task, status=ExecutionStatus.RUNNING)
    world.run(beat, until=39)
    assert (world.fired, is_enabled(task)) == ([(task.pk, 10), (task.pk, 40)], True)


def fixed_delay() -> Task:
    return people.task("t", schedule_type="fixed_delay", cron_expr="", interval_seconds=30)


def end_run(task: Task, second: int) -> None:
    actions.plan_next_delay([task.pk], NOON + timedelta(seconds=second))


def test_a_fixed_delay_fires_at_once_and_then_when_its_run_has_ended(world):
    task = fixed_delay()
    beat = world.instance()
    world.run(beat, until=20)
    assert world.fired == [(task.pk, 0)]
    end_run(task, 20)
    world.run(beat, until=47.9)
    assert world.fired == [(task.pk, 0)]
    world.run(beat, until=60)
    assert world.fired == [(task.pk, 0), (task.pk, 50)]
    beat.close()
    world.run(world.instance("next"), until=70)
    assert world.fired == [(task.pk, 0), (task.pk, 50)]


def test_a_run_that_ended_while_another_instance_led_counts(world):
    task = fixed_delay()
    first, second = world.instance("first"), world.instance("second")
    world.run(first, second, until=6)
    end_run(task, 6)
    lose_lease()
    world.run(second, until=40)
    assert world.fired == [(task.pk, 0), (task.pk, 36)]


def test_while_no_run_is_awaited_nobody_asks(world, django_assert_num_queries):
    fixed_delay()
    beat = world.instance()
    world.run(beat, until=1)
    task = Task.objects.get()
    end_run(task, 100)
    world.run(beat, until=3)
    assert beat.plan.waiting == set()
    world.move(0.6)
    with django_assert_num_queries(1):  # the look for changes
        beat._saved_at = beat._timer()
        beat.step()


def test_the_firing_of_a_fixed_delay_that_was_lost_on_its_way_is_sent_again(world):
    task = fixed_delay()
    beat = world.instance()
    world.run(beat, until=59)
    assert world.fired == [(task.pk, 0)]
    world.run(beat, until=100)
    assert world.fired == [(task.pk, 0), (task.pk, 0)]
    execution(task, scheduled_time=NOON)
    world.run(beat, until=300)
    assert world.fired == [(task.pk, 0), (task.pk, 0)]
