"""The PRD's files: its exact layout, replaced as a whole."""

import asyncio
import json

import pytest
from quartzflow_agent import views as views_module
from quartzflow_agent.store import executions, outbox, statistics
from quartzflow_agent.store.records import FAILURE, SUCCESS, Ending
from quartzflow_agent.views import Views, write_views

from tests.agent.support import START, instruction, until

DAY = "2025-01-09"


def run(db, number, status=SUCCESS, ms=2300):
    executions.add(db, instruction(number, execution_id=f"exec_20250109_020000_{number}"))
    name = f"exec_20250109_020000_{number}"
    executions.start(db, name, START, f"{DAY}/1_{name}.log")
    executions.finish(db, name, Ending(status, START + ms, exit_code=0 if status == SUCCESS else 1))
    return name


@pytest.fixture
async def filled(home, store):
    def fill(db):
        first = run(db, 1)
        run(db, 2, FAILURE, 900)
        executions.add(db, instruction(3))
        outbox.acknowledge(db, [(first, 0)])
        (row,) = outbox.pending(db, limit=9, max_bytes=9999)
        outbox.mark_sent(db, [row.row], START + 5000)

    await store.call(fill)
    write_views(home, "client-001", [DAY])
    return home


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


async def test_executions_of_a_day(filled):
    assert read(filled.executions / f"{DAY}.json") == {
        "date": DAY,
        "client_id": "client-001",
        "executions": [
            {
                "execution_id": "exec_20250109_020000_1",
                "task_id": "1",
                "task_name": "日志清理",
                "status": "success",
                "start_time": "2025-01-09T02:00:00Z",
                "end_time": "2025-01-09T02:00:02Z",
                "duration_ms": 2300,
                "exit_code": 0,
                "synced": True,
            },
            {
                "execution_id": "exec_20250109_020000_2",
                "task_id": "1",
                "task_name": "日志清理",
                "status": "failure",
                "start_time": "2025-01-09T02:00:00Z",
                "end_time": "2025-01-09T02:00:00Z",
                "duration_ms": 900,
                "exit_code": 1,
                "synced": False,
            },
            {
                "execution_id": "exec_3",
                "task_id": "1",
                "task_name": "日志清理",
                "status": "pending",
                "start_time": None,
                "end_time": None,
                "duration_ms": None,
                "exit_code": None,
                "synced": False,
            },
        ],
    }
    assert "日志清理" in (filled.executions / f"{DAY}.json").read_text(encoding="utf-8")


async def test_statistics_of_a_day(filled, store):
    hourly = {f"{hour:02d}": 0 for hour in range(24)}
    wanted = {
        "date": DAY,
        "client_id": "client-001",
        "tasks": {
            "1": {
                "task_name": "日志清理",
                "stats": {
                    "total": 2,
                    "success": 1,
                    "failure": 1,
                    "timeout": 0,
                    "cancelled": 0,
                    "avg_duration_ms": 1600,
                    "max_duration_ms": 2300,
                    "min_duration_ms": 900,
                },
                "hourly": {**hourly, "02": 2},
                "last_updated": "2025-01-09T02:00:00Z",
            }
        },
        "synced_to_server": False,
    }
    assert read(filled.daily_stats / f"{DAY}.json") == wanted
    await store.call(lambda db: statistics.mark_synced(db, DAY, statistics.revision(db, DAY)))
    write_views(filled, "client-001", [DAY])
    assert read(filled.daily_stats / f"{DAY}.json")["synced_to_server"] is True


async def test_what_waits_for_the_server(filled):
    assert read(filled.pending_sync) == {
        "pending_executions": [
            {
                "execution_id": "exec_20250109_020000_2",
                "task_id": "1",
                "retry_count": 1,
                "last_sync_attempt": "2025-01-09T02:00:05Z",
            }
        ]
    }


async def test_files_follow_changes_after_a_pause(home, store, monkeypatch):
    monkeypatch.setattr(views_module, "PAUSE", 0.05)
    views = Views(home, "c1")
    work = asyncio.ensure_future(views.run())
    path = home.executions / f"{DAY}.json"
    for number in range(1, 4):
        await store.call(lambda db, n=number: run(db, n))
        views.touch(DAY)
    await until(path.exists)
    assert len(read(path)["executions"]) == 3
    await store.call(lambda db: run(db, 4))
    views.touch(DAY)
    await until(lambda: len(read(path)["executions"]) == 4)
    work.cancel()


async def test_what_cannot_be_written_is_written_later(home, store, monkeypatch, caplog):
    await store.call(lambda db: run(db, 1))
    views = Views(home, "c1")
    real = views_module.write_atomic

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(views_module, "write_atomic", full)
    views.touch(DAY)
    await views.flush()
    assert "views_failed" in caplog.text
    monkeypatch.setattr(views_module, "write_atomic", real)
    await views.flush()
    assert (home.executions / f"{DAY}.json").exists()


async def test_a_reader_never_sees_half_a_file(home, store):
    await store.call(lambda db: [run(db, number) for number in range(200)])
    write_views(home, "c1", [DAY])
    path, broken = home.executions / f"{DAY}.json", []
    loop = asyncio.get_running_loop()
    writing = loop.run_in_executor(None, lambda: [write_views(home, "c1", [DAY]) for _ in range(10)])
    while not writing.done():
        try:
            read(path)
        except ValueError as error:
            broken.append(error)
        await asyncio.sleep(0)
    await writing
    assert broken == []


def test_without_a_store_there_is_nothing_to_show(home):
    write_views(home, "c1", [DAY])
    assert not (home.executions / f"{DAY}.json").exists()
