"""Deadlines that share the loop's timers: each rings once, not before its time, and hardly after it."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quic_bridge import timers
from quic_bridge.timers import COARSE, FAR, FINE, Timers


class Loop:
    """As much of an event loop as Timers needs; its time stands still but for `run`."""

    def __init__(self, start):
        self.now = start
        self.calls = []

    def time(self):
        return self.now

    def call_at(self, when, function, *args):
        self.calls.append((when, function, args))

    def call_soon(self, function, *args):
        self.call_at(self.now, function, *args)

    def run(self, until):
        while self.calls and min(call[0] for call in self.calls) <= until:
            due = min(self.calls, key=lambda call: call[0])
            self.calls.remove(due)
            self.now = max(self.now, due[0])
            due[1](*due[2])
        self.now = until


class Item:
    """Looks again when it rings too early, as connections do."""

    def __init__(self, timer):
        self.slot = 0
        self.timer = timer
        self.due = math.inf
        self.rung = []

    def arm(self, due):
        self.due = due
        self.timer.arm(self, due)

    def ring(self, now):
        if now < self.due:
            self.timer.arm(self, self.due)
        else:
            self.rung.append(now)
            self.due = math.inf


moments = st.floats(0, 90)


@given(start=st.floats(1, 1e7), deadlines=st.lists(moments, min_size=1, max_size=30))
def test_each_rings_once_and_in_time(start, deadlines):
    loop = Loop(start)
    timer = Timers(loop)
    items = [Item(timer) for _ in deadlines]
    for item, after in zip(items, deadlines, strict=True):
        item.arm(start + after)
    loop.run(start + 100)
    for item, after in zip(items, deadlines, strict=True):
        (rung,) = item.rung
        assert -1e-6 <= rung - (start + after) <= FINE + 1e-6


@given(changes=st.lists(st.tuples(st.floats(0, 3), moments), min_size=1, max_size=20))
def test_of_several_deadlines_none_is_missed(changes):
    """A later one takes the place of an earlier only when that has rung and the item has looked again."""
    loop = Loop(50.0)
    item = Item(Timers(loop))
    for wait, after in changes:
        item.arm(loop.now + after)
        loop.run(loop.now + wait)
    latest = item.due
    loop.run(loop.now + 100)
    assert item.due == math.inf and item.slot == 0
    if latest < math.inf:
        assert -1e-6 <= item.rung[-1] - latest <= FINE + 1e-6


def test_what_is_disarmed_or_never_due_does_not_ring_and_is_not_held():
    loop = Loop(5.0)
    timer = Timers(loop)
    gone, never = Item(timer), Item(timer)
    gone.arm(6.5)
    never.arm(math.inf)
    timer.disarm(gone)
    timer.disarm(never)
    assert not any(timer._slots.values())
    loop.run(20.0)
    assert gone.rung == never.rung == []


def test_far_deadlines_share_few_timers():
    loop = Loop(0.5)
    timer = Timers(loop)
    for number in range(1000):
        Item(timer).arm(loop.now + FAR + 1 + number / 1000)
    assert len(loop.calls) <= 1 / (FINE * COARSE) + 2


def test_many_that_ring_at_once_leave_others_their_turn(monkeypatch):
    monkeypatch.setattr(timers, "TURN", 0.0)
    loop = Loop(5.0)
    timer = Timers(loop)
    items = [Item(timer) for _ in range(3)]
    for item in items:
        item.arm(6.0)
    (first,) = loop.calls
    loop.now = 6.0
    loop.calls.clear()
    first[1](*first[2])
    assert sum(len(item.rung) for item in items) == 1  # the others are put behind what waits
    loop.run(7.0)
    assert [len(item.rung) for item in items] == [1, 1, 1]


async def test_an_item_that_breaks_does_not_take_the_others_along():
    loop = asyncio.get_running_loop()
    timer = Timers(loop)
    good, bad = Item(timer), Item(timer)
    told = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    bad.ring = lambda now: 1 / 0
    for item in (good, bad):
        item.arm(loop.time())
    for _ in range(100):
        await asyncio.sleep(0.01)
        if told and good.rung:
            break
    assert isinstance(told[0], ZeroDivisionError)
    assert good.rung


@pytest.mark.parametrize("late", [0.0, 5.0])
def test_a_deadline_that_is_over_rings_at_once(late):
    loop = Loop(8.0)
    item = Item(Timers(loop))
    item.arm(8.0 - late)
    loop.run(8.0 + FINE)
    assert len(item.rung) == 1
