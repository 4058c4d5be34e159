"""Executions and outputs that leave the database, as files: gzip'd JSON lines, one file a day and kind (FR-4.2).

    executions-2026-01-31.jsonl.gz    what was entered on that day (UTC): an execution a line, with its attempts
    outputs-2026-01-31.jsonl.gz       their outputs, which leave the database earlier
    ….jsonl.gz.sha256                 the file's checksum, as `sha256sum --check` reads it

While a day is being taken away it lies in parts (`….part-ID.jsonl.gz`), each written whole and then put in place; when
nothing of it is left, they become the day's file. A part that was written, but of which not all was deleted before a
crash, is followed by one that begins with what was left: so a line may be there twice, and the later one counts.
"""

import gzip
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any, Self

import structlog
from django.conf import settings
from quartzflow_agent.files import sync_directory, write_atomic

from quartzflow.execution_status import ExecutionStatus

from .models import Attempt, Execution, ExecutionLog

log = structlog.get_logger(__name__)

EXECUTIONS, OUTPUTS = "executions", "outputs"
KINDS = (EXECUTIONS, OUTPUTS)
LEVEL = 6  # of compression
LEFT_BEHIND = 24 * 3600  # seconds after which nobody writes a file any more
CHUNK = 1024 * 1024  # bytes that are copied at a time
NAME = re.compile(r"(executions|outputs)-(\d{4}-\d\d-\d\d)(?:\.part-(\d{19}))?\.jsonl\.gz")


@dataclass(frozen=True, order=True)
class File:
    """One file of the archive."""

    day: date
    kind: str  # one of KINDS
    part: str  # "": the whole day's; else the first execution's number, of as many digits as such numbers can have
    path: Path
    size: int  # bytes

    @property
    def checksum_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.sha256")


def directory() -> Path:
    """Where the files are; it need not be there yet."""
    return Path(settings.QF_ARCHIVE_DIR)


def files(day: date | None = None, kind: str | None = None) -> list[File]:
    """By day and kind, the whole day's before its parts."""
    found = []
    for path in directory().glob("*.jsonl.gz"):
        matched = NAME.fullmatch(path.name)
        if not matched:
            continue
        file = File(date.fromisoformat(matched[2]), matched[1], matched[3] or "", path, path.stat().st_size)
        if (day is None or file.day == day) and (kind is None or file.kind == kind):
            found.append(file)
    return sorted(found)


# --- writing ---


class _Writer:
    """A file that appears under its name when it is whole and on the disk, after its checksum."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        directory().mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of one's own: who has lost its lease without noticing may still write the same part.
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
        self._file: IO[bytes] = self._temporary.open("wb")
        self._temporary.chmod(0o600)

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        line = f"{self._hash.hexdigest()}  {self._path.name}\n"
        write_atomic(self._path.with_name(f"{self._path.name}.sha256"), line.encode())
        self._temporary.replace(self._path)
        sync_directory(self._path.parent)

    def discard(self) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)


class Parts:
    """Parts that are being written, one a day; `finish` puts them in place, leaving the block without it drops them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._open: dict[date, tuple[_Writer, gzip.GzipFile]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for writer, _packed in self._open.values():
            writer.discard()

    def add(self, day: date, line: dict[str, Any]) -> None:
        """Write one execution's line; `id` is its number. Raises OSError."""
        if day not in self._open:
            name = f"{self.kind}-{day}.part-{line['id']:019}.jsonl.gz"
            writer = _Writer(directory() / name)
            self._open[day] = writer, gzip.GzipFile("", "wb", LEVEL, writer, mtime=0)
        self._open[day][1].write((json.dumps(line, ensure_ascii=False) + "\n").encode())

    def finish(self) -> int:
        """Returns how many parts there are. Raises OSError; what was to be archived must not be deleted then."""
        count = len(self._open)
        while self._open:
            day = next(iter(self._open))
            writer, packed = self._open[day]
            packed.close()
            writer.finish()
            del self._open[day]
        return count


def join_parts() -> None:
    """Make one file of each day's parts, and of what the day has already: gzip files may follow each other in one."""
    for day, kind in sorted({(file.day, file.kind) for file in files() if file.part}):
        pieces = files(day, kind)
        writer = _Writer(directory() / f"{kind}-{day}.jsonl.gz")
        try:
            for piece in pieces:
                with piece.path.open("rb") as source:
                    while data := source.read(CHUNK):
                        writer.write(data)
            writer.finish()
        except BaseException:
            writer.discard()
            raise
        for piece in pieces:
            if piece.part:
                _remove(piece)


def remove_left_behind() -> None:
    """What a crash has left half-written."""
    for path in directory().glob(".*.new"):
        if path.stat().st_mtime < time.time() - LEFT_BEHIND:
            path.unlink(missing_ok=True)


def remove_before(day: date) -> int:
    """Delete the files of earlier days; returns how many."""
    old = [file for file in files() if file.day < day]
    for file in old:
        _remove(file)
    return len(old)


def _remove(file: File) -> None:
    file.path.unlink(missing_ok=True)
    file.checksum_path.unlink(missing_ok=True)


# --- what is in a line ---


def execution_lines(pks: list[int]) -> Iterator[tuple[date, dict[str, Any]]]:
    """(day, line) of each, by number, with attempts and what is left of outputs."""
    attempts: dict[int, list[dict[str, Any]]] = {}
    for attempt in Attempt.objects.filter(execution__in=pks).order_by("execution", "number"):
        attempts.setdefault(attempt.execution_id, []).append(
            {
                "number": attempt.number,
                "status": ExecutionStatus(attempt.status).name,
                "start_time": _text(attempt.start_time),
                "end_time": _text(attempt.end_time),
                "exit_code": attempt.exit_code,
                "failure_reason": attempt.failure_reason,
                "error": attempt.error_msg,
            }
        )
    logs = ExecutionLog.objects.in_bulk(pks)
    for row in Execution.objects.filter(pk__in=pks).order_by("pk"):
        line = {"id": row.pk} | {
            field.attname: value
            if not isinstance(value := field.value_from_object(row), datetime)
            else _text(value)
            for field in Execution._meta.concrete_fields
            if not field.primary_key
        }
        line["status"] = row.status_enum.name
        line["attempts"] = attempts.get(row.pk, [])
        if row.pk in logs:
            line["log"] = _log(logs[row.pk])
        yield row.created_at.astimezone(UTC).date(), line


def output_lines(pks: list[int]) -> Iterator[tuple[date, dict[str, Any]]]:
    """(day, line) of each output, by number, with what tells whose it is."""
    rows = ExecutionLog.objects.filter(pk__in=pks).select_related("execution").order_by("pk")
    for row in rows:
        execution = row.execution
        yield (
            execution.created_at.astimezone(UTC).date(),
            {
                "id": execution.pk,
                "execution_id": execution.execution_id,
                "task_id": execution.task_id,
                "task_name": execution.task_name,
                "client_id": execution.client_id,
                "scheduled_time": _text(execution.scheduled_time),
                "status": execution.status_enum.name,
                "log": _log(row),
            },
        )


def _log(row: ExecutionLog) -> dict[str, Any]:
    return {"output": row.output, "error": row.error_msg, "truncated": row.truncated, "size": row.size}


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


# --- reading ---


class Damaged(Exception):
    """A file of the archive is not as it was written; the message names it."""


def read(day: date, kind: str) -> Iterator[dict[str, Any]]:
    """The lines of a day, each execution once. Raises Damaged."""
    newest: dict[int, int] = {}
    for place, line in enumerate(_lines(files(day, kind))):
        newest[line["id"]] = place
    for place, line in enumerate(_lines(files(day, kind))):
        if newest[line["id"]] == place:
            yield line


def _lines(pieces: Iterable[File]) -> Iterator[dict[str, Any]]:
    for piece in pieces:
        try:
            with gzip.open(piece.path, "rt", encoding="utf-8") as text:
                for line in text:
                    yield json.loads(line)
        except (OSError, EOFError, ValueError) as error:
            raise Damaged(f"{piece.path.name}: {error}") from error


def check(file: File) -> str:
    """What is wrong with a file, "" when it is as it was written. Reads all of it."""
    try:
        wanted = file.checksum_path.read_text().split()[:1]
    except OSError:
        return "its checksum is missing"
    found = hashlib.sha256()
    with file.path.open("rb") as source:
        while data := source.read(CHUNK):
            found.update(data)
    return "" if wanted == [found.hexdigest()] else "its checksum is another one"
