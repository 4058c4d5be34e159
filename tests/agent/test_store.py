"""The agent's durable record."""

import sqlite3
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quartzflow_agent.store import executions, outbox, statistics
from quartzflow_agent.store.database import StoreError, open_database, open_readonly, set_meta
from quartzflow_agent.store.records import (
    CANCELLED,
    FAILURE,
    PENDING,
    RUNNING,
    SUCCESS,
    TIMEOUT,
    Added,
    Ending,
)

from tests.agent.support import START, instruction

DAY = "2025-01-09"


def ended(status=SUCCESS, at=START + 2300, **fields):
    return Ending(status, at, exit_code=0 if status == SUCCESS else 1, **fields)


def run(db, number=1, status=SUCCESS, started=START, **fields):
    """Store, start and end an execution; returns its id."""
    order = instruction(number, **fields)
    executions.add(db, order)
    executions.start(db, order.execution_id, started, f"{DAY}/x.log")
    executions.finish(db, order.execution_id, ended(status, started + 2300))
    return order.execution_id


def test_only_its_owner_can_read_the_file(db, tmp_path):
    set_meta(db, "a", "b")
    for path in tmp_path.glob("store.sqlite3*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_it_is_durable(db):
    assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_another_schema_version_is_refused(db, tmp_path):
    db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="another version"):
        open_database(tmp_path / "store.sqlite3")
    with pytest.raises(StoreError, match="another version"):
        open_readonly(tmp_path / "store.sqlite3")


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "store.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"store\.sqlite3"):
        open_database(path)
    with pytest.raises(StoreError, match=r"store\.sqlite3"):
        open_readonly(path)


def test_an_execution_goes_from_pending_to_its_end(db):
    order = instruction()
    assert executions.add(db, order) is Added.NEW
    assert executions.get(db, "exec_1").status == PENDING
    assert executions.start(db, "exec_1", START + 5, f"{DAY}/1_exec_1.log")
    assert executions.get(db, "exec_1").status == RUNNING
    result = executions.finish(db, "exec_1", ended(output="hello", output_size=5))
    record = executions.get(db, "exec_1")
    assert (record.status, record.duration_ms, record.exit_code, record.synced) == (SUCCESS, 2295, 0, False)
    assert (result.output, result.started_at, result.finished_at) == ("hello", START + 5, START + 2300)
    assert (result.task_name, result.scheduled_time, result.has_exit_code) == ("日志清理", START, True)


def test_the_same_instruction_is_stored_once(db):
    assert executions.add(db, instruction()) is Added.NEW
    assert executions.add(db, instruction()) is Added.KNOWN
    executions.start(db, "exec_1", START, "")
    assert executions.add(db, instruction()) is Added.KNOWN
    assert not executions.start(db, "exec_1", START + 9, "")
    assert executions.get(db, "exec_1").started_at == START


def test_an_end_is_final(db):
    run(db)
    assert executions.finish(db, "exec_1", ended(FAILURE)) is None
    assert not executions.start(db, "exec_1", START, "")
    assert executions.get(db, "exec_1").status == SUCCESS
    assert executions.finish(db, "unknown", ended()) is None


def test_an_instruction_for_what_is_over_asks_for_its_result_again(db):
    run(db)
    outbox.acknowledge(db, [("exec_1", 0)])
    assert outbox.count_pending(db) == 0
    assert executions.add(db, instruction()) is Added.ENDED
    assert [item.result.execution_id for item in outbox.pending(db, limit=9, max_bytes=9999)] == ["exec_1"]
    assert not executions.get(db, "exec_1").synced


def test_a_later_attempt_runs_again_and_each_end_is_kept(db):
    run(db, status=FAILURE)
    assert executions.add(db, instruction(attempt=1)) is Added.NEW
    record = executions.get(db, "exec_1")
    assert (record.attempt, record.status, record.finished_at) == (1, PENDING, None)
    assert statistics.of_day(db, DAY)[0].total == 0
    executions.start(db, "exec_1", START + 60_000, "")
    executions.finish(db, "exec_1", ended(at=START + 61_000))
    waiting = outbox.pending(db, limit=9, max_bytes=9999)
    assert [(i.result.attempt, i.result.status) for i in waiting] == [(0, FAILURE), (1, SUCCESS)]
    (stats,) = statistics.of_day(db, DAY)
    assert (stats.total, stats.success, stats.failure) == (1, 1, 0)


def test_a_later_attempt_of_what_still_runs_is_the_same_run(db):
    executions.add(db, instruction())
    executions.start(db, "exec_1", START, "")
    assert executions.add(db, instruction(attempt=2)) is Added.ADOPTED
    assert executions.finish(db, "exec_1", ended()).attempt == 2


def test_an_earlier_attempt_changes_nothing(db):
    executions.add(db, instruction(attempt=2))
    assert executions.add(db, instruction(attempt=1)) is Added.KNOWN
    assert executions.get(db, "exec_1").attempt == 2


def test_open_executions_are_found_again(db):
    run(db, 1)
    executions.add(db, instruction(2))
    executions.add(db, instruction(3), local=True)
    executions.start(db, "exec_3", START, "the.log")
    executions.set_process(db, "exec_3", 4711, 12.5)
    waiting, running = executions.open_executions(db)
    assert (waiting.instruction, waiting.status, waiting.local) == (instruction(2), PENDING, False)
    assert (running.status, running.local, running.pid, running.pid_created) == (RUNNING, True, 4711, 12.5)
    executions.finish(db, "exec_3", ended())
    assert len(executions.open_executions(db)) == 1


def test_statistics_are_those_of_the_prd(db):
    for number, (status, hour) in enumerate([(SUCCESS, 0), (SUCCESS, 1), (FAILURE, 1), (TIMEOUT, 2)]):
        run(db, number, status, START + hour * 3_600_000)
    executions.add(db, instruction(9))
    executions.finish(db, "exec_9", Ending(CANCELLED, START, failure_reason="cancelled_by_user"))
    (stats,) = statistics.of_day(db, DAY)
    assert (stats.total, stats.success, stats.failure, stats.timeout, stats.cancelled) == (5, 2, 1, 1, 1)
    # What never started has no duration.
    assert (stats.timed, stats.avg_ms, stats.max_ms, stats.min_ms) == (4, 2300, 2300, 2300)
    assert stats.hourly[2:5] == [2, 2, 1]
    assert stats.task_name == "日志清理"


def test_a_days_statistics_are_synced_only_as_they_were_sent(db):
    run(db, 1)
    sent = statistics.revision(db, DAY)
    run(db, 2)
    statistics.mark_synced(db, DAY, sent)
    assert statistics.unsynced_days(db) == [DAY]
    assert not statistics.is_synced(db, DAY)
    statistics.mark_synced(db, DAY, statistics.revision(db, DAY))
    assert statistics.unsynced_days(db) == []
    assert statistics.is_synced(db, DAY)


def test_results_stay_until_they_are_acknowledged_and_then_lose_their_output(db):
    run(db, 1)
    run(db, 2)
    assert outbox.acknowledge(db, [("exec_1", 0), ("stranger", 0)]) == {DAY}
    assert [i.result.execution_id for i in outbox.pending(db, limit=9, max_bytes=9999)] == ["exec_2"]
    assert executions.get(db, "exec_1").synced
    assert not executions.get(db, "exec_2").synced


def test_a_refused_result_is_not_sent_again(db):
    run(db)
    outbox.refuse(db, "exec_1", 0)
    assert outbox.count_pending(db) == 0
    assert executions.get(db, "exec_1") is not None


def test_batches_are_limited_by_number_and_by_bytes(db):
    for number in range(5):
        order = instruction(number)
        executions.add(db, order)
        executions.finish(db, order.execution_id, ended(output="x" * 1000))

    def names(**limits):
        return [i.result.execution_id for i in outbox.pending(db, **limits)]

    assert names(limit=2, max_bytes=10**6) == ["exec_0", "exec_1"]
    assert names(limit=9, max_bytes=3500) == ["exec_0", "exec_1", "exec_2"]
    assert names(limit=9, max_bytes=1) == ["exec_0"]
    last = outbox.pending(db, limit=2, max_bytes=10**6)[-1].row
    assert names(limit=9, max_bytes=10**6, after=last) == ["exec_2", "exec_3", "exec_4"]


def test_what_got_no_answer_is_due_again_later_and_later(db):
    run(db)
    now = START

    def due(at):
        return len(outbox.pending(db, limit=9, max_bytes=9999, due_at=at))

    assert due(now) == 1
    for wait in (60_000, 120_000, 240_000):
        (item,) = outbox.pending(db, limit=9, max_bytes=9999)
        outbox.mark_sent(db, [item.row], now)
        assert (due(now + wait - 1), due(now + wait)) == (0, 1)
    for _ in range(40):
        outbox.mark_sent(db, [item.row], now)
    assert (due(now + 3_599_999), due(now + 3_600_000)) == (0, 1)


def test_the_records_of_a_task_and_day_are_opened_again(db):
    for number in (1, 2, 3):
        run(db, number)
    run(db, 4, task_id="2")
    run(db, 5, started=START + 86_400_000)
    run(db, 6)
    executions.add(db, instruction(6, attempt=1, trigger="retry"))  # not over
    outbox.acknowledge(db, [(f"exec_{n}", 0) for n in (1, 2, 4, 5, 6)])
    outbox.refuse(db, "exec_3", 0)
    assert outbox.reopen_day(db, DAY, ["1", "9"]) == 2
    again = outbox.pending(db, limit=9, max_bytes=10**6)
    assert [item.result.execution_id for item in again] == ["exec_1", "exec_2"]
    assert not executions.get(db, "exec_1").synced
    assert outbox.reopen_day(db, DAY, ["1"]) == 0


def test_retention_keeps_what_the_server_does_not_have(db):
    old = START - 9 * 86_400_000
    for number, started in [(1, old), (2, old), (3, START)]:
        run(db, number, started=started, scheduled_time=started)
    executions.add(db, instruction(4, scheduled_time=old))
    outbox.acknowledge(db, [("exec_1", 0), ("exec_3", 0)])
    assert executions.delete_before(db, "2025-01-02") == 1
    assert executions.get(db, "exec_1") is None
    assert {executions.get(db, f"exec_{n}").status for n in (2, 3, 4)} == {SUCCESS, PENDING}
    assert outbox.count_pending(db) == 1
    assert db.execute("SELECT count(*) FROM results").fetchone()[0] == 2


def test_retention_keeps_statistics_that_the_server_does_not_have(db):
    run(db, 1, started=START - 9 * 86_400_000)
    run(db, 2, started=START - 8 * 86_400_000)
    statistics.mark_synced(db, "2024-12-31", 99)
    statistics.delete_before(db, "2025-01-05")
    assert statistics.days(db) == ["2025-01-01"]
    assert statistics.of_day(db, "2024-12-31") == []


# --- whatever happens, in whatever order ---

step = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 2), st.integers(0, 3)),
    st.tuples(st.just("start"), st.integers(0, 2), st.integers(0, 47)),
    st.tuples(st.just("finish"), st.integers(0, 2), st.sampled_from([SUCCESS, FAILURE, TIMEOUT, CANCELLED])),
    st.tuples(st.just("acknowledge"), st.integers(0, 2), st.integers(0, 3)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(step, max_size=40))
def test_an_execution_only_moves_forward_and_the_counters_are_right(steps):
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    from quartzflow_agent.store.schema import SCHEMA

    db.executescript(SCHEMA)
    reached: dict = {}
    now = START
    for what, number, value in steps:
        now += 1000
        name = f"exec_{number}"
        if what == "add":
            executions.add(db, instruction(number, attempt=value))
        elif what == "start":
            executions.start(db, name, START + value * 3_600_000, "")
        elif what == "finish":
            executions.finish(db, name, ended(value, START + 48 * 3_600_000 + number))
        else:
            outbox.acknowledge(db, [(name, value)])
        for row in executions.open_executions(db):
            position = (row.instruction.attempt, min(row.status, 2))
            assert position >= reached.get(row.instruction.execution_id, (0, 0))
            reached[row.instruction.execution_id] = position
        record = executions.get(db, name)
        if record is not None:
            position = (record.attempt, min(record.status, 2))
            assert position >= reached.get(name, (0, 0))
            if position == reached.get(name) and position[1] == 2:
                assert record.status == reached[name, "end"], "an end has changed"
            reached[name] = position
            reached[name, "end"] = record.status
    for day in statistics.days(db):
        before = statistics.of_day(db, day)
        statistics.recount(db, "1", day)
        assert statistics.of_day(db, day) == before
    # Each attempt that ended has one result.
    rows = db.execute("SELECT execution_id, attempt FROM results").fetchall()
    assert len(rows) == len({tuple(row) for row in rows})
    db.close()
