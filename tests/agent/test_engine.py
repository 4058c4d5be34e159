"""The engine: from an instruction to its result, on a clock that the test moves."""

import asyncio

from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.runner import STOP_LIMIT
from quartzflow_agent.store.records import RUNNING, SUCCESS

from tests.agent.engine_rig import CANCELLED
from tests.agent.support import (
    START,
    instruction,
    settle,
)


async def test_runs_at_once_what_is_due(rig):
    assert await rig.accept(instruction()) == [""]
    await rig.running("exec_1")
    assert (await rig.record()).status == RUNNING
    (progress,) = rig.reports.progresses
    assert (progress.status, progress.started_at, progress.task_id) == (task_pb2.RUNNING, START, "1")
    await rig.clock.advance(2)
    rig.executor.end("exec_1")
    assert await rig.ended(1) == [("exec_1", "SUCCESS", "")]
    record = await rig.record()
    assert (record.status, record.duration_ms, record.log) == (SUCCESS, 2000, "2025-01-09/1_exec_1.log")
    assert rig.changes.ended_tasks == ["1"]
    assert set(rig.changes.days) == {"2025-01-09"}


async def test_a_correction_of_the_clock_does_not_change_how_long_it_took(rig):
    await rig.accept(instruction())
    await rig.running("exec_1")
    await rig.clock.advance(2)
    rig.clock.correction = -3_600_000
    rig.executor.end("exec_1")
    await rig.ended(1)
    assert (await rig.record()).duration_ms == 2000


async def test_waits_for_the_scheduled_time_on_the_servers_clock(rig):
    await rig.accept(instruction(scheduled_time=START + 5000, delay_ms=2000))
    await rig.clock.advance(6.9)
    assert rig.executor.running == []
    await rig.clock.advance(0.1)
    await rig.running("exec_1")


async def test_many_instructions_run_in_the_order_of_their_times(rig):
    orders = [instruction(n, task_id=str(n), scheduled_time=START + (9 - n) * 1000) for n in range(5)]
    await rig.accept(*orders)
    assert rig.executor.running == []
    await rig.clock.advance(6)
    await rig.running("exec_3", "exec_4")


async def test_the_same_instruction_runs_once(rig):
    await rig.accept(instruction(), instruction())
    await rig.accept(instruction())
    await rig.running("exec_1")
    rig.executor.end("exec_1")
    await rig.ended(1)
    await rig.accept(instruction())
    assert rig.executor.running == []
    assert rig.reports.resent == 1


async def test_ids_that_would_make_a_bad_file_name_are_refused(rig):
    bad = [instruction(execution_id="../../etc/x"), instruction(execution_id=""), instruction(task_id="a/b")]
    assert await rig.accept(*bad, instruction(2)) == [
        "rejected: malformed execution id",
        "rejected: malformed execution id",
        "rejected: malformed task id",
        "",
    ]
    await rig.running("exec_2")


async def test_what_comes_too_late_has_expired(rig):
    await rig.accept(instruction(scheduled_time=START - 61_000, expires_at=START - 1000))
    assert await rig.ended(1) == [("exec_1", "FAILURE", "expired")]
    assert rig.reports.results[0].error == "came 61 s after its time"
    assert rig.reports.results[0].started_at == 0


async def test_an_executor_that_does_not_exist_is_a_rejection(rig):
    await rig.accept(instruction(executor_type=task_pb2.PLUGIN))
    assert await rig.ended(1) == [("exec_1", "FAILURE", "rejected")]


async def test_the_engine_outlives_an_executors_error(rig, monkeypatch):
    async def broken(job):
        raise KeyError("my own fault")

    monkeypatch.setattr(rig.executor, "run", broken)
    await rig.accept(instruction())
    assert await rig.ended(1) == [("exec_1", "FAILURE", "executor_error")]
    assert "KeyError: 'my own fault'" in rig.reports.results[0].error
    assert not rig.engine.failure.done()


# --- time limits ---


async def test_ends_what_takes_too_long(rig):
    await rig.accept(instruction(timeout=30))
    await rig.running("exec_1")
    await rig.clock.advance(29)
    assert rig.reports.results == []
    await rig.clock.advance(1)
    assert await rig.ended(1) == [("exec_1", "TIMEOUT", "timeout")]
    assert rig.reports.results[0].error == "ended after its 30 s were over"


async def test_gives_up_an_executor_that_does_not_end(rig, monkeypatch):
    async def deaf(job):
        await asyncio.Event().wait()

    monkeypatch.setattr(rig.executor, "run", deaf)
    await rig.accept(instruction(timeout=10))
    await rig.clock.advance(10)
    assert rig.reports.results == []
    await rig.clock.advance(STOP_LIMIT + 1)
    assert await rig.ended(1) == [("exec_1", "FAILURE", "executor_error")]


# --- reports on the way ---


async def test_output_is_reported_every_10_seconds(rig):
    await rig.accept(instruction())
    await rig.running("exec_1")
    output = rig.executor.jobs["exec_1"].output
    output.feed(1, b"one ")
    await rig.clock.advance(9)
    assert len(rig.reports.progresses) == 1
    await rig.clock.advance(1)
    output.feed(1, b"two ")
    await rig.clock.advance(10)
    assert [(p.output_offset, p.output) for p in rig.reports.progresses[1:]] == [(0, "one "), (4, "two ")]
    await rig.clock.advance(20)
    assert len(rig.reports.progresses) == 3


async def test_output_is_reported_every_second_while_somebody_looks(rig):
    await rig.accept(instruction())
    await rig.running("exec_1")
    output = rig.executor.jobs["exec_1"].output
    output.feed(1, b"one ")
    rig.engine.watch("exec_1", True)
    await settle()
    assert [p.output for p in rig.reports.progresses[1:]] == ["one "]
    output.feed(1, b"two ")
    await rig.clock.advance(1)
    assert [p.output for p in rig.reports.progresses[1:]] == ["one ", "two "]
    rig.engine.watch("exec_1", False)
    output.feed(1, b"three")
    await rig.clock.advance(1)
    await rig.clock.advance(8)
    assert len(rig.reports.progresses) == 4
    rig.engine.watch("unknown", True)


async def test_who_looked_before_it_began_sees_its_output_at_once(rig):
    await rig.accept(instruction(scheduled_time=START + 1000))
    rig.engine.watch("exec_1", True)
    await rig.clock.advance(1)
    await rig.running("exec_1")
    rig.executor.jobs["exec_1"].output.feed(1, b"hello")
    await rig.clock.advance(1)
    assert [p.output for p in rig.reports.progresses[1:]] == ["hello"]


async def test_a_new_connection_is_told_what_runs(rig):
    await rig.accept(instruction(1), instruction(2, task_id="2"), instruction(3, scheduled_time=START + 9000))
    await rig.running("exec_1", "exec_2")
    rig.reports.progresses.clear()
    rig.engine.report_running()
    assert [p.execution_id for p in rig.reports.progresses] == ["exec_1", "exec_2"]
    assert rig.engine.running == 2


# --- concurrency ---


async def test_executions_of_a_task_queue(rig):
    await rig.accept(*(instruction(n) for n in range(3)))
    await rig.running("exec_0")
    rig.executor.end("exec_0")
    await rig.running("exec_1")
    rig.executor.end("exec_1")
    await rig.running("exec_2")
    rig.executor.end("exec_2")
    assert [name for name, *_ in await rig.ended(3)] == ["exec_0", "exec_1", "exec_2"]


async def test_skip_cancels_what_is_too_many(rig):
    orders = [instruction(n, concurrency=2, concurrency_policy="skip") for n in range(3)]
    await rig.accept(*orders)
    assert await rig.ended(1) == [("exec_2", CANCELLED, "concurrency")]
    await rig.running("exec_0", "exec_1")


async def test_replace_stops_the_old_one_first(rig):
    orders = [instruction(n, concurrency_policy="replace") for n in range(3)]
    await rig.accept(orders[0])
    await rig.running("exec_0")
    await rig.accept(*orders[1:])
    ends = await rig.ended(2)
    assert sorted(ends) == [("exec_0", CANCELLED, "concurrency"), ("exec_1", CANCELLED, "concurrency")]
    await rig.running("exec_2")


# --- cancel ---


async def test_a_running_execution_is_stopped(rig):
    await rig.accept(instruction())
    await rig.running("exec_1")
    rig.engine.cancel(["exec_1"], "cancelled_by_user")
    assert await rig.ended(1) == [("exec_1", CANCELLED, "cancelled_by_user")]


async def test_a_waiting_execution_never_starts(rig):
    await rig.accept(instruction(1), instruction(2), instruction(3, scheduled_time=START + 5000))
    await rig.running("exec_1")
    rig.engine.cancel(["exec_2", "exec_3", "exec_2"], "")
    assert sorted(await rig.ended(2)) == [
        ("exec_2", CANCELLED, "cancelled_by_user"),
        ("exec_3", CANCELLED, "cancelled_by_user"),
    ]
    rig.executor.end("exec_1")
    await rig.ended(3)
    await rig.clock.advance(10)
    assert rig.executor.jobs.keys() == {"exec_1"}


async def test_what_runs_goes_on_when_its_task_is_taken_off_schedule(rig):
    await rig.accept(instruction(1), instruction(2))
    await rig.running("exec_1")
    rig.engine.cancel(["exec_1", "exec_2"], "task_disabled")
    assert await rig.ended(1) == [("exec_2", CANCELLED, "task_disabled")]
    rig.executor.end("exec_1")
    assert (await rig.ended(2))[1] == ("exec_1", "SUCCESS", "")


async def test_a_cancellation_may_come_before_its_instruction(rig):
    rig.engine.cancel(["exec_1"], "cancelled_by_user")
    await rig.accept(instruction())
    assert await rig.ended(1) == [("exec_1", CANCELLED, "cancelled_by_user")]
    assert rig.executor.jobs == {}
