"""The PRD's files (§3.2.5, §5.3): views of the store for people and other tools, replaced as a whole."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from typing import Any, Dict, Iterable, Optional, Set

from quartzflow_agent.files import write_atomic
from quartzflow_agent.logs import event
from quartzflow_agent.paths import Home
from quartzflow_agent.store import executions, outbox, statistics
from quartzflow_agent.store.database import StoreError, open_readonly
from quartzflow_agent.store.records import DayStats, Execution, utc

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between a change and the files
# A day of ten thousand records takes a tenth of a second to write: rest so many times as long as it took.
REST = 20
MOST_PENDING = 10_000  # entries of pending_sync.json


def iso(milliseconds: Optional[int]) -> Optional[str]:
    """2025-01-09T02:00:00Z."""
    return None if milliseconds is None else utc(milliseconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def execution_view(record: Execution) -> Dict[str, Any]:
    """One record of executions/DATE.json."""
    return {
        "execution_id": record.execution_id,
        "task_id": record.task_id,
        "task_name": record.task_name,
        "status": record.status_name,
        "start_time": iso(record.started_at),
        "end_time": iso(record.finished_at),
        "duration_ms": record.duration_ms,
        "exit_code": record.exit_code,
        "synced": record.synced,
    }


def stats_view(stats: DayStats) -> Dict[str, Any]:
    """One task of daily_stats/DATE.json."""
    return {
        "task_name": stats.task_name,
        "stats": {
            "total": stats.total,
            "success": stats.success,
            "failure": stats.failure,
            "timeout": stats.timeout,
            "cancelled": stats.cancelled,
            "avg_duration_ms": stats.avg_ms,
            "max_duration_ms": stats.max_ms,
            "min_duration_ms": stats.min_ms,
        },
        "hourly": {f"{hour:02d}": count for hour, count in enumerate(stats.hourly)},
        "last_updated": iso(stats.updated_at),
    }


def day_view(db: sqlite3.Connection, day: str, client_id: str) -> Dict[str, Any]:
    """executions/DATE.json."""
    records = [execution_view(record) for record in executions.of_day(db, day)]
    return {"date": day, "client_id": client_id, "executions": records}


def daily_stats_view(db: sqlite3.Connection, day: str, client_id: str) -> Dict[str, Any]:
    """daily_stats/DATE.json."""
    return {
        "date": day,
        "client_id": client_id,
        "tasks": {stats.task_id: stats_view(stats) for stats in statistics.of_day(db, day)},
        "synced_to_server": statistics.is_synced(db, day),
    }


def pending_view(db: sqlite3.Connection) -> Dict[str, Any]:
    """pending_sync.json."""
    waiting = outbox.pending(db, limit=MOST_PENDING, max_bytes=2**40)
    entries = [
        {
            "execution_id": item.result.execution_id,
            "task_id": item.result.task_id,
            "retry_count": item.sync_attempts,
            "last_sync_attempt": iso(item.last_sync_at or None),
        }
        for item in waiting
    ]
    return {"pending_executions": entries}


def write_views(home: Home, client_id: str, days: Iterable[str]) -> None:
    """Write the files of these days, and what waits for the server. Raises OSError, StoreError."""
    db = open_readonly(home.store)
    if db is None:
        return
    try:
        db.execute("BEGIN")  # all files show one moment
        for day in days:
            _write(home, f"executions/{day}.json", day_view(db, day, client_id))
            _write(home, f"daily_stats/{day}.json", daily_stats_view(db, day, client_id))
        _write(home, home.pending_sync.name, pending_view(db))
    except sqlite3.Error as error:
        raise StoreError(str(error)) from error
    finally:
        db.close()


def _write(home: Home, name: str, content: Dict[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=2)
    write_atomic(home.tasks / name, f"{text}\n".encode(), sync=False)


class Views:
    """Writes the files a little after each change, in a thread of its own."""

    def __init__(self, home: Home, client_id: str) -> None:
        self._home = home
        self._client_id = client_id
        self._days: Set[str] = set()
        self._changed = asyncio.Event()

    def touch(self, day: str) -> None:
        """Records of this day have changed."""
        self._days.add(day)
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(PAUSE)
            started = time.monotonic()
            await self.flush()
            await asyncio.sleep((time.monotonic() - started) * REST)

    async def flush(self) -> None:
        """Write now what has changed. A failure is logged, and tried again with the next change."""
        days, self._days = self._days, set()
        self._changed.clear()
        try:
            await asyncio.get_running_loop().run_in_executor(
                None, write_views, self._home, self._client_id, sorted(days)
            )
        except (OSError, StoreError) as error:
            self._days |= days
            log.error(event("views_failed", error=error))
