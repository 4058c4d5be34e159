"""Beat instances over the real tables: misfires, leaders, and what goes away."""

from datetime import timedelta

import pytest
from django.db import DatabaseError
from kombu.exceptions import OperationalError

from quartzflow.lease import scheduler_alive
from tasks_app import actions
from tasks_app.scheduler import rows
from tests import people
from tests.tasks_app.scheduler_world import NOON, last_run, lose_lease, seconds

pytestmark = pytest.mark.usefixtures("each_database")


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
