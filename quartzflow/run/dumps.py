"""The database as one file, and a file as the database: SQLite by its online backup, PostgreSQL by its own programs."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import connection, connections

SQLITE, POSTGRESQL = "sqlite", "postgresql"
NAMES = {SQLITE: "db.sqlite3", POSTGRESQL: "db.pgdump"}
PAGES = 2000  # copied at a time: writers get their turn in between
FRESH_SCHEMA = b"DROP SCHEMA public CASCADE;\nCREATE SCHEMA public;\n"


class DumpError(Exception):
    """The database's own program, or its file, does not do what was asked; the message is for the operator."""


def dump(directory: Path) -> Path:
    """Write the whole database, as it is at one moment, into a file of the directory. Raises DumpError."""
    path = directory / NAMES[connection.vendor]
    if connection.vendor == POSTGRESQL:
        _run([_program("pg_dump"), "--format=custom", "--no-owner", "--no-privileges", f"--file={path}"])
        return path
    with closing(sqlite3.connect(_sqlite_file())) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target, pages=PAGES)
        # The copy is of a file in WAL mode; by itself it is one file.
        target.execute("PRAGMA journal_mode=DELETE")
    return path


def is_empty() -> bool:
    """Whether the database has no tables yet."""
    if connection.vendor == SQLITE and not _sqlite_file().exists():
        return True
    return not connection.introspection.table_names()


def check(path: Path) -> None:
    """Raises DumpError unless the file can be restored here."""
    if path.name != NAMES[connection.vendor]:
        raise DumpError("the backup is of another kind of database than DATABASE_URL names")
    if connection.vendor == SQLITE:
        with closing(sqlite3.connect(path)) as copy:
            found = [line for (line,) in copy.execute("PRAGMA quick_check(3)")]
        if found != ["ok"]:
            raise DumpError(f"the database in the backup is damaged: {'; '.join(found)}")
    else:
        _run([_program("pg_restore"), "--list", str(path)])


def load(path: Path, now: datetime) -> Path | None:
    """Make the file the database; all of it or nothing. Returns where the one before was put (SQLite only).

    Raises DumpError.
    """
    connections.close_all()
    if connection.vendor == POSTGRESQL:
        script = path.with_suffix(".sql")
        _run([_program("pg_restore"), "--no-owner", "--no-privileges", f"--file={script}", str(path)])
        with script.open("rb") as sql:
            _run(
                [_program("psql"), "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1",
                 "--output=/dev/null", f"--command={FRESH_SCHEMA.decode()}", "--file=-"],
                stdin=sql,
            )  # fmt: skip
        return None
    target, before = _sqlite_file(), None
    if target.exists():
        before = target.with_name(f"{target.name}.before-{now:%Y%m%d-%H%M%S}")
        # Whatever its log still holds goes into the file first.
        with closing(sqlite3.connect(target)) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        target.rename(before)
    for suffix in ("-wal", "-shm"):
        Path(f"{target}{suffix}").unlink(missing_ok=True)
    path.chmod(0o600)
    path.rename(target)
    return before


def _sqlite_file() -> Path:
    return Path(connection.settings_dict["NAME"])


def _program(name: str) -> str:
    """On PATH, else the newest that Debian's packages put aside. Raises DumpError."""
    found = shutil.which(name)
    if found is None:
        places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3]))
        found = str(places[-1]) if places else None
    if found is None:
        raise DumpError(
            f"{name} is missing: install PostgreSQL's client programs (apt-get install postgresql-client)"
        )
    return found


def _run(command: list[str], **options: Any) -> None:
    settings = connection.settings_dict
    names = {
        "PGHOST": "HOST",
        "PGPORT": "PORT",
        "PGUSER": "USER",
        "PGPASSWORD": "PASSWORD",
        "PGDATABASE": "NAME",
    }
    env = dict(os.environ) | {name: str(settings[key]) for name, key in names.items() if settings.get(key)}
    if sslmode := settings.get("OPTIONS", {}).get("sslmode"):
        env["PGSSLMODE"] = str(sslmode)
    done = subprocess.run(command, env=env, capture_output=True, check=False, **options)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        # The line that names the error is followed by where it is, and by hints.
        line = next((text for text in said if "error" in text.lower()), said[-1] if said else "")
        raise DumpError(f"{Path(command[0]).name}: {line or f'exit status {done.returncode}'}")
