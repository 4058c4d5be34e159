"""Time on the server's clock."""

import asyncio
import time

import pytest
from quartzflow_agent import clock as clock_module
from quartzflow_agent.clock import ServerClock, monotonic
from quartzflow_agent.timeline import Timeline

from tests.agent.support import START, FakeClock, settle


def test_it_is_the_hosts_own_until_a_server_has_been_heard():
    assert abs(ServerClock().server_ms() - time.time() * 1000) < 50
    assert abs(ServerClock().offset_ms) < 50


def test_the_shortest_round_trip_of_the_last_eight_counts():
    clock = ServerClock()
    now = monotonic()
    ahead = (time.time() + 100) * 1000
    clock.add_sample(round(ahead), now - 0.001, now + 0.001)
    clock.add_sample(round(ahead + 9000), now - 2, now + 2)  # half a second here or there
    assert abs(clock.offset_ms - 100_000) < 50
    for _ in range(8):
        clock.add_sample(round(ahead + 5000), now - 1, now + 1)
    assert abs(clock.offset_ms - 105_000) < 50


def test_a_new_connection_forgets_the_samples_but_not_the_time():
    clock = ServerClock()
    now = monotonic()
    clock.add_sample(round((time.time() + 100) * 1000), now, now)
    clock.new_connection()
    assert abs(clock.offset_ms - 100_000) < 50
    clock.add_sample(round((time.time() + 7) * 1000), now - 1, now + 1)
    assert abs(clock.offset_ms - 7000) < 50


def test_a_change_of_the_hosts_time_of_day_does_not_matter(monkeypatch):
    clock = ServerClock()
    now = monotonic()
    true = time.time()
    clock.add_sample(round(true * 1000), now, now)
    monkeypatch.setattr(time, "time", lambda: true - 86_400)
    assert abs(clock.server_ms() - true * 1000) < 50
    assert abs(clock.offset_ms - 86_400_000) < 50


async def test_a_wait_ends_with_its_time_or_its_event(monkeypatch):
    monkeypatch.setattr(clock_module, "LONGEST_WAIT", 0.02)
    clock, event = ServerClock(), asyncio.Event()
    started = time.monotonic()
    assert not await clock.wait(event, 0.1)
    assert 0.09 < time.monotonic() - started < 0.5
    assert not await clock.wait(event, -1)
    asyncio.get_running_loop().call_later(0.05, event.set)
    assert await clock.wait(event, None)


async def test_a_suspended_machine_wakes_up_late_by_one_wait_at_most(monkeypatch):
    """asyncio's timers stand still meanwhile, the clock does not."""
    monkeypatch.setattr(clock_module, "LONGEST_WAIT", 0.05)
    slept = [0.0]
    real = monotonic
    monkeypatch.setattr(clock_module, "monotonic", lambda: real() + slept[0])
    waiting = asyncio.ensure_future(ServerClock().wait(asyncio.Event(), 3600))
    await asyncio.sleep(0.02)
    slept[0] = 7200.0
    assert not await asyncio.wait_for(waiting, 1)


@pytest.fixture
async def line():
    clock, fired = FakeClock(), []
    timeline = Timeline(clock, lambda key: fired.append((key, clock.server_ms() - START)))
    work = asyncio.ensure_future(timeline.run())
    yield clock, timeline, fired
    work.cancel()


async def test_moments_fire_in_their_order(line):
    clock, timeline, fired = line
    for key, due in [("b", 2000), ("a", 1000), ("now", 0), ("past", -5000)]:
        timeline.put(key, START + due)
    await settle()
    assert fired == [("past", 0), ("now", 0)]
    await clock.advance(3, step=0.5)
    assert fired[2:] == [("a", 1000), ("b", 2000)]


async def test_moments_can_be_moved_and_taken_back(line):
    clock, timeline, fired = line
    for key in ("a", "b", "c"):
        timeline.put(key, START + 1000)
    timeline.put("a", START + 3000)
    timeline.put("b", START + 500)
    timeline.remove("c")
    timeline.remove("unknown")
    await clock.advance(4, step=0.5)
    assert fired == [("b", 500), ("a", 3000)]


async def test_a_clock_that_was_set_is_noticed(line):
    clock, timeline, fired = line
    timeline.put("a", START + 3_600_000)
    await clock.advance(1)
    clock.correction = 3_600_000
    await clock.advance(30, step=10)
    assert [key for key, _ in fired] == ["a"]


async def test_a_correction_of_the_clock_is_seen_when_it_is_told(line):
    clock, timeline, fired = line
    timeline.put("a", START + 60_000)
    await settle()
    clock.seconds += 60
    await settle()
    assert fired == []
    timeline.wake()
    await settle()
    assert fired == [("a", 60_000)]


async def test_a_cancellation_is_not_forgotten_when_the_event_comes_at_the_same_moment():
    event = asyncio.Event()
    waiting = asyncio.ensure_future(ServerClock().wait(event, 60))
    await asyncio.sleep(0.01)
    event.set()
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 1)
