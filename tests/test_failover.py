"""Two real beat processes, of which the leading one is paused or killed: nothing is lost, nothing runs twice."""

import signal
import time

import pytest

from tests import people
from tests.beat_processes import beats

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(150)]

TAKE_OVER = 10.0  # seconds, in which a standby has to have taken over
SLACK = 5.0  # seconds; this machine may be busy with other tests


@pytest.fixture
def pair(redis_url, tmp_path):
    """A leader and one that stands by, and a task that fires every second; once they are at work."""
    people.online_client()
    task = people.task("t", cron_expr="* * * * * *", misfire_policy="fire_all")
    with beats(redis_url, tmp_path) as made:
        first = made.start()
        made.until_fired(task.pk, 0)
        second = made.start()
        made.until(lambda: "tasks loaded" in made.log_of(second), "the standby has read the tasks")
        made.until_fired(task.pk, time.time() + 1)
        assert (made.leader(), made.token()) == (first, 1)
        yield made, task, first, second


def taken_over(made, task, since):
    """Wait for the standby's first messages; returns the seconds that it took."""
    made.until(lambda: made.sent[-1][2] == 2, "a message of the next leader")
    took = time.time() - since
    made.until_fired(task.pk, time.time() + 1)
    return took


def assert_each_second_once(made, task):
    seconds = made.seconds(task.pk)
    assert seconds == list(range(seconds[0], seconds[-1] + 1))


def test_a_paused_leader_that_wakes_up_harms_nothing_and_steps_down(pair):
    made, task, first, second = pair
    made.send(first, signal.SIGSTOP)
    took = taken_over(made, task, time.time())
    assert took < TAKE_OVER + SLACK
    assert (made.leader(), made.token()) == (second, 2)

    before = len(made.sent)
    made.send(first, signal.SIGCONT)
    made.until(lambda: "standing by" in made.log_of(first), "the old leader steps down")
    made.until_fired(task.pk, time.time() + 3)
    assert (made.leader(), made.token()) == (second, 2)
    # Whatever it had in hand when it was paused, it sends under its old token, for times that are there already.
    late = {at for _, at, token in made.sent[before:] if token == 1}
    assert late <= {at for _, at, _ in made.sent[:before]}
    assert_each_second_once(made, task)


def test_a_killed_leader_is_replaced_and_no_firing_is_lost_or_double(pair):
    made, task, first, second = pair
    made.stop(first, signal.SIGKILL)
    took = taken_over(made, task, time.time())
    assert took < TAKE_OVER + SLACK
    assert (made.leader(), made.token()) == (second, 2)
    assert_each_second_once(made, task)


def test_a_leader_that_is_stopped_hands_over_at_once(pair):
    made, task, first, second = pair
    made.stop(first)
    assert taken_over(made, task, time.time()) < SLACK
    assert made.leader() == second
    assert_each_second_once(made, task)
