"""Beat instances over the real tables: what they send, and how they follow the tasks."""

from datetime import timedelta

import pytest
from django.db import transaction
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from tasks_app import actions
from tasks_app.configs import current_version, record_client_changes
from tasks_app.models import ConfigChange, Task
from tasks_app.scheduler import rows
from tests import people
from tests.tasks_app.scheduler_world import NOON, last_run, seconds

pytestmark = pytest.mark.usefixtures("each_database")


# --- sending ---------------------------------------------------------------------------------------------


def test_due_tasks_go_out_in_one_message_ahead_of_their_time_with_the_token(world):
    first, second = people.task("a"), people.task("b")
    people.task("off", status=0)
    people.task("by hand", schedule_type="none", cron_expr="")
    beat = world.instance()
    assert beat.step() == 0.5
    world.move(57.8)
    assert beat.step() == pytest.approx(0.2)
    assert world.messages == []
    world.move(0.2)
    beat.step()
    assert len(world.messages) == 1
    firings, token = world.messages[0]
    assert sorted(firings) == [(first.pk, seconds(NOON) + 60), (second.pk, seconds(NOON) + 60)]
    assert token == 1


def test_many_due_tasks_are_cut_into_messages(world, monkeypatch):
    monkeypatch.setattr("tasks_app.scheduler.conductor.CHUNK", 2)
    tasks = [people.task(f"t{n}") for n in range(5)]
    beat = world.instance()
    beat.step()
    world.move(58)
    beat.step()
    assert [len(firings) for firings, _ in world.messages] == [2, 2, 1]
    assert sorted(task_id for task_id, _ in world.fired) == [task.pk for task in tasks]


def test_a_great_backlog_is_sent_in_several_steps(world, monkeypatch):
    monkeypatch.setattr("tasks_app.scheduler.conductor.TAKE_LIMIT", 2)
    for n in range(3):
        people.task(f"t{n}")
    beat = world.instance()
    beat.step()
    world.move(58)
    assert beat.step() == 0.0
    assert beat.step() > 0.0
    assert len(world.fired) == 3


def test_last_firings_are_saved_in_bulk_and_touch_nothing_else(world, django_assert_max_num_queries):
    tasks = [people.task(f"t{n}") for n in range(20)]
    stock_change, before = PeriodicTasks.last_change(), PeriodicTask.objects.get(quartz_task=tasks[0])
    beat = world.instance()
    world.run(beat, until=62.5)
    assert [last_run(task) for task in tasks] == [None] * 20 or last_run(tasks[0]) == NOON + timedelta(
        minutes=1
    )
    with django_assert_max_num_queries(5):
        beat.save()
    assert {last_run(task) for task in tasks} == {NOON + timedelta(minutes=1)}
    row = PeriodicTask.objects.get(quartz_task=tasks[0])
    assert (row.total_run_count, row.date_changed) == (1, before.date_changed)
    assert PeriodicTasks.last_change() == stock_change


def test_last_firings_are_saved_every_few_seconds(world):
    task = people.task("t", cron_expr="* * * * * *")
    beat = world.instance()
    world.run(beat, until=21)
    assert NOON + timedelta(seconds=15) <= last_run(task) <= NOON + timedelta(seconds=23)
    beat.close()
    assert last_run(task) == NOON + timedelta(seconds=world.fired[-1][1])
    assert PeriodicTask.objects.get(quartz_task=task).total_run_count == len(world.fired)


def test_a_later_time_in_the_row_is_kept(world):
    task = people.task("t")
    PeriodicTask.objects.update(last_run_at=NOON)
    rows.save_last_firings({task.pk: rows.LastFiring(task.periodic_task_id, seconds(NOON) - 60, 1)})
    assert last_run(task) == NOON


def test_a_restart_goes_on_where_the_last_one_stopped(world):
    task = people.task("t", cron_expr="*/5 * * * * *")
    beat = world.instance()
    world.run(beat, until=20)
    beat.close()
    world.run(world.instance("next"), until=40)
    assert world.fired == [(task.pk, second) for second in range(5, 45, 5)]


# --- following the tasks ---------------------------------------------------------------------------------


def test_an_edit_is_effective_within_a_second_and_reads_only_that_task(world, monkeypatch):
    edited, other = people.task("t", cron_expr="0 0 1 1 *"), people.task("other", cron_expr="0 0 1 1 *")
    beat = world.instance()
    beat.step()
    read: list[set[int]] = []
    planned = rows.planned_tasks
    monkeypatch.setattr(rows, "planned_tasks", lambda ids=None: read.append(ids) or planned(ids))
    world.move(30)
    actions.do_update_task(people.admin(), edited, {"cron_expr": "* * * * * *"})
    world.move(0.5)
    beat.step()
    assert world.fired == [(edited.pk, 31), (edited.pk, 32)]
    assert read == [{edited.pk}]
    assert beat.plan.get(other.pk) is not None


def test_a_quiet_look_for_changes_is_one_small_query(world, django_assert_num_queries):
    people.task("t")
    beat = world.instance()
    beat.step()
    world.move(0.6)
    with django_assert_num_queries(1):
        beat.step()
    world.move(0.1)
    with django_assert_num_queries(0):
        beat.step()


def test_enable_disable_create_and_delete_are_followed(world):
    task = people.task("t", cron_expr="* * * * * *")
    beat = world.instance()
    world.run(beat, until=3)
    actions.do_set_enabled(people.admin(), [task], False)
    world.run(beat, until=20)
    assert max(second for _, second in world.fired) <= 5
    actions.do_set_enabled(people.admin(), [task], True)
    world.run(beat, until=23)
    # what it missed while it was off is not made up for
    assert [second for _, second in world.fired if second > 5] == [21, 22, 23, 24]
    actions.do_delete_tasks(people.admin(), [task])
    new = people.task("new", cron_expr="* * * * * *")
    world.run(beat, until=30)
    assert {task_id for task_id, second in world.fired if second > 25} == {new.pk}
    assert len(beat.plan) == 1


def test_a_new_schedule_counts_from_its_edit_whatever_was_fired_before(world):
    task = people.task("t", cron_expr="0 * * * *", misfire_policy="fire_all")
    PeriodicTask.objects.update(last_run_at=NOON)
    beat = world.instance()
    world.move(300)
    beat.step()
    actions.do_update_task(people.admin(), task, {"cron_expr": "* * * * *"})
    world.run(beat, until=400)
    assert world.fired == [(task.pk, 360)]


def test_an_edit_of_something_else_does_not_disturb_the_schedule(world):
    task = people.task("t", cron_expr="*/10 * * * * *")
    beat = world.instance()
    world.run(beat, until=9)
    actions.do_update_task(people.admin(), task, {"description": "now with words"}, force=True)
    world.run(beat, until=29)
    assert world.fired == [(task.pk, 10), (task.pk, 20), (task.pk, 30)]


def test_firings_not_saved_yet_survive_a_reload_but_not_a_new_schedule(world):
    task = people.task("t", cron_expr="* * * * * *")
    beat = world.instance()
    world.run(beat, until=2)
    assert last_run(task) is None
    Task.objects.filter(pk=task.pk).update(schedule_since=NOON - timedelta(days=1))
    beat._reload([task.pk])
    assert beat.plan.get(task.pk).last == seconds(NOON) + 3
    Task.objects.filter(pk=task.pk).update(schedule_since=NOON + timedelta(seconds=9))
    beat._reload([task.pk])
    assert beat.plan.get(task.pk).last is None
    beat.save()
    assert last_run(task) is None


def test_when_changes_are_forgotten_already_everything_is_read_anew(world, settings):
    settings.QF_CONFIG_CHANGES_KEPT = 2
    gone, kept = people.task("gone"), people.task("kept")
    beat = world.instance()
    beat.step()
    Task.objects.filter(pk=gone.pk).delete()  # its row in the log is among those cut off
    for _ in range(3):
        actions.do_update_task(people.admin(), kept, {"description": "again"})
    ConfigChange.objects.all().delete()
    world.move(1)
    beat.step()
    assert [task.task_id for task in beat.plan.tasks()] == [kept.pk]


def test_changes_of_hosts_move_the_cursor_and_read_no_task(world, monkeypatch):
    people.task("t")
    beat = world.instance()
    beat.step()
    with transaction.atomic():
        record_client_changes(["web-1"])
    before = current_version()
    monkeypatch.setattr(rows, "planned_tasks", lambda ids=None: pytest.fail("read") if ids else iter(()))
    world.move(1)
    beat.step()
    assert beat._version == before


def test_a_task_that_cannot_be_scheduled_does_not_stop_the_others(world):
    broken, good = people.task("broken"), people.task("good")
    Task.objects.filter(pk=broken.pk).update(cron_expr="61 * * * *")
    beat = world.instance()
    world.run(beat, until=59)
    assert world.fired == [(good.pk, 60)]
    Task.objects.filter(pk=good.pk).update(timezone="Mars/Olympus")
    beat._reload([good.pk])
    assert len(beat.plan) == 0
