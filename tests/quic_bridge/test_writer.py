"""The database thread, without a database."""

import asyncio
import threading

import pytest
from quartzflow_agent.protocol import task_pb2

from quic_bridge import writer as module
from quic_bridge.domain import Accepted, Progress, Result, Unavailable
from quic_bridge.writer import Submission, Writer, _rounds

from .agents import eventually


def result(name, client_id="host-1", attempt=0):
    return Result(client_id, task_pb2.TaskResult(execution_id=name, attempt=attempt))


def progress(name, client_id="host-1"):
    return Progress(client_id, task_pb2.TaskProgress(execution_id=name))


@pytest.fixture
async def committed():
    return []


@pytest.fixture
async def writer(domain, committed):
    writer = Writer(domain)
    writer.start(lambda batch, outcome: committed.append((batch, outcome)))
    yield writer
    if not writer.ended.done():
        await writer.stop()


async def test_reports_within_the_window_share_a_batch(writer, domain, committed):
    for number in range(10):
        writer.submit([result(f"e{number}")])
    await eventually(lambda: committed)
    assert [len(batch) for batch in domain.batches] == [10]
    assert writer.waiting == 0


async def test_a_full_batch_does_not_wait_for_the_window(writer, domain, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 60)
    monkeypatch.setattr(module, "FOLD", 100)
    for number in range(250):
        writer.submit([result(f"e{number}")])
    await eventually(lambda: len(domain.batches) == 2)
    assert [len(batch) for batch in domain.batches] == [100, 100]
    await writer.stop()
    assert [len(batch) for batch in domain.batches] == [100, 100, 50]


async def test_what_waits_already_is_written_together_up_to_a_limit(writer, domain, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 60)
    busy = threading.Event()
    writer.call(busy.wait, 5)
    for number in range(350):
        writer.submit([result(f"e{number}")])
    busy.set()
    await eventually(lambda: domain.batches)
    await writer.stop()
    assert [len(batch) for batch in domain.batches] == [300, 50]


async def test_calls_do_not_hold_up_reports(writer, domain, committed):
    writer.submit([result("e")])
    async with asyncio.timeout(5):
        while not committed:
            await writer.call(domain.current_version)


async def test_a_calls_result_or_exception_comes_back(writer, domain):
    assert await writer.call(domain.current_version) == 1
    with pytest.raises(ValueError, match="no date"):
        await writer.call(domain.ingest_daily_stats, "host-1", task_pb2.DailyStatsReport())
    domain.broken.set()
    with pytest.raises(Unavailable):
        await writer.call(domain.current_version)


async def test_a_call_nobody_waits_for_any_more_does_no_harm(writer, domain):
    entered, leave = threading.Event(), threading.Event()

    def slow():
        entered.set()
        leave.wait(5)

    future = writer.call(slow)
    await asyncio.to_thread(entered.wait, 5)
    future.cancel()
    leave.set()
    assert await writer.call(domain.current_version) == 1


def test_two_results_of_one_execution_are_written_one_after_the_other():
    first, second, third = result("a"), result("a", attempt=1), result("a", attempt=2)
    batch = [
        Submission([progress("a"), first], None),
        Submission([result("b"), progress("a"), second], None),
        Submission([third], None),
    ]
    rounds = _rounds(batch)
    assert [[r.execution_id for r in reports] for reports in rounds] == [["a", "a", "b"], ["a", "a"], ["a"]]
    assert (rounds[0][1], rounds[1][1], rounds[2][0]) == (first, second, third)


async def test_one_report_that_cannot_be_written_does_not_hold_up_the_others(writer, domain, committed):
    domain.poison = "e3"
    for number in range(8):
        writer.submit([result(f"e{number}")])
    await eventually(lambda: committed)
    (_, outcome) = committed[0]
    assert outcome.committed == {f"e{number}" for number in range(8)} - {"e3"}
    assert outcome.refused == {}


async def test_a_batch_waits_until_the_database_is_back(writer, domain, committed, monkeypatch):
    monkeypatch.setattr(module, "RETRY", (0.01,))
    domain.broken.set()
    writer.submit([result("e")])
    await asyncio.sleep(0.2)
    assert committed == []
    assert writer.waiting == 1
    domain.broken.clear()
    await eventually(lambda: committed)
    assert committed[0][1].committed == {"e"}


async def test_a_call_behind_the_reports_finds_them_written(writer, domain, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 60)
    writer.submit([result("e")])
    assert await writer.call(lambda: len(domain.reports)) == 0
    assert await writer.call_behind(lambda: len(domain.reports)) == 1
    assert await writer.call_behind(lambda: len(domain.reports)) == 1


async def test_stopping_writes_what_is_there(writer, domain, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 60)
    writer.submit([Accepted("host-1", "e")])
    await writer.stop()
    assert domain.reports == [Accepted("host-1", "e")]
    assert domain.closed


async def test_stopping_does_not_wait_for_a_database_that_is_away(writer, domain, committed):
    domain.broken.set()
    writer.submit([result("e")])
    await asyncio.sleep(0.1)
    await asyncio.wait_for(writer.stop(), 2)
    assert committed[0][1].committed == set()


async def test_more_reports_than_can_wait_are_dropped_unanswered(writer, domain, monkeypatch):
    monkeypatch.setattr(module, "CAPACITY", 5)
    monkeypatch.setattr(module, "WINDOW", 60)
    for number in range(8):
        writer.submit([result(f"e{number}")])
    assert writer.waiting == 5
    await writer.stop()
    assert [r.execution_id for r in domain.reports] == [f"e{number}" for number in range(5)]


async def test_the_threads_death_is_told(domain, monkeypatch):
    monkeypatch.setattr(module, "_rounds", lambda batch: 1 / 0)
    writer = Writer(domain)
    writer.start(lambda batch, outcome: None)
    writer.submit([result("e")])
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(asyncio.shield(writer.ended), 5)
    await writer.stop()
