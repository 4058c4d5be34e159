"""Results on their way to the server: kept until it has committed them."""

from __future__ import annotations

import sqlite3
from typing import Iterable, List, Sequence, Set, Tuple

from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store.records import Pending

WAITING, COMMITTED, REFUSED = 0, 1, 2
# ms until a result is sent once more over a link that stays up; doubled each time, an hour at most.
FIRST_DELAY = 30_000
LONGEST_DELAY = 3_600_000


def put(db: sqlite3.Connection, result: task_pb2.TaskResult, day: str, sent_at: int) -> None:
    """Keep the end of an attempt. sent_at: ms; 0 when it is not being sent now."""
    db.execute(
        "INSERT INTO results (execution_id, attempt, day, result, last_sync_at) VALUES (?, ?, ?, ?, ?)",
        (result.execution_id, result.attempt, day, result.SerializeToString(), sent_at),
    )


def pending(
    db: sqlite3.Connection, *, limit: int, max_bytes: int, after: int = 0, due_at: int = 0
) -> List[Pending]:
    """What the server lacks, oldest first: `limit` results or `max_bytes` bytes at most, but one at least.

    after: only rows behind this one. due_at: ms; leave out what was sent so lately that the answer may still come
    (0: leave out nothing).
    """
    rows = db.execute(
        "SELECT rowid AS number, result, sync_attempts, last_sync_at FROM results WHERE acknowledged = 0 AND rowid > ?"
        " AND (? = 0 OR last_sync_at = 0 OR last_sync_at + min(? << min(sync_attempts, 16), ?) <= ?)"
        " ORDER BY rowid LIMIT ?",
        (after, due_at, FIRST_DELAY, LONGEST_DELAY, due_at, limit),
    )
    found: List[Pending] = []
    size = 0
    for row in rows:
        size += len(row["result"])
        if found and size > max_bytes:
            break
        result = task_pb2.TaskResult.FromString(row["result"])
        found.append(Pending(row["number"], result, row["sync_attempts"], row["last_sync_at"]))
    return found


def count_pending(db: sqlite3.Connection) -> int:
    """How many results the server lacks."""
    return int(db.execute("SELECT count(*) FROM results WHERE acknowledged = 0").fetchone()[0])


def mark_sent(db: sqlite3.Connection, rows: Iterable[int], now: int) -> None:
    """They are about to be sent again."""
    db.executemany(
        "UPDATE results SET sync_attempts = sync_attempts + 1, last_sync_at = ? WHERE rowid = ?",
        [(now, row) for row in rows],
    )


def acknowledge(db: sqlite3.Connection, keys: Iterable[Tuple[str, int]]) -> Set[str]:
    """The server has committed these attempts. Returns the days whose records changed."""
    changed: Set[str] = set()
    for execution_id, attempt in keys:
        row = db.execute(
            "SELECT rowid AS number, result, day FROM results WHERE execution_id = ? AND attempt = ?",
            (execution_id, attempt),
        ).fetchone()
        if row is None:
            continue
        result = task_pb2.TaskResult.FromString(row["result"])
        result.output = ""  # the log has it
        db.execute(
            "UPDATE results SET acknowledged = ?, result = ? WHERE rowid = ?",
            (COMMITTED, result.SerializeToString(), row["number"]),
        )
        db.execute(
            "UPDATE executions SET synced = 1 WHERE execution_id = ? AND attempt = ? AND status >= 2",
            (execution_id, attempt),
        )
        changed.add(row["day"])
    return changed


def refuse(db: sqlite3.Connection, execution_id: str, attempt: int) -> None:
    """The server will never take this result: stop sending it, keep the record."""
    db.execute(
        "UPDATE results SET acknowledged = ? WHERE execution_id = ? AND attempt = ? AND acknowledged = ?",
        (REFUSED, execution_id, attempt, WAITING),
    )


def reopen(db: sqlite3.Connection, execution_id: str, attempt: int) -> None:
    """The server asks for what it should have: send it once more."""
    db.execute(
        "UPDATE results SET acknowledged = ?, last_sync_at = 0 WHERE execution_id = ? AND attempt = ?",
        (WAITING, execution_id, attempt),
    )
    db.execute(
        "UPDATE executions SET synced = 0 WHERE execution_id = ? AND attempt = ?", (execution_id, attempt)
    )


def reopen_day(db: sqlite3.Connection, day: str, task_ids: Sequence[str]) -> int:
    """As `reopen`, for all that these tasks did on a day, as far as the server once took it. Returns how many."""
    names = [
        (row["execution_id"], row["attempt"])
        for task_id in task_ids
        for row in db.execute(
            "SELECT execution_id, attempt FROM executions JOIN results USING (execution_id, attempt)"
            " WHERE task_id = ? AND executions.day = ? AND status >= 2 AND acknowledged = ?",
            (task_id, day, COMMITTED),
        )
    ]
    for execution_id, attempt in names:
        reopen(db, execution_id, attempt)
    return len(names)


def days(db: sqlite3.Connection) -> List[str]:
    """The days of attempts whose end the server lacks."""
    return [row["day"] for row in db.execute("SELECT DISTINCT day FROM results WHERE acknowledged = 0")]
