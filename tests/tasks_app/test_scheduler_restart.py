"""A real beat process that was down over several times of three tasks: what each misfire policy makes of it."""

import time

import pytest

from tests import people
from tests.beat_processes import PATIENCE, beats

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(150)]

THRESHOLD = 10  # seconds; up to this a firing is only late
MISSED = 4  # times that are more than late


def test_after_a_restart_every_policy_does_exactly_what_it_says(redis_url, tmp_path):
    people.online_client()
    policies = ("skip", "fire_once", "fire_all")
    tasks = {
        policy: people.task(policy, cron_expr="* * * * * *", misfire_policy=policy).pk for policy in policies
    }
    with beats(redis_url, tmp_path) as made:
        pid = made.start()
        made.until_fired(tasks["skip"], 0)
        made.until_fired(tasks["skip"], time.time() + 2)
        made.stop(pid)
        made.until(lambda: True, "what it had sent")
        last = made.seconds(tasks["skip"])[-1]
        assert all(made.seconds(pk)[-1] == last for pk in tasks.values())

        # down until MISSED times after its last one are past the threshold
        made.until(lambda: time.time() > last + MISSED + THRESHOLD + 0.5, "the time is up")
        started = time.time()
        made.start()
        made.until_fired(tasks["skip"], started)
        assert time.time() - started < PATIENCE
        made.until_fired(tasks["skip"], time.time() + 2)

    seconds = {policy: made.seconds(pk) for policy, pk in tasks.items()}
    end = min(found[-1] for found in seconds.values())
    after = {policy: [at for at in found if last < at <= end] for policy, found in seconds.items()}
    back = after["skip"][0]  # the first time that was not missed but late
    assert last + MISSED < back <= time.time() - THRESHOLD
    assert after["skip"] == list(range(back, end + 1))
    assert after["fire_once"] == [back - 1, *range(back, end + 1)]
    assert after["fire_all"] == list(range(last + 1, end + 1))
