"""Beat instances over the real tables, with a fake broker and a clock that the tests move."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import DatabaseError, transaction
from django.db.models.functions import Now
from django_celery_beat.models import PeriodicTask, PeriodicTasks
from kombu.exceptions import OperationalError

from executions_app.models import Execution
from quartzflow.execution_status import ExecutionStatus
from quartzflow.lease import SCHEDULER, LeaseKeeper, scheduler_alive
from quartzflow.models import Lease
from tasks_app import actions
from tasks_app.configs import current_version, record_client_changes
from tasks_app.models import ConfigChange, Task
from tasks_app.scheduler import rows
from tasks_app.scheduler.conductor import Conductor
from tasks_app.scheduler.plan import Plan
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


class World:
    """Time, and a broker that beat instances share."""

    def __init__(self, traveller: time_machine.Traveller) -> None:
        self.traveller = traveller
        self.elapsed = 0.0
        self.messages: list[tuple[list[tuple[int, int]], int]] = []
        self.broker_is_up = True

    def move(self, by: float) -> None:
        self.elapsed += by
        self.traveller.shift(by)

    def publish(self, firings: list[tuple[int, int]], token: int) -> None:
        if not self.broker_is_up:
            raise OperationalError("away")
        self.messages.append((firings, token))

    def instance(self, name: str = "first", **plan: float) -> Conductor:
        keeper = LeaseKeeper(SCHEDULER, holder=name, clock=lambda: self.elapsed)
        return Conductor(self.publish, keeper, Plan(**plan), timer=lambda: self.elapsed)  # type: ignore[arg-type]

    @property
    def fired(self) -> list[tuple[int, int]]:
        """(task id, nominal second after NOON), in the order of sending."""
        return [(task_id, time - seconds(NOON)) for firings, _ in self.messages for task_id, time in firings]

    def run(self, *instances: Conductor, until: float, step: float = 0.5) -> None:
        while self.elapsed < until:
            for instance in instances:
                while instance.step() == 0.0:
                    pass
            self.move(step)


@pytest.fixture
def world() -> Iterator[World]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield World(traveller)


def last_run(task: Task) -> datetime | None:
    return PeriodicTask.objects.get(quartz_task=task).last_run_at


def lose_lease() -> None:
    Lease.objects.update(expires_at=Now() - timedelta(seconds=0.001))


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


# --- misfires and leaders --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "made_up"), [("skip", []), ("fire_once", [180]), ("fire_all", [60, 120, 180])]
)
def test_what_fell_due_while_no_scheduler_ran_follows_the_policy(world, policy, made_up):
    task = people.task("t", misfire_policy=policy)
    world.move(200)
    beat = world.instance()
    beat.step()
    assert world.fired == [(task.pk, second) for second in made_up]
    world.run(beat, until=240)
    assert world.fired == [(task.pk, second) for second in [*made_up, 240]]


def test_the_standby_takes_over_with_a_higher_token_and_nothing_is_lost_or_double(world):
    task = people.task("t", cron_expr="* * * * * *")
    first, second = world.instance("first"), world.instance("second")
    world.run(first, second, until=10)
    assert (first.leads, second.leads) == (True, False)
    first.save()  # and then it is killed
    world.move(8)
    lose_lease()
    world.run(second, until=30)
    assert second.leads
    assert world.fired == [(task.pk, number) for number in range(1, 32)]
    assert [token for _, token in world.messages][-1] == 2


def test_a_kill_between_send_and_save_only_repeats(world):
    task = people.task("t", cron_expr="* * * * * *")
    first, second = world.instance("first"), world.instance("second")
    world.run(first, second, until=4)
    sent = len(world.fired)
    lose_lease()
    world.run(second, until=8)
    assert sorted(set(world.fired)) == [(task.pk, number) for number in range(1, 10)]
    assert len(world.fired) > len(set(world.fired)) >= sent


def test_the_standby_follows_edits_before_it_takes_over(world):
    task = people.task("t", cron_expr="0 0 1 1 *")
    first, second = world.instance("first"), world.instance("second")
    world.run(first, second, until=2)
    actions.do_update_task(people.admin(), task, {"cron_expr": "*/10 * * * * *"})
    world.run(first, second, until=3)
    lose_lease()
    world.run(second, until=10)
    assert world.fired == [(task.pk, 10)]


def test_a_leader_that_was_replaced_stands_by_and_sends_nothing(world):
    people.task("t", cron_expr="* * * * * *")
    first, second = world.instance("first"), world.instance("second")
    world.run(first, second, until=2)
    world.move(9)  # the first one is paused
    lose_lease()
    second.step()
    sent = len(world.messages)
    assert not first.lease.holds()
    assert first.step() == 0.5
    assert (first.leads, len(world.messages)) == (False, sent)


def test_a_leader_that_comes_back_knows_what_the_other_has_fired(world):
    task = people.task("t", cron_expr="* * * * * *")
    first, second = world.instance("first"), world.instance("second")
    world.run(first, second, until=4)
    first.close()
    world.run(second, until=12)
    second.close()
    world.run(first, until=16)
    assert world.fired == [(task.pk, number) for number in range(1, 18)]


def test_a_lease_that_ends_between_two_messages_stops_the_rest(world, monkeypatch):
    monkeypatch.setattr("tasks_app.scheduler.conductor.CHUNK", 1)
    first, second = people.task("a"), people.task("b")
    beat = world.instance()
    beat.step()
    world.move(58)
    publish = world.publish
    monkeypatch.setattr(beat, "_publish", lambda *message: (publish(*message), world.move(9)))
    beat.step()
    assert world.fired == [(first.pk, 60)]
    assert beat.plan.get(second.pk).next == seconds(NOON) + 60


def test_close_saves_gives_the_lease_up_and_may_be_repeated(world):
    task = people.task("t", cron_expr="* * * * * *")
    beat = world.instance()
    world.run(beat, until=2)
    assert scheduler_alive()
    beat.close()
    beat.close()
    assert not scheduler_alive()
    assert last_run(task) == NOON + timedelta(seconds=3)


# --- when things go away ---------------------------------------------------------------------------------


def test_while_the_broker_is_away_firings_wait_and_then_follow_the_misfire_policy(world):
    task = people.task("t", cron_expr="* * * * * *")
    people.task("skipping", cron_expr="0 * * * * *", misfire_policy="skip")
    beat = world.instance()
    beat.step()
    world.broker_is_up = False
    for _ in range(40):
        world.move(2)
        with pytest.raises(OperationalError):
            beat.step()
    world.broker_is_up = True
    beat.step()
    # after what went out before: the latest missed, then all that are merely late
    assert world.fired == [(task.pk, second) for second in [1, 2, *range(69, 83)]]


def test_what_was_sent_before_the_broker_went_is_not_sent_again(world, monkeypatch):
    monkeypatch.setattr("tasks_app.scheduler.conductor.CHUNK", 1)
    tasks = [people.task("a"), people.task("b")]
    beat = world.instance()
    beat.step()
    world.move(58)
    publish = world.publish

    def publish_one(firings, token):
        publish(firings, token)
        world.broker_is_up = False

    monkeypatch.setattr(beat, "_publish", publish_one)
    with pytest.raises(OperationalError):
        beat.step()
    world.broker_is_up = True
    monkeypatch.setattr(beat, "_publish", publish)
    beat.step()
    assert sorted(world.fired) == [(task.pk, 60) for task in tasks]


def test_a_database_that_fails_loses_no_last_firing(world, monkeypatch):
    task = people.task("t", cron_expr="* * * * * *")
    beat = world.instance()
    world.run(beat, until=2)
    with monkeypatch.context() as patch:

        def away(firings):
            raise DatabaseError("away")

        patch.setattr(rows, "save_last_firings", away)
        with pytest.raises(DatabaseError):
            beat.save()
    beat.save()
    assert last_run(task) == NOON + timedelta(seconds=3)


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
