"""The engine: from an instruction to its result, on a clock that the test moves."""

import asyncio
import signal
import subprocess
import sys

import psutil
import pytest
from quartzflow_agent.engine import Engine
from quartzflow_agent.executors import ProcessRunner, executors
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.runner import STOP_LIMIT
from quartzflow_agent.store import executions, outbox, statistics, tasks
from quartzflow_agent.store.records import RUNNING, SUCCESS
from quartzflow_agent.store.thread import StoreThread

from tests.agent.support import (
    START,
    FakeClock,
    RecordedChanges,
    RecordedReports,
    ScriptedExecutor,
    instruction,
    settle,
    task_config,
    until,
)

PENDING, CANCELLED = "PENDING", "CANCELLED"


class Rig:
    """An engine with a scripted executor for Shell tasks."""

    def __init__(self, home, store, real=False):
        self.clock = FakeClock()
        self.reports = RecordedReports()
        self.changes = RecordedChanges()
        self.executor = ScriptedExecutor()
        self.store = store
        processes = ProcessRunner()
        self.engine = Engine(
            store=store,
            clock=self.clock,
            reports=self.reports,
            listener=self.changes,
            executors=executors(processes) if real else {task_pb2.SHELL: self.executor},
            processes=processes,
            home=home,
            log_limit=100_000,
        )
        self.timeline = asyncio.ensure_future(self.engine.timeline.run())

    async def accept(self, *orders, **options):
        found = await self.engine.accept(list(orders), **options)
        await settle()
        return found

    async def record(self, name="exec_1"):
        return await self.store.call(lambda db: executions.get(db, name))

    async def configure(self, *configs, deleted=(), version=9):
        message = task_pb2.TaskConfigPush(
            tasks=configs, version=version, action=task_pb2.UPDATE, deleted_task_ids=deleted
        )
        changes = await self.store.call(lambda db: tasks.apply(db, message, self.clock.server_ms()))
        await self.engine.config_changed(changes)
        await settle()

    async def ended(self, count):
        await until(lambda: len(self.reports.results) >= count, f"for {count} results")
        return self.reports.ends()

    async def running(self, *names):
        await until(lambda: self.executor.running == sorted(names), f"for {names}")

    async def close(self):
        await self.engine.stop(0)
        self.timeline.cancel()


@pytest.fixture
async def rig(home, store):
    made = Rig(home, store)
    yield made
    await made.close()


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


async def test_a_cancellation_may_come_before_its_instruction(rig):
    rig.engine.cancel(["exec_1"], "cancelled_by_user")
    await rig.accept(instruction())
    assert await rig.ended(1) == [("exec_1", CANCELLED, "cancelled_by_user")]
    assert rig.executor.jobs == {}


# --- the configuration changes ---


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"configs": [task_config(version=6, cron_expr="30 * * * *")]}, "task_changed"),
        ({"configs": [task_config(version=6, cron_expr="nonsense")]}, "task_changed"),
        ({"configs": [task_config(version=6, enabled=False)]}, "task_disabled"),
        ({"configs": [], "deleted": ["1"]}, "task_deleted"),
    ],
)
async def test_what_waits_and_is_not_wanted_any_more_is_dropped(rig, change, reason):
    await rig.configure(task_config(version=5), version=8)
    await rig.accept(instruction(1), instruction(2), instruction(3, scheduled_time=START + 60_000))
    await rig.running("exec_1")
    await rig.configure(*change["configs"], deleted=change.get("deleted", ()))
    assert sorted(await rig.ended(2)) == [("exec_2", CANCELLED, reason), ("exec_3", CANCELLED, reason)]
    # What runs goes on to its end.
    rig.executor.end("exec_1")
    assert (await rig.ended(3))[-1] == ("exec_1", "SUCCESS", "")


async def test_what_is_still_on_the_schedule_runs_by_the_new_definition(rig):
    await rig.configure(task_config(version=5), version=8)
    await rig.accept(instruction(1), instruction(2, scheduled_time=START + 60_000))
    await rig.running("exec_1")
    changed = task_config(version=6, name="new", timeout=99, config={"command": "new"})
    await rig.configure(changed)
    rig.executor.end("exec_1")
    await rig.ended(1)
    await rig.clock.advance(60, step=20)
    await rig.running("exec_2")
    rig.executor.end("exec_2")
    await rig.ended(2)
    jobs = rig.executor.jobs
    assert jobs["exec_1"].config["command"] == "true"
    order = jobs["exec_2"].instruction
    assert (order.task_name, order.timeout, order.task_version) == ("new", 99, 6)
    assert dict(order.executor_config) == {"command": "new"}
    assert rig.reports.results[1].task_name == "new"


async def test_the_new_definition_outlives_a_restart(rig):
    await rig.accept(instruction(scheduled_time=START + 60_000))
    await rig.configure(task_config(version=6, config={"command": "new"}))
    (waiting,) = await rig.store.call(executions.open_executions)
    assert waiting.instruction.executor_config["command"] == "new"


async def test_what_was_due_before_the_schedule_began_is_not_lost(rig):
    await rig.accept(instruction(1), instruction(2))
    await rig.running("exec_1")
    await rig.configure(task_config(version=6, cron_expr="30 * * * *", schedule_since=START + 1))
    rig.executor.end("exec_1")
    await rig.running("exec_2")


async def test_an_instruction_may_be_older_than_the_configuration(rig):
    disabled = task_config("2", version=6, enabled=False)
    await rig.configure(task_config(version=6, config={"command": "new"}), disabled)
    await rig.accept(instruction(1), instruction(2, task_id="2"))
    assert await rig.ended(1) == [("exec_2", CANCELLED, "task_disabled")]
    await rig.running("exec_1")
    assert rig.executor.jobs["exec_1"].config["command"] == "new"


async def test_what_somebody_wanted_to_run_is_not_dropped_by_an_edit(rig):
    await rig.configure(task_config(version=5), version=8)
    await rig.accept(instruction(1), instruction(2, trigger="manual"))
    await rig.configure(task_config(version=6, enabled=False))
    rig.executor.end("exec_1")
    await rig.running("exec_2")


async def test_other_tasks_do_not_care(rig):
    await rig.accept(instruction(1, scheduled_time=START + 1000))
    await rig.configure(task_config("2", version=9), deleted=["3"])
    await rig.clock.advance(1)
    await rig.running("exec_1")


# --- attempts ---


async def test_the_next_attempt_of_the_server_runs(rig):
    await rig.accept(instruction())
    await rig.running("exec_1")
    rig.executor.end("exec_1", 1)
    await rig.ended(1)
    await rig.accept(instruction(attempt=1, trigger="retry"))
    await rig.running("exec_1")
    rig.executor.end("exec_1")
    await rig.ended(2)
    assert [(r.attempt, r.retry_count, r.status) for r in rig.reports.results] == [
        (0, 0, task_pb2.FAILURE),
        (1, 1, task_pb2.SUCCESS),
    ]
    assert (await rig.record()).log == "2025-01-09/1_exec_1.1.log"


async def test_a_next_attempt_of_what_still_runs_does_not_run_beside_it(rig):
    await rig.accept(instruction())
    await rig.running("exec_1")
    await rig.accept(instruction(attempt=1, trigger="retry"))
    assert [p.attempt for p in rig.reports.progresses] == [0, 1]
    rig.executor.end("exec_1")
    await rig.ended(1)
    assert rig.reports.results[0].attempt == 1
    assert (await rig.record()).attempt == 1


async def test_the_agent_retries_what_it_fired_itself(rig):
    await rig.configure(task_config(retry_count=1, retry_interval=30))
    await rig.accept(instruction(task_version=0), local=True)
    await rig.running("exec_1")
    rig.executor.end("exec_1", 1)
    await rig.ended(1)
    await rig.clock.advance(29)
    assert rig.executor.running == []
    await rig.clock.advance(1)
    await rig.running("exec_1")
    rig.executor.end("exec_1", 1)
    await rig.ended(2)
    await rig.clock.advance(60)
    assert rig.executor.running == []
    assert [(r.attempt, r.local) for r in rig.reports.results] == [(0, True), (1, True)]
    stats = await rig.store.call(lambda db: statistics.of_day(db, "2025-01-09"))
    assert (stats[0].total, stats[0].failure) == (1, 1)


async def test_the_agent_does_not_retry_what_the_server_fired(rig):
    await rig.configure(task_config(retry_count=3, retry_interval=1))
    await rig.accept(instruction(task_version=0))
    await rig.running("exec_1")
    rig.executor.end("exec_1", 1)
    await rig.ended(1)
    await rig.clock.advance(5)
    assert rig.executor.running == []


# --- the end and what comes after it ---


async def test_results_are_kept_while_there_is_no_server(rig):
    rig.reports.ready = False
    await rig.accept(instruction())
    await rig.running("exec_1")
    rig.executor.end("exec_1")
    await rig.ended(1)
    (item,) = await rig.store.call(lambda db: outbox.pending(db, limit=9, max_bytes=9999))
    assert (item.result.execution_id, item.last_sync_at) == ("exec_1", 0)


async def test_an_end_is_written_down_as_soon_as_the_disk_allows(rig, monkeypatch):
    from quartzflow_agent import engine as engine_module
    from quartzflow_agent.store.database import StoreError

    monkeypatch.setattr(engine_module, "STORE_RETRY", 0.01)
    await rig.accept(instruction())
    await rig.running("exec_1")
    real, failures = rig.store.call, []

    async def full(operation):
        if len(failures) < 3:
            failures.append(operation)
            raise StoreError("database or disk is full")
        return await real(operation)

    monkeypatch.setattr(rig.store, "call", full)
    rig.executor.end("exec_1")
    assert await rig.ended(1) == [("exec_1", "SUCCESS", "")]
    assert len(failures) == 3


async def test_stopping_waits_for_what_runs_and_starts_nothing_more(rig):
    await rig.accept(instruction(1), instruction(2), instruction(3, task_id="3", scheduled_time=START + 1000))
    await rig.running("exec_1")
    stopping = asyncio.ensure_future(rig.engine.stop(30))
    await rig.clock.advance(2)
    rig.executor.end("exec_1")
    await stopping
    assert rig.reports.ends() == [("exec_1", "SUCCESS", "")]
    assert rig.executor.jobs.keys() == {"exec_1"}
    assert [(await rig.record(f"exec_{n}")).status_name for n in (2, 3)] == ["pending", "pending"]


async def test_stopping_ends_what_runs_too_long(rig):
    await rig.accept(instruction())
    await rig.running("exec_1")
    stopping = asyncio.ensure_future(rig.engine.stop(5))
    await settle()
    await rig.clock.advance(4)
    assert not stopping.done()
    await rig.clock.advance(1)
    await stopping
    assert rig.reports.ends() == [("exec_1", "FAILURE", "agent_restarted")]


async def test_nobody_has_to_wait_who_is_in_a_hurry(rig):
    await rig.accept(instruction())
    await rig.running("exec_1")
    stopping = asyncio.ensure_future(rig.engine.stop(60))
    await settle()
    assert not stopping.done()
    rig.engine.hurry()
    await asyncio.wait_for(stopping, 5)
    assert rig.reports.ends() == [("exec_1", "FAILURE", "agent_restarted")]


async def test_a_restart_takes_up_what_waited_and_closes_what_ran(home):
    first = Rig(home, StoreThread(home.store))
    await first.accept(instruction(1), instruction(2, scheduled_time=START + 60_000))
    await first.running("exec_1")
    first.executor.jobs["exec_1"].output.feed(1, b"so far")
    # As after kill -9: nothing is told, nothing is written.
    first.timeline.cancel()
    await first.store.close()

    second = Rig(home, StoreThread(home.store))
    second.clock.seconds += 30
    await second.engine.recover()
    assert await second.ended(1) == [("exec_1", "FAILURE", "agent_restarted")]
    result = second.reports.results[0]
    assert (result.output, result.started_at, result.finished_at) == ("so far", START, START + 30_000)
    await second.clock.advance(30)
    await second.running("exec_2")
    second.executor.end("exec_2")
    await second.ended(2)
    await second.close()
    await second.store.close()
    for work in first.engine._work:
        work.cancel()
    await asyncio.gather(*first.engine._work, return_exceptions=True)


def leftover(**options):
    """A process of a former life, in a group of its own."""
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", script], start_new_session=True, stdout=subprocess.PIPE, **options
    )
    process.stdout.readline()
    return process


async def test_a_restart_stops_the_processes_that_were_left(home, store):
    rig = Rig(home, store)
    left, marked, reused = leftover(), leftover(env={"QF_EXECUTION_ID": "exec_2"}), leftover()
    for number, process, created in [
        (1, left, psutil.Process(left.pid).create_time()),
        (2, None, None),  # killed between the start and the note of its process
        (3, reused, 1.0),  # the number is somebody else's by now
    ]:
        await store.call(lambda db, n=number: executions.add(db, instruction(n)))
        await store.call(lambda db, n=number: executions.start(db, f"exec_{n}", START, "x/y.log"))
        if process is not None:
            await store.call(
                lambda db, n=number, p=process.pid, c=created: executions.set_process(db, f"exec_{n}", p, c)
            )
    reaping = [asyncio.get_running_loop().run_in_executor(None, process.wait) for process in (left, marked)]
    await rig.engine.recover()
    await rig.ended(3)
    assert await asyncio.gather(*reaping) == [-signal.SIGTERM, -signal.SIGTERM]
    assert reused.poll() is None
    reused.kill()
    for process in (left, marked, reused):
        process.wait()
        process.stdout.close()
    await rig.close()


async def test_a_real_script_from_end_to_end(home, store):
    rig = Rig(home, store, real=True)
    order = instruction(config={"command": "echo hello; echo oops >&2; exit 3"})
    await rig.accept(order)
    assert await rig.ended(1) == [("exec_1", "FAILURE", "exit_code")]
    (result,) = rig.reports.results
    assert sorted(result.output.splitlines()) == ["hello", "oops"]
    assert (result.exit_code, result.has_exit_code, result.error, result.output_size) == (3, True, "oops", 11)
    path = home.logs / "2025-01-09" / "1_exec_1.log"
    assert sorted(path.read_text().splitlines()) == ["hello", "oops"]
    await rig.close()
