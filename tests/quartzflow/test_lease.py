"""The lease: one holder, a growing token, the database's clock."""

from datetime import timedelta

import pytest
from django.db import DatabaseError
from django.db.models.functions import Now

from quartzflow.lease import SCHEDULER, LeaseKeeper, LeaseState, current, new_holder, scheduler_alive
from quartzflow.models import Lease

pytestmark = pytest.mark.usefixtures("each_database")


class Clock:
    """The process's own clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def expire(name: str = SCHEDULER) -> None:
    Lease.objects.filter(name=name).update(expires_at=Now() - timedelta(seconds=0.001))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def first(clock) -> LeaseKeeper:
    return LeaseKeeper(SCHEDULER, holder="first", clock=clock)


@pytest.fixture
def second(clock) -> LeaseKeeper:
    return LeaseKeeper(SCHEDULER, holder="second", clock=clock)


def test_the_first_one_takes_it_and_the_second_stands_by(first, second):
    assert (first.keep(), second.keep()) == (True, False)
    assert (first.holds(), second.holds()) == (True, False)
    assert current(SCHEDULER) == LeaseState("first", 1)
    assert current("another") is None
    assert scheduler_alive()


def test_nobody_holds_a_lease_that_was_never_taken(first):
    assert (first.holds(), scheduler_alive(), current(SCHEDULER)) == (False, False, None)


def test_it_is_renewed_when_due_and_not_more_often(first, clock, django_assert_num_queries):
    first.keep()
    clock.now += 1.9
    with django_assert_num_queries(0):
        assert first.keep()
    clock.now += 0.2
    with django_assert_num_queries(1):
        assert first.keep()
    assert current(SCHEDULER) == LeaseState("first", 1)


def test_renewal_moves_the_end_on_the_databases_clock(first, clock):
    first.keep()
    Lease.objects.update(expires_at=Now() + timedelta(seconds=1))
    clock.now += 3
    first.keep()
    assert Lease.objects.filter(
        expires_at__gt=Now() + timedelta(seconds=7), expires_at__lte=Now() + timedelta(seconds=8)
    )


def test_waiting_only_reads(first, second, django_assert_num_queries):
    first.keep()
    with django_assert_num_queries(1) as queries:
        second.keep()
    assert queries[0]["sql"].startswith("SELECT")


def test_an_expired_lease_goes_to_another_with_a_higher_token(first, second, clock):
    first.keep()
    expire()
    assert not scheduler_alive()
    assert second.keep()
    assert current(SCHEDULER) == LeaseState("second", 2)
    clock.now += 3
    assert not first.keep()
    assert (first.holds(), first.token) == (False, 1)


def test_a_paused_holder_knows_by_its_own_clock_that_its_time_is_over(first, clock):
    first.keep()
    clock.now += 8
    assert not first.holds()


def test_a_paused_holder_that_nobody_replaced_goes_on_with_its_token(first, clock):
    first.keep()
    clock.now += 8
    assert first.keep()
    assert first.token == 1


def test_a_holder_that_lost_its_time_takes_it_anew_with_a_new_token(first, clock):
    first.keep()
    expire()
    clock.now += 3
    assert first.keep()
    assert (first.holds(), first.token) == (True, 2)


def test_release_lets_the_next_one_in_at_once(first, second):
    first.keep()
    first.release()
    assert (first.holds(), scheduler_alive()) == (False, False)
    assert second.keep()
    first.release()  # again, and late: it is not ours any more
    assert current(SCHEDULER) == LeaseState("second", 2)


def test_leases_of_different_names_do_not_meet(first, clock):
    first.keep()
    other = LeaseKeeper("other", holder="second", clock=clock)
    assert other.keep()
    assert (first.holds(), other.token) == (True, 1)


def test_a_database_that_is_away_does_not_end_a_lease_before_its_time(first, clock, monkeypatch):
    first.keep()
    clock.now += 3

    def away(self):
        raise DatabaseError("away")

    monkeypatch.setattr(LeaseKeeper, "_renew", away)
    with pytest.raises(DatabaseError):
        first.keep()
    assert first.holds()
    clock.now += 5
    assert not first.holds()


def test_holders_have_names_of_their_own():
    assert new_holder() != new_holder()
    assert len(new_holder()) <= Lease._meta.get_field("holder").max_length
