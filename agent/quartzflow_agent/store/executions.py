"""The life of an execution: stored, started, ended. (attempt, status) only ever moves forward."""

from __future__ import annotations

import sqlite3
from typing import List, Optional, Sequence, Tuple

from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import outbox, statistics, tasks
from quartzflow_agent.store.records import PENDING, RUNNING, Added, Ending, Execution, Open, is_end, utc_day

_COLUMNS = (
    "execution_id, task_id, task_name, local, scheduled_at, attempt, status, day, started_at, finished_at, exit_code,"
    " failure_reason, log, synced"
)


def take(
    db: sqlite3.Connection, instructions: Sequence[task_pb2.TaskExecution], local: bool
) -> List[Tuple[task_pb2.TaskExecution, Added]]:
    """Store instructions, each once, and which firings of their tasks are known by them."""
    for instruction in instructions:
        if instruction.trigger in ("", "schedule"):
            tasks.set_fired(db, instruction.task_id, instruction.scheduled_time)
    return [(instruction, add(db, instruction, local=local)) for instruction in instructions]


def add(db: sqlite3.Connection, instruction: task_pb2.TaskExecution, *, local: bool = False) -> Added:
    """Store what is to be run, once."""
    row = db.execute(
        "SELECT attempt, status, day FROM executions WHERE execution_id = ?", (instruction.execution_id,)
    ).fetchone()
    if row is None:
        db.execute(
            "INSERT INTO executions (execution_id, task_id, task_name, instruction, local, scheduled_at, attempt,"
            " status, day) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                instruction.execution_id,
                instruction.task_id,
                instruction.task_name,
                instruction.SerializeToString(),
                local,
                instruction.scheduled_time,
                instruction.attempt,
                PENDING,
                utc_day(instruction.scheduled_time),
            ),
        )
        return Added.NEW
    if instruction.attempt > row["attempt"]:
        return _add_attempt(db, instruction, row)
    if instruction.attempt == row["attempt"] and is_end(row["status"]):
        outbox.reopen(db, instruction.execution_id, instruction.attempt)
        return Added.ENDED
    return Added.KNOWN


def _add_attempt(db: sqlite3.Connection, instruction: task_pb2.TaskExecution, row: sqlite3.Row) -> Added:
    values = (instruction.SerializeToString(), instruction.attempt, instruction.execution_id)
    if not is_end(row["status"]):
        db.execute("UPDATE executions SET instruction = ?, attempt = ? WHERE execution_id = ?", values)
        return Added.ADOPTED
    db.execute(
        "UPDATE executions SET instruction = ?, attempt = ?, status = 0, started_at = NULL, finished_at = NULL,"
        " exit_code = NULL, failure_reason = '', synced = 0 WHERE execution_id = ?",
        values,
    )
    # The attempt before was counted as the execution's end; it was not.
    statistics.recount(db, instruction.task_id, row["day"])
    return Added.NEW


def renew(db: sqlite3.Connection, instructions: Sequence[task_pb2.TaskExecution]) -> None:
    """They wait, and will run by these definitions."""
    db.executemany(
        "UPDATE executions SET instruction = ?, task_name = ? WHERE execution_id = ? AND status = ?",
        [(item.SerializeToString(), item.task_name, item.execution_id, PENDING) for item in instructions],
    )


def start(db: sqlite3.Connection, execution_id: str, started_at: int, log: str) -> bool:
    """It begins; False when it is not pending (any more)."""
    changed = db.execute(
        "UPDATE executions SET status = ?, started_at = ?, day = ?, log = ? WHERE execution_id = ? AND status = ?",
        (RUNNING, started_at, utc_day(started_at), log, execution_id, PENDING),
    )
    return changed.rowcount == 1


def set_process(db: sqlite3.Connection, execution_id: str, pid: int, created: float) -> None:
    """Remember the process group, to be stopped after a crash of the agent."""
    db.execute(
        "UPDATE executions SET pid = ?, pid_created = ? WHERE execution_id = ? AND status = ?",
        (pid, created, execution_id, RUNNING),
    )


def finish(
    db: sqlite3.Connection, execution_id: str, ending: Ending, *, sent_at: int = 0
) -> Optional[task_pb2.TaskResult]:
    """The attempt is over: its record, its result for the server and the day's counters, in one transaction.

    sent_at: ms, when the result is about to be sent. None when the execution is unknown or was over already.
    """
    row = db.execute(
        "SELECT instruction, local, status, started_at, day FROM executions WHERE execution_id = ?",
        (execution_id,),
    ).fetchone()
    if row is None or is_end(row["status"]):
        return None
    db.execute(
        "UPDATE executions SET status = ?, finished_at = ?, exit_code = ?, failure_reason = ?, pid = NULL,"
        " pid_created = NULL WHERE execution_id = ?",
        (ending.status, ending.finished_at, ending.exit_code, ending.failure_reason, execution_id),
    )
    instruction = task_pb2.TaskExecution.FromString(row["instruction"])
    result = _result(instruction, bool(row["local"]), row["started_at"], ending)
    outbox.put(db, result, row["day"], sent_at)
    statistics.count(db, result, row["day"])
    return result


def _result(
    instruction: task_pb2.TaskExecution, local: bool, started_at: Optional[int], ending: Ending
) -> task_pb2.TaskResult:
    return task_pb2.TaskResult(
        execution_id=instruction.execution_id,
        task_id=instruction.task_id,
        status=task_pb2.ExecutionStatus.Name(ending.status),
        started_at=started_at or 0,
        finished_at=ending.finished_at,
        exit_code=ending.exit_code or 0,
        has_exit_code=ending.exit_code is not None,
        output=ending.output,
        error=ending.error,
        retry_count=instruction.attempt,
        failure_reason=ending.failure_reason,
        truncated=ending.truncated,
        output_size=ending.output_size,
        scheduled_time=instruction.scheduled_time,
        local=local,
        run_id=instruction.run_id,
        attempt=instruction.attempt,
        shard_index=instruction.shard_index,
        shard_total=instruction.shard_total,
        task_name=instruction.task_name,
    )


def open_executions(db: sqlite3.Connection) -> List[Open]:
    """What is not over: to be run, or to be cleaned up after a crash."""
    rows = db.execute(
        "SELECT instruction, local, status, started_at, log, pid, pid_created FROM executions WHERE status < 2"
        " ORDER BY rowid"
    )
    return [
        Open(
            task_pb2.TaskExecution.FromString(row["instruction"]),
            bool(row["local"]),
            row["status"],
            row["started_at"],
            row["log"],
            row["pid"],
            row["pid_created"],
        )
        for row in rows
    ]


def last_end(db: sqlite3.Connection, task_id: str) -> int:
    """When an execution of the task ended last (ms); 0: never."""
    row = db.execute("SELECT max(finished_at) FROM executions WHERE task_id = ?", (task_id,)).fetchone()
    return int(row[0] or 0)


def get(db: sqlite3.Connection, execution_id: str) -> Optional[Execution]:
    """One execution."""
    found = _select(db, "execution_id = ?", (execution_id,), "")
    return found[0] if found else None


def of_day(db: sqlite3.Connection, day: str, task_id: str = "", limit: int = -1) -> List[Execution]:
    """A day's executions in order of arrival; the latest `limit` of them."""
    where, values = ("task_id = ? AND day = ?", (task_id, day)) if task_id else ("day = ?", (day,))
    return _select(db, where, values, f"DESC LIMIT {int(limit)}")[::-1]


def last_with_log(db: sqlite3.Connection, task_id: str) -> Optional[Execution]:
    """The execution of the task that started last."""
    found = _select(db, "task_id = ? AND started_at IS NOT NULL", (task_id,), "DESC LIMIT 1", "started_at")
    return found[0] if found else None


def _select(
    db: sqlite3.Connection, where: str, values: Tuple[str, ...], tail: str, order: str = "rowid"
) -> List[Execution]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM executions WHERE {where} ORDER BY {order} {tail}", values)  # noqa: S608
    return [
        Execution(**{**dict(row), "local": bool(row["local"]), "synced": bool(row["synced"])}) for row in rows
    ]


def delete_before(db: sqlite3.Connection, day: str) -> int:
    """Forget executions of earlier days that are over and that the server has. Returns how many."""
    gone = db.execute(
        "DELETE FROM executions WHERE day < ? AND status >= 2 AND NOT EXISTS (SELECT 1 FROM results"
        " WHERE results.execution_id = executions.execution_id AND acknowledged = 0)",
        (day,),
    )
    db.execute(
        "DELETE FROM results WHERE day < ? AND acknowledged != 0 AND NOT EXISTS"
        " (SELECT 1 FROM executions WHERE executions.execution_id = results.execution_id)",
        (day,),
    )
    return gone.rowcount


def days(db: sqlite3.Connection) -> List[str]:
    """The days of which there is any execution, ascending."""
    return [row["day"] for row in db.execute("SELECT DISTINCT day FROM executions ORDER BY day")]


def not_settled(db: sqlite3.Connection) -> List[str]:
    """TASK_EXECUTION of what is not over, and of what the server does not have: their logs are still needed."""
    rows = db.execute(
        "SELECT task_id, execution_id FROM executions WHERE status < 2 UNION"
        " SELECT task_id, execution_id FROM executions WHERE execution_id IN"
        " (SELECT execution_id FROM results WHERE acknowledged = 0)"
    )
    return [f"{row['task_id']}_{row['execution_id']}" for row in rows]
