"""Benchmarks of the agent's store, beside the plain way: a JSON file for each day, rewritten for each record.

BENCH_RECORDS (20000) is the number of records of a day.
"""

import asyncio
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from quartzflow_agent.files import write_atomic
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import executions, statistics
from quartzflow_agent.store.database import open_database, open_readonly
from quartzflow_agent.store.records import SUCCESS, Ending
from quartzflow_agent.store.thread import StoreThread
from quartzflow_agent.views import day_view

from .registry import Measurement, benchmark, percentile

RECORDS = int(os.environ.get("BENCH_RECORDS", "20000"))
TASKS = 20
DAYS = [f"2026-01-{number:02}" for number in range(1, 8)]
LAST = DAYS[-1]
NOON = 1_767_787_200_000  # ms; of LAST
WRITES = 500
REWRITES = 20
QUERIES = 50
WRITE_PROMISE, QUERY_PROMISE = 10.0, 100.0  # ms


@benchmark
def store_write() -> Iterator[Measurement]:
    """The end of an execution, on the disk with its result and its day's counters, on a full day."""
    with tempfile.TemporaryDirectory(prefix="quartzflow-bench-") as name:
        directory = Path(name)
        _fill_day(directory / "store.sqlite3")
        ours = asyncio.run(_writes(directory / "store.sqlite3"))
        theirs = _rewrites(directory)
    day = f"on a day of {RECORDS} records"
    p99 = round(percentile(ours, 99), 3)
    yield Measurement("store_write_p99", p99, "ms", "lower", WRITE_PROMISE, f"10 ms {day}")
    against = f"rewriting the day's JSON file with as many fsyncs, {day}"
    yield Measurement(
        "store_write_beside_file", p99, "ms", "lower", round(percentile(theirs, 99), 3), against
    )


@benchmark
def store_statistics() -> Iterator[Measurement]:
    """A task's statistics of seven full days, and a day's of all tasks, each from a connection of its own."""
    with tempfile.TemporaryDirectory(prefix="quartzflow-bench-") as name:
        path = Path(name) / "store.sqlite3"
        _fill_day(path)
        _fill_week(path)
        days = f"of {len(DAYS)} days of {RECORDS} records"
        week = [_timed(partial(_week, path, str(number % TASKS))) for number in range(QUERIES)]
        day = [_timed(partial(_day, path)) for _ in range(QUERIES)]
        files = _files(path, Path(name))
        theirs = [_timed(partial(_week_from_files, files, str(number))) for number in range(3)]
    p99 = round(percentile(week, 99), 3)
    yield Measurement("store_statistics_week_p99", p99, "ms", "lower", QUERY_PROMISE, f"100 ms {days}")
    value = round(percentile(day, 99), 3)
    yield Measurement("store_statistics_day_p99", value, "ms", "lower", QUERY_PROMISE, "100 ms of all tasks")
    best = round(min(theirs), 3)
    yield Measurement(
        "store_statistics_beside_files", p99, "ms", "lower", best, f"reading the JSON files {days}"
    )


def _timed(work: partial[object]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


# --- ours ---


def _instruction(number: int) -> task_pb2.TaskExecution:
    return task_pb2.TaskExecution(
        execution_id=f"exec_{number}",
        task_id=str(number % TASKS),
        task_name=f"task {number % TASKS}",
        executor_type=task_pb2.SHELL,
        executor_config={"command": "/usr/local/bin/backup --incremental /srv"},
        scheduled_time=NOON + number,
        timeout=300,
    )


def _ending(number: int) -> Ending:
    end = NOON + number + 40
    return Ending(SUCCESS, end, exit_code=0, output="saved 120 files\n" * 20, output_size=320)


def _begin(db: sqlite3.Connection, number: int) -> None:
    executions.add(db, _instruction(number))
    executions.start(db, f"exec_{number}", NOON + number, f"{LAST}/{number}.log")


def _finish(db: sqlite3.Connection, number: int) -> None:
    assert executions.finish(db, f"exec_{number}", _ending(number)) is not None


def _fill_day(path: Path) -> None:
    db = open_database(path)
    db.execute("BEGIN")
    for number in range(RECORDS):
        _begin(db, number)
        _finish(db, number)
    db.execute("COMMIT")
    assert sum(one.total for one in statistics.of_day(db, LAST)) == RECORDS
    db.close()


def _fill_week(path: Path) -> None:
    """The other days are like the last."""
    db = open_database(path)
    db.execute("BEGIN")
    for table, columns in (
        ("executions", {"execution_id": "?1 || execution_id", "day": "?1"}),
        ("results", {"execution_id": "?1 || execution_id", "day": "?1"}),
        ("daily_stats", {"day": "?1"}),
        ("stats_days", {"day": "?1"}),
    ):
        names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(columns.get(name, name) for name in names)
        for day in DAYS[:-1]:
            db.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE day = ?2", (day, LAST))
    db.execute("COMMIT")
    db.close()


async def _writes(path: Path) -> list[float]:
    """Milliseconds until each of these ends is on the disk, through the thread that an agent uses."""
    store = StoreThread(path)
    found = []
    for number in range(RECORDS, RECORDS + WRITES):
        await store.call(partial(_begin, number=number))
        start = time.perf_counter()
        await store.call(partial(_finish, number=number))
        found.append((time.perf_counter() - start) * 1000)
    await store.close()
    return found


def _week(path: Path, task_id: str) -> None:
    db = open_readonly(path)
    assert db is not None
    found = statistics.of_task(db, task_id, DAYS[0], LAST)
    assert sum(one.total for one in found) == len(DAYS) * RECORDS // TASKS, found
    db.close()


def _day(path: Path) -> None:
    db = open_readonly(path)
    assert db is not None
    assert len(statistics.of_day(db, LAST)) == TASKS
    db.close()


# --- the plain way ---


def _files(path: Path, directory: Path) -> list[Path]:
    """executions/DATE.json of each day, as the agent writes them for others."""
    db = open_readonly(path)
    assert db is not None
    files = []
    for day in DAYS:
        file = directory / f"{day}.json"
        file.write_text(json.dumps(day_view(db, day, "bench"), indent=2))
        files.append(file)
    db.close()
    return files


def _rewrites(directory: Path) -> list[float]:
    db = open_readonly(directory / "store.sqlite3")
    assert db is not None
    content = day_view(db, LAST, "bench")
    db.close()
    file = directory / f"{LAST}.json"
    file.write_text(json.dumps(content, indent=2))
    found = []
    for number in range(REWRITES):
        start = time.perf_counter()
        known = json.loads(file.read_text())
        known["executions"].append({**known["executions"][-1], "execution_id": f"new_{number}"})
        write_atomic(file, json.dumps(known, indent=2).encode())
        found.append((time.perf_counter() - start) * 1000)
    return found


def _week_from_files(files: list[Path], task_id: str) -> None:
    total = 0
    for file in files:
        records = json.loads(file.read_text())["executions"]
        total += sum(
            1 for record in records if record["task_id"] == task_id and record["status"] == "success"
        )
    assert total == len(files) * RECORDS // TASKS, total
