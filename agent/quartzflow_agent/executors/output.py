"""What an execution prints: whole to its log file, its start to the server, its errors' end beside it."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import Dict, Iterable, Optional, Tuple

from quartzflow_agent.executors.logfile import LogFile
from quartzflow_agent.masking import Mask
from quartzflow_agent.protocol.constants import ERROR_LIMIT, OUTPUT_LIMIT
from quartzflow_agent.protocol.text import cut_utf8, tail_utf8

STDOUT, STDERR = 1, 2
# A viewer that is further behind than this gets the newest instead of all; the full log has the rest.
WATCHED_BACKLOG = 256 * 1024  # bytes
WATCHED_INCREMENT = 32 * 1024  # bytes in one report


class Output:
    """Takes stdout and stderr in order of arrival. The log file holds UTF-8; what is not becomes U+FFFD."""

    def __init__(self, path: Path, limit: int, secrets: Iterable[str] = ()) -> None:
        """limit: bytes the file may take: beginning and end are kept. secrets: never shown. Raises OSError."""
        self._mask = Mask(secrets)
        self._masked = {stream: self._mask.stream() for stream in (STDOUT, STDERR)}
        self._log = LogFile(path, limit)
        self._closed = False
        self._decoders: Dict[int, codecs.IncrementalDecoder] = {
            stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in (STDOUT, STDERR)
        }
        self._sent = 0
        self.head = ""  # the first OUTPUT_LIMIT bytes, cut at a character
        self._head_size = 0
        self.errors = ""  # the last ERROR_LIMIT bytes of stderr
        self.write_error = ""  # why the log could not be written

    def feed(self, stream: int, data: bytes, *, final: bool = False) -> None:
        """What arrived on STDOUT or STDERR. final: nothing more will."""
        # PostgreSQL's text cannot hold NUL, and nobody can read it.
        text = self._decoders[stream].decode(data, final).replace("\0", "\ufffd")
        text = self._masked[stream].feed(text, final)
        if text:
            self._write(text)
            if stream == STDERR:
                self.errors = tail_utf8(self.errors + text, ERROR_LIMIT)[0]

    def note(self, text: str) -> None:
        """A line of our own."""
        self._write(self.masked(f"{text}\n"))

    def masked(self, text: str) -> str:
        """A text about the execution, without its secrets."""
        return self._mask.whole(text)

    def _write(self, text: str) -> None:
        if self.write_error or self._closed:
            return
        data = text.encode()
        try:
            self._log.write(data)
        except OSError as error:
            # A full disk must not end the run: its result is worth more than its log.
            self.write_error = str(error)
            return
        room = OUTPUT_LIMIT - self._head_size
        if room > 0:
            more = cut_utf8(text, room)[0]
            self.head += more
            # Once a character did not fit, nothing behind it may follow.
            self._head_size = self._head_size + len(data) if len(data) <= room else OUTPUT_LIMIT

    @property
    def size(self) -> int:
        """Bytes of the whole output, whether they are kept or not."""
        return self._log.size

    @property
    def truncated(self) -> bool:
        """Whether the head is not all."""
        return self.size > OUTPUT_LIMIT or bool(self.write_error)

    def increment(self, watched: bool) -> Optional[Tuple[int, str]]:
        """What the server has not been told yet: (offset in bytes, text), a limited piece of it; None: nothing.

        Unless somebody watches, only of the head: the server keeps no more.
        """
        if watched and self.size - self._sent > WATCHED_BACKLOG:
            self._sent = self.size - WATCHED_INCREMENT
        end = self.size if watched else min(self.size, OUTPUT_LIMIT)
        if self._closed or self._sent >= end:
            return None
        offset, data = self._log.read(self._sent, min(end - self._sent, WATCHED_INCREMENT))
        # Both ends may lie within a character: the start after a jump, the end at the limit.
        start = next((i for i in range(min(4, len(data))) if data[i] & 0xC0 != 0x80), 0)
        text = data[start:].decode("utf-8", "ignore")
        if not text and watched and data:  # the rest of a character, at the edge of what is kept
            self._sent = offset + len(data)
            return self.increment(watched)
        if not text:
            return None
        self._sent = offset + start + len(text.encode())
        return offset + start, text

    def rewind(self) -> None:
        """Tell it all again, from the beginning: it may not have arrived."""
        self._sent = 0

    def close(self) -> None:
        """No more output. Idempotent."""
        if self._closed:
            return
        for stream in (STDOUT, STDERR):
            self.feed(stream, b"", final=True)
        self._closed = True
        try:
            self._log.close()
        except OSError as error:
            self.write_error = self.write_error or str(error)


def saved_output(path: Path) -> Tuple[str, int, bool]:
    """What a log file holds: its start, its size in bytes, whether the start is not all. No file: nothing."""
    try:
        with path.open("rb") as file:
            data = file.read(OUTPUT_LIMIT)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return "", 0, False
    return data.decode("utf-8", "ignore"), size, size > OUTPUT_LIMIT
