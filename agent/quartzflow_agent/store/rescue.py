"""A damaged store: set aside, and built anew from the JSON views and the logs, as far as they go."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from quartzflow_agent.executors.output import saved_output
from quartzflow_agent.files import sync_directory
from quartzflow_agent.paths import Home
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import executions, outbox
from quartzflow_agent.store.database import StoreError, open_database
from quartzflow_agent.store.records import (
    FAILURE,
    PENDING,
    RUNNING,
    STATUS_NAMES,
    SUCCESS,
    TIMEOUT,
    Ending,
)

DAY_FILE = re.compile(r"\d{4}-\d{2}-\d{2}")
LOG_FILE = re.compile(r"(?P<execution>.+?)(?:\.(?P<attempt>\d{1,9}))?\.log")
LOST = "the agent's record of it was damaged"


@dataclass
class Rescue:
    """What was found, and what became of it."""

    problem: str
    aside: Path  # where the damaged file lies now
    executions: int = 0  # found in the views
    unsynced: int = 0  # of these, those that the server lacks
    unreadable: List[str] = field(default_factory=list)  # views, and records of them, that are damaged, too


def damage(path: Path) -> str:
    """What is wrong inside the file; "": nothing, or there is none.

    Raises StoreError for what is no damage: a full disk, missing permission, another version.
    """
    if not path.exists():
        return ""
    try:
        db = open_database(path)
    except StoreError as error:
        # SQLite's own classes: OperationalError is the world around the file, plain DatabaseError the file.
        if type(error.__cause__) is sqlite3.DatabaseError:
            return str(error.__cause__)
        raise
    try:
        found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
        return "" if found == "ok" else found
    except sqlite3.OperationalError as error:
        raise StoreError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        db.close()


def heal(home: Home) -> Optional[Rescue]:
    """Look at the store before it is used; None: it is well. Raises StoreError, OSError.

    1. Begin a new file beside the damaged one.
    2. Take over the executions of the views, each with its log, in one transaction. What ran is taken as running,
       so that it is stopped and closed as after any crash; what waited cannot be run without its instruction.
       Tasks are not in the views: the server sends them, since the new store has version 0 of them.
    3. Set the damaged file aside, with SQLite's own beside it; nothing of it is deleted.
    4. Put the new one in its place. Cut off before that, all is done again at the next start.
    """
    problem = damage(home.store)
    if not problem:
        return None
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    rescue = Rescue(problem, home.store.with_name(f"{home.store.name}.damaged-{stamp}"))
    new = home.store.with_name(f"{home.store.name}.new")
    for path in home.root.glob(f"{new.name}*"):
        path.unlink()
    db = open_database(new)
    try:
        db.execute("BEGIN IMMEDIATE")
        _rebuild(db, home, rescue)
        db.execute("COMMIT")
    except sqlite3.Error as error:
        raise StoreError(f"{new}: {error}") from error
    finally:
        db.close()
    for end in ("-wal", "-shm"):
        path = home.store.with_name(home.store.name + end)
        if path.exists():
            path.replace(rescue.aside.with_name(rescue.aside.name + end))
    # A second name rather than a new one: there is a store under the old name at any moment.
    os.link(home.store, rescue.aside)
    new.replace(home.store)
    sync_directory(home.root)
    return rescue


def _rebuild(db: sqlite3.Connection, home: Home, rescue: Rescue) -> None:
    logs = _logs(home)
    for path in sorted(home.executions.glob("*.json")):
        if not DAY_FILE.fullmatch(path.stem):
            continue
        try:
            view = json.loads(path.read_text(encoding="utf-8"))
            client_id, entries = str(view["client_id"]), list(view["executions"])
        except (OSError, ValueError, KeyError, TypeError):
            rescue.unreadable.append(path.name)
            continue
        for number, entry in enumerate(entries):
            db.execute("SAVEPOINT entry")
            try:
                unsynced = _take(db, home, path.stem, client_id, entry, logs)
            except (ValueError, KeyError, TypeError, AttributeError):
                db.execute("ROLLBACK TO entry")
                rescue.unreadable.append(f"{path.name}[{number}]")
            else:
                rescue.executions += 1
                rescue.unsynced += unsynced
            db.execute("RELEASE entry")


def _logs(home: Home) -> Dict[str, Tuple[str, int]]:
    """TASK_EXECUTION → (stored name of its latest log, its attempt)."""
    found: Dict[str, Tuple[str, int]] = {}
    for path in sorted(home.logs.glob("????-??-??/*.log")):
        match = LOG_FILE.fullmatch(path.name)
        if match:
            attempt = int(match["attempt"] or 0)
            if attempt >= found.get(match["execution"], ("", 0))[1]:
                found[match["execution"]] = (f"{path.parent.name}/{path.name}", attempt)
    return found


def _take(
    db: sqlite3.Connection,
    home: Home,
    day: str,
    client_id: str,
    entry: Dict[str, Any],
    logs: Dict[str, Tuple[str, int]],
) -> bool:
    """Store one record of a view; whether the server lacks it. Raises ValueError, KeyError, TypeError."""
    status = STATUS_NAMES.index(entry["status"])
    started, ended = _ms(entry["start_time"]), _ms(entry["end_time"])
    if started is not None and ended is not None and entry["duration_ms"] is not None:
        ended = started + int(entry["duration_ms"])
    name, task_id = str(entry["execution_id"]), str(entry["task_id"])
    log, attempt = logs.get(f"{task_id}_{name}", ("", 0))
    firing = re.fullmatch(r"exec_(\d{8}_\d{6})_" + re.escape(f"{task_id}_{client_id}"), name)
    nominal = _ms(firing[1], "%Y%m%d_%H%M%S") if firing else started if started is not None else ended
    instruction = task_pb2.TaskExecution(
        execution_id=name,
        task_id=task_id,
        task_name=str(entry["task_name"]),
        attempt=attempt,
        # Not in the view, but in the name of what a schedule has fired.
        scheduled_time=nominal if nominal is not None else _ms(f"{day}T00:00:00Z") or 0,
    )
    # Who fired it is not known. A server that has never heard of it takes it only from who says: I did.
    executions.add(db, instruction, local=firing is not None)
    if started is not None:
        executions.start(db, name, started, log)
    if status == RUNNING and started is not None:
        return True
    executions.finish(db, name, _ending(home, entry, status, ended, log))
    if not entry["synced"] or status < SUCCESS:
        return True
    outbox.acknowledge(db, [(name, attempt)])
    return False


def _ending(home: Home, entry: Dict[str, Any], status: int, ended: Optional[int], log: str) -> Ending:
    now = round(time.time() * 1000)
    if status in (PENDING, RUNNING) or ended is None:
        return Ending(FAILURE, now, failure_reason="agent_restarted", error=LOST)
    head, size, truncated = saved_output(home.log_file(log)) if log else ("", 0, False)
    code = None if entry["exit_code"] is None else int(entry["exit_code"])
    reason = "timeout" if status == TIMEOUT else "exit_code" if status == FAILURE and code else ""
    return Ending(
        status,
        ended,
        exit_code=code,
        failure_reason=reason,
        error="" if status == SUCCESS else LOST,
        output=head,
        output_size=size,
        truncated=truncated,
    )


def _ms(text: Optional[str], form: str = "%Y-%m-%dT%H:%M:%SZ") -> Optional[int]:
    """2025-01-09T02:00:00Z as Unix ms. Raises ValueError, TypeError."""
    if text is None:
        return None
    moment = datetime.strptime(text, form).replace(tzinfo=timezone.utc)
    return round(moment.timestamp() * 1000)
