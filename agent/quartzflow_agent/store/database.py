"""Opening the store's SQLite file."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Optional

from quartzflow_agent.files import PRIVATE_FILE
from quartzflow_agent.store.schema import SCHEMA, VERSION

BUSY_TIMEOUT = 10.0  # seconds; only a backup or a curious sqlite3 shell ever holds a lock


class StoreError(Exception):
    """The store cannot be read or written: disk full, file damaged, not ours."""


def open_database(path: Path) -> sqlite3.Connection:
    """Open for writing; create what is missing. Transactions are the caller's. Raises StoreError."""
    try:
        # Created with its mode: SQLite's own files beside it (-wal, -shm) take theirs from it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE))
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA}; PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise StoreError(
                f"{path}: made by another version of the agent (schema {version}, not {VERSION})"
            )
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: {error}") from error
    return db


def open_readonly(path: Path) -> Optional[sqlite3.Connection]:
    """Open for reading beside a running agent; None when there is no store yet. Raises StoreError."""
    if not path.exists():
        return None
    try:
        db = sqlite3.connect(
            f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT, check_same_thread=False
        )
        db.row_factory = sqlite3.Row
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            raise StoreError(f"{path}: made by another version of the agent")
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    return db


def get_meta(db: sqlite3.Connection, key: str, default: str = "") -> str:
    """A remembered value."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return default if row is None else str(row["value"])


def set_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    """Remember a value."""
    db.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )
