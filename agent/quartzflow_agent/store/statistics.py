"""Counters per task and day (FR-5.2), kept in the transaction that ends an execution."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, List

from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store.records import CANCELLED, FAILURE, SUCCESS, TIMEOUT, DayStats, utc

_STATUS_COLUMNS = {SUCCESS: "success", FAILURE: "failure", TIMEOUT: "timeout", CANCELLED: "cancelled"}


def count(db: sqlite3.Connection, result: task_pb2.TaskResult, day: str) -> None:
    """Add one finished execution to its day."""
    row = db.execute(
        "SELECT * FROM daily_stats WHERE day = ? AND task_id = ?", (day, result.task_id)
    ).fetchone()
    old = _stats(row) if row is not None else _empty(day, result.task_id)
    numbers = {column: getattr(old, column) for column in _STATUS_COLUMNS.values()}
    numbers[_STATUS_COLUMNS[int(result.status)]] += 1
    timed, total, longest, shortest = old.timed, old.total_ms, old.max_ms, old.min_ms
    if result.started_at:
        duration = max(result.finished_at - result.started_at, 0)
        longest = max(longest, duration)
        shortest = min(shortest, duration) if timed else duration
        timed += 1
        total += duration
    hourly = list(old.hourly)
    hourly[utc(result.started_at or result.scheduled_time).hour] += 1
    _save(
        db,
        DayStats(
            day=day,
            task_id=result.task_id,
            task_name=result.task_name,
            timed=timed,
            total_ms=total,
            max_ms=longest,
            min_ms=shortest,
            hourly=hourly,
            updated_at=result.finished_at,
            **numbers,
        ),
    )


def recount(db: sqlite3.Connection, task_id: str, day: str) -> None:
    """Compute a task's day anew from its executions; needed when one that was counted runs again."""
    row = db.execute(
        "SELECT updated_at, task_name FROM daily_stats WHERE day = ? AND task_id = ?", (day, task_id)
    ).fetchone()
    if row is None:
        return
    numbers: Any = dict.fromkeys(_STATUS_COLUMNS.values(), 0)
    hourly = [0] * 24
    durations: List[int] = []
    for execution in db.execute(
        "SELECT status, started_at, finished_at, scheduled_at FROM executions"
        " WHERE task_id = ? AND day = ? AND status >= 2",
        (task_id, day),
    ):
        numbers[_STATUS_COLUMNS[execution["status"]]] += 1
        hourly[utc(execution["started_at"] or execution["scheduled_at"]).hour] += 1
        if execution["started_at"]:
            durations.append(max(execution["finished_at"] - execution["started_at"], 0))
    stats = DayStats(
        day=day,
        task_id=task_id,
        task_name=row["task_name"],
        timed=len(durations),
        total_ms=sum(durations),
        max_ms=max(durations, default=0),
        min_ms=min(durations, default=0),
        hourly=hourly,
        updated_at=row["updated_at"],
        **numbers,
    )
    _save(db, stats)


def _save(db: sqlite3.Connection, stats: DayStats) -> None:
    values = {**vars(stats), "hourly": json.dumps(stats.hourly)}
    names = ", ".join(values)
    db.execute(
        f"REPLACE INTO daily_stats ({names}) VALUES ({', '.join(':' + name for name in values)})",  # noqa: S608
        values,
    )
    db.execute(
        "INSERT INTO stats_days (day, revision) VALUES (?, 1) ON CONFLICT (day) DO UPDATE SET revision = revision + 1",
        (stats.day,),
    )


def of_day(db: sqlite3.Connection, day: str) -> List[DayStats]:
    """Every task's day, by name."""
    rows = db.execute("SELECT * FROM daily_stats WHERE day = ? ORDER BY task_name, task_id", (day,))
    return [_stats(row) for row in rows]


def of_task(db: sqlite3.Connection, task_id: str, first: str, last: str) -> List[DayStats]:
    """One task's days from `first` to `last`, latest first."""
    rows = db.execute(
        "SELECT * FROM daily_stats WHERE task_id = ? AND day BETWEEN ? AND ? ORDER BY day DESC",
        (task_id, first, last),
    )
    return [_stats(row) for row in rows]


def unsynced_days(db: sqlite3.Connection) -> List[str]:
    """Days whose statistics the server does not have as they are now, ascending."""
    rows = db.execute("SELECT day FROM stats_days WHERE revision > synced ORDER BY day")
    return [row["day"] for row in rows]


def revision(db: sqlite3.Connection, day: str) -> int:
    """Counts the changes of a day; 0: nothing happened."""
    row = db.execute("SELECT revision FROM stats_days WHERE day = ?", (day,)).fetchone()
    return 0 if row is None else int(row["revision"])


def mark_synced(db: sqlite3.Connection, day: str, seen: int) -> None:
    """The server has the day as it was at revision `seen`."""
    db.execute("UPDATE stats_days SET synced = max(synced, ?) WHERE day = ?", (seen, day))


def is_synced(db: sqlite3.Connection, day: str) -> bool:
    """Whether the server has the day as it is now."""
    row = db.execute("SELECT revision <= synced AS done FROM stats_days WHERE day = ?", (day,)).fetchone()
    return row is not None and bool(row["done"])


def delete_before(db: sqlite3.Connection, day: str) -> None:
    """Forget earlier days that the server has."""
    done = "day < ? AND day IN (SELECT day FROM stats_days WHERE revision <= synced)"
    db.execute(f"DELETE FROM daily_stats WHERE {done}", (day,))  # noqa: S608
    db.execute("DELETE FROM stats_days WHERE day < ? AND revision <= synced", (day,))


def days(db: sqlite3.Connection) -> List[str]:
    """The days that have statistics, ascending."""
    return [row["day"] for row in db.execute("SELECT day FROM stats_days ORDER BY day")]


def _stats(row: sqlite3.Row) -> DayStats:
    return DayStats(**{**dict(row), "hourly": json.loads(row["hourly"])})


def _empty(day: str, task_id: str) -> DayStats:
    return DayStats(day, task_id, "", 0, 0, 0, 0, 0, 0, 0, 0, [0] * 24, 0)
