"""A damaged store is set aside and rebuilt."""

import json
import logging
import os
import sqlite3

import pytest
from quartzflow_agent.cli import doctor
from quartzflow_agent.config import AgentConfig, Endpoint, save
from quartzflow_agent.store import executions, outbox, rescue, statistics, tasks
from quartzflow_agent.store.database import StoreError, open_database
from quartzflow_agent.store.records import CANCELLED, FAILURE, RUNNING, SUCCESS, Ending
from quartzflow_agent.views import daily_stats_view, day_view, write_views

from tests.agent.records import DAY
from tests.agent.running_agent import agent_in, joined, stored
from tests.agent.support import START, instruction, until

FIRED = "exec_20250109_020000_7_c1"


@pytest.fixture
def viewed(filled):
    """A home with records of every kind, and their views."""
    db = open_database(filled.store)
    db.execute("BEGIN")
    executions.add(db, instruction(execution_id="exec_runs", task_id="5"))
    executions.start(db, "exec_runs", START + 7000, f"{DAY}/5_exec_runs.2.log")
    executions.add(db, instruction(execution_id=FIRED, task_id="7"), local=True)
    executions.start(db, FIRED, START + 250, f"{DAY}/7_{FIRED}.log")
    executions.finish(db, FIRED, Ending(SUCCESS, START + 1500, exit_code=0, output="x"))
    db.execute("COMMIT")
    days = executions.days(db)
    db.close()
    filled.log_file(f"{DAY}/5_exec_runs.log").write_text("first")
    filled.log_file(f"{DAY}/5_exec_runs.2.log").write_text("third")
    write_views(filled, "c1", days)
    return filled


def views(home):
    return stored(home, lambda db: [day_view(db, DAY, "c1"), daily_stats_view(db, DAY, "c1")])


def spoil(home):
    home.store.write_bytes(b"garbage" * 1000)
    for end in ("-wal", "-shm"):
        home.store.with_name(home.store.name + end).unlink(missing_ok=True)


def test_a_store_that_is_well_or_missing_is_left_alone(viewed):
    before = views(viewed)
    assert rescue.heal(viewed) is None
    assert views(viewed) == before
    viewed.store.unlink()
    assert rescue.heal(viewed) is None
    assert not viewed.store.exists()


def test_the_views_are_the_same_afterwards(viewed):
    history, numbers = views(viewed)
    spoil(viewed)
    found = rescue.heal(viewed)
    assert found.problem == "file is not a database"
    assert found.aside.read_bytes() == b"garbage" * 1000
    assert (found.executions, found.unsynced, found.unreadable) == (294, 293, [])
    again, counted = views(viewed)
    # What waited cannot be run without its instruction.
    (never,) = [item for item in again["executions"] if item["execution_id"] == "exec_never"]
    assert (never["status"], never["start_time"]) == ("failure", None)
    assert counted["tasks"].pop("4")["stats"]["failure"] == 1
    others = [item for item in again["executions"] if item is not never]
    assert others == [item for item in history["executions"] if item["execution_id"] != "exec_never"]
    for task_id, stats in numbers["tasks"].items():
        assert counted["tasks"][task_id]["stats"] == stats["stats"]
        assert counted["tasks"][task_id]["hourly"] == stats["hourly"]


def test_what_the_server_lacks_is_sent_again_with_its_log(viewed):
    viewed.log_file(f"{DAY}/7_{FIRED}.log").write_text("from the log")
    spoil(viewed)
    rescue.heal(viewed)
    waiting = stored(viewed, lambda db: outbox.pending(db, limit=1000, max_bytes=2**30))
    results = {item.result.execution_id: item.result for item in waiting}
    assert "exec_a" not in results  # the server has it
    fired = results[FIRED]
    assert (fired.local, fired.scheduled_time, fired.started_at) == (True, START, START)
    assert (fired.output, fired.output_size, fired.finished_at) == ("from the log", 12, START + 1250)
    failed = results["exec_f0"]
    assert (failed.status, failed.failure_reason, failed.has_exit_code) == (FAILURE, "exit_code", True)
    assert not failed.local
    assert results["exec_f2"].status == CANCELLED
    (running,) = stored(viewed, executions.open_executions)
    assert (running.status, running.instruction.attempt, running.log) == (
        RUNNING,
        2,
        f"{DAY}/5_exec_runs.2.log",
    )
    assert stored(viewed, tasks.version) == 0  # so the server sends all


def test_damage_inside_is_found(viewed):
    db = sqlite3.connect(viewed.store)
    root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'executions'").fetchone()[0]
    size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    with viewed.store.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(os.urandom(size))
    assert rescue.damage(viewed.store)
    assert rescue.heal(viewed).executions == 294


def test_views_that_are_damaged_too_are_named(viewed):
    path = viewed.executions / f"{DAY}.json"
    view = json.loads(path.read_text())
    view["executions"][0]["status"] = "dancing"
    view["executions"][1]["start_time"] = "yesterday"
    del view["executions"][2]["synced"]
    path.write_text(json.dumps(view))
    (viewed.executions / "2025-01-08.json").write_text("{")
    (viewed.executions / "notes.json").write_text("mine")
    spoil(viewed)
    found = rescue.heal(viewed)
    assert found.unreadable == ["2025-01-08.json", f"{DAY}.json[0]", f"{DAY}.json[1]", f"{DAY}.json[2]"]
    assert found.executions == 290
    assert stored(viewed, lambda db: len(executions.of_day(db, DAY))) == 290


def test_what_is_no_damage_is_no_reason_to_rebuild(viewed, monkeypatch):
    db = open_database(viewed.store)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="another version"):
        rescue.heal(viewed)

    def busy(path):
        raise StoreError("locked") from sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(rescue, "open_database", busy)
    with pytest.raises(StoreError, match="locked"):
        rescue.heal(viewed)
    assert list(viewed.root.glob("*damaged*")) == []


def test_a_rescue_that_is_cut_off_is_done_again(viewed, monkeypatch):
    spoil(viewed)

    def cut_off(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(rescue, "_rebuild", cut_off)
        with pytest.raises(OSError, match="No space"):
            rescue.heal(viewed)
    assert rescue.heal(viewed).executions == 294


async def test_an_agent_goes_on_and_the_doctor_tells(server, certificates, viewed, caplog):
    caplog.set_level(logging.WARNING)
    config = joined(viewed, server, certificates)
    spoil(viewed)
    async with agent_in(viewed, config):
        await until(lambda: "exec_runs" in server.ended and FIRED in server.ended)
    assert server.ended["exec_runs"] == "FAILURE"
    assert server.ended[FIRED] == "SUCCESS"
    assert "store_damaged" in caplog.text
    assert "store_rebuilt executions=294 unsynced=293" in caplog.text
    save(viewed, AgentConfig([Endpoint("127.0.0.1", 1)], "c1"))
    found = [item for item in await doctor.examine(viewed) if item.name == "Records"]
    assert found[0].state == "unknown"
    assert "damaged-" in found[0].text
    assert stored(viewed, lambda db: statistics.of_day(db, DAY))
