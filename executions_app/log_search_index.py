"""The index over outputs, and bringing outputs into it.

An output is in the index when its `indexed_at` is set, and only then: PostgreSQL by a partial index, SQLite by
triggers that keep a full-text table beside it. So whoever changes or deletes an output need not know of the index, and
whoever writes outputs does nothing but leave `indexed_at` empty; a worker sets it later, a batch at a time.
"""

import enum
import time
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import OperationalError, ProgrammingError, connection, transaction
from django.utils import timezone

from quartzflow.execution_status import LIVE
from quartzflow.trigrams import has_trigrams

from .models import ExecutionLog

log = structlog.get_logger(__name__)

BATCH = 200  # outputs of one transaction: SQLite's other writers wait for it
REST = 3.0  # times as long as a batch took until the next: executions go first, the more so on a busy machine
BUDGET = 2.0  # seconds of one step
MOST_COUNTED = 10_000  # outputs that wait; beyond, their number does not matter


class Mode(enum.Enum):
    """What the database can do."""

    TRIGRAMS = "trigrams"  # any three characters in a row, of every language
    WORDS = "words"  # whole words only
    NONE = "none"  # no index: the newest outputs are read one by one


# --- PostgreSQL ---

TRIGRAM_INDEX, WORD_INDEX = "idx_log_search_trigrams", "idx_log_search_words"
WORDS_SQL = "to_tsvector('simple', output || ' ' || error_msg)"
POSTGRESQL = {
    Mode.TRIGRAMS: f"CREATE INDEX IF NOT EXISTS {TRIGRAM_INDEX} ON tb_execution_log"
    " USING gin (output gin_trgm_ops, error_msg gin_trgm_ops) WHERE indexed_at IS NOT NULL",
    Mode.WORDS: f"CREATE INDEX IF NOT EXISTS {WORD_INDEX} ON tb_execution_log"
    f" USING gin (({WORDS_SQL})) WHERE indexed_at IS NOT NULL",
}

# --- SQLite ---

TABLE = "tb_log_search"
# Only which rows hold a trigram, not where: a third of the size, and every hit is looked at anyway.
SQLITE = (
    f"CREATE VIRTUAL TABLE IF NOT EXISTS {TABLE} USING fts5(output, error_msg, content='tb_execution_log',"
    " content_rowid='execution_id', tokenize='trigram', detail='none', columnsize=0)"
)
_OUT = (
    f"INSERT INTO {TABLE}({TABLE}, rowid, output, error_msg)"  # noqa: S608 - names of ours
    " VALUES ('delete', old.execution_id, old.output, old.error_msg);"
)
_IN = f"INSERT INTO {TABLE}(rowid, output, error_msg) VALUES (new.execution_id, new.output, new.error_msg);"  # noqa: S608
TRIGGERS = {
    "tr_log_search_insert": f"AFTER INSERT ON tb_execution_log WHEN new.indexed_at IS NOT NULL BEGIN {_IN} END",
    "tr_log_search_delete": f"AFTER DELETE ON tb_execution_log WHEN old.indexed_at IS NOT NULL BEGIN {_OUT} END",
    # Out before in; of two that come after, nobody knows which is first.
    "tr_log_search_before": f"BEFORE UPDATE ON tb_execution_log WHEN old.indexed_at IS NOT NULL BEGIN {_OUT} END",
    "tr_log_search_after": f"AFTER UPDATE ON tb_execution_log WHEN new.indexed_at IS NOT NULL BEGIN {_IN} END",
}


def prepare() -> Mode:
    """Make the index where it is missing, as far as the database allows. By the migration, and by every step: a table
    that was made anew has lost its triggers, and an extension may come later."""
    found = mode()
    if connection.vendor == "postgresql":
        return found if found is not Mode.NONE else _prepare_postgresql()
    return found if found is Mode.TRIGRAMS and _triggers() == set(TRIGGERS) else _prepare_sqlite()


def mode() -> Mode:
    """What there is now."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT to_regclass(%s), to_regclass(%s)", [TRIGRAM_INDEX, WORD_INDEX])
            trigrams, words = cursor.fetchone()
            return Mode.TRIGRAMS if trigrams else Mode.WORDS if words else Mode.NONE
        cursor.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = %s", [TABLE])
        return Mode.TRIGRAMS if cursor.fetchone()[0] else Mode.NONE


def _prepare_postgresql() -> Mode:
    wanted = Mode.TRIGRAMS if has_trigrams() else Mode.WORDS
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(POSTGRESQL[wanted])
    except ProgrammingError as error:  # not the tables' owner
        log.warning("no index for log search", error=str(error))
        return Mode.NONE
    return wanted


def _triggers() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'tr_log_search_%%'"
        )
        return {name for (name,) in cursor.fetchall()}


def _prepare_sqlite() -> Mode:
    """Begin anew: what was written without the triggers is not in the index, or wrongly."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(SQLITE)
            cursor.execute(f"INSERT INTO {TABLE}({TABLE}) VALUES ('delete-all')")  # noqa: S608 - names of ours
            for name in _triggers():
                cursor.execute(f"DROP TRIGGER {name}")
            cursor.execute("UPDATE tb_execution_log SET indexed_at = NULL WHERE indexed_at IS NOT NULL")
            for name, text in TRIGGERS.items():
                cursor.execute(f"CREATE TRIGGER {name} {text}")
    except OperationalError as error:  # an SQLite without FTS5
        log.warning("no index for log search", error=str(error))
        return Mode.NONE
    return Mode.TRIGRAMS


def remove() -> None:
    """Drop the index; for going back before the migration."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            for name in (TRIGRAM_INDEX, WORD_INDEX):
                cursor.execute(f"DROP INDEX IF EXISTS {name}")
        else:
            for name in TRIGGERS:
                cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
            cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")


# --- keeping it up ---


def bring_in(budget: float = BUDGET) -> int:
    """One step: bring outputs of ended executions into the index, newest first, for about `budget` seconds. Any number
    of processes may do it at once. Returns how many came in."""
    begun = time.monotonic()
    if not _waiting().exists() or prepare() is Mode.NONE:
        return 0
    count = 0
    while True:
        batch = time.monotonic()
        with transaction.atomic():
            # What is being written this moment waits for the next step; what is written afterwards empties it again.
            rows = _waiting().select_for_update(skip_locked=True, of=("self",)).order_by("-pk")
            pks = list(rows.values_list("pk", flat=True)[:BATCH])
            ExecutionLog.objects.filter(pk__in=pks).update(indexed_at=timezone.now())
        count += len(pks)
        now = time.monotonic()
        if len(pks) < BATCH or now - begun > budget:
            break
        time.sleep(REST * (now - batch))
    return count


def _waiting() -> Any:
    # Said so that SQLite does not begin with all executions that are over.
    return ExecutionLog.objects.filter(indexed_at=None).exclude(execution__status__in=LIVE)


@dataclass(frozen=True)
class State:
    """How the index stands, for pages and graphs."""

    mode: Mode
    waiting: int  # ended executions whose outputs are not in it yet; at most MOST_COUNTED

    @property
    def many(self) -> bool:
        return self.waiting >= MOST_COUNTED


def state() -> State:
    found = mode()
    waiting = 0 if found is Mode.NONE else len(_waiting().values_list("pk", flat=True)[:MOST_COUNTED])
    return State(found, waiting)


def newest_first(text: str, before: int, since: int) -> Any:
    """SQLite: the numbers of executions whose outputs may hold the text, in [since, before), newest first; an open
    cursor to be read to where one likes and closed."""
    # Trigrams that together cover the text; where one is, the others mostly are, so some of them do.
    places = sorted({*range(0, len(text) - 2, 3), len(text) - 3})[:16]
    wanted = " AND ".join('"' + text[place : place + 3].replace('"', '""') + '"' for place in places)
    cursor = connection.cursor()
    cursor.execute(
        f"SELECT rowid FROM {TABLE} WHERE {TABLE} MATCH %s AND rowid < %s AND rowid >= %s ORDER BY rowid DESC",  # noqa: S608 - names of ours
        [wanted, before, since],
    )
    return cursor
