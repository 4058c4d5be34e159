"""The engine: edits, attempts, its end and what comes after it."""

import asyncio
import signal
import subprocess
import sys

import psutil
import pytest
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import executions, outbox, statistics
from quartzflow_agent.store.thread import StoreThread

from tests.agent.engine_rig import CANCELLED, Rig
from tests.agent.support import (
    START,
    instruction,
    settle,
    task_config,
)

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


async def test_the_pause_between_its_attempts_doubles_up_to_a_limit(rig):
    await rig.configure(task_config(retry_count=4, retry_interval=10, retry_max_interval=25))
    await rig.accept(instruction(task_version=0), local=True)
    for number, wait in enumerate([10, 20, 25, 25]):
        await rig.running("exec_1")
        rig.executor.end("exec_1", 1)
        await rig.ended(number + 1)
        await rig.clock.advance(wait - 1, step=5)
        assert rig.executor.running == []
        await rig.clock.advance(1)
    await rig.running("exec_1")


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
    mark = {"QF_EXECUTION_ID": "exec_2", "QF_AGENT_HOME": str(home.root)}
    left, marked, reused = leftover(), leftover(env=mark), leftover()
    stranger = leftover(env={**mark, "QF_AGENT_HOME": "/another/agent"})
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
    for process in (reused, stranger):
        assert process.poll() is None
        process.kill()
    for process in (left, marked, reused, stranger):
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
