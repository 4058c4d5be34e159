"""One execution's log on the disk: its beginning and its end, whatever lies between."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, List, Tuple

from quartzflow_agent.files import PRIVATE_DIRECTORY, PRIVATE_FILE

KEPT_PIECES = 2  # of the end; each is a quarter of the limit, so a quarter at least is kept


class LogFile:
    """The first half of the limit goes to the file, the rest to pieces of which the newest are kept.

    A piece has no name: after a crash of the agent nothing is left of it but the beginning.
    """

    def __init__(self, path: Path, limit: int) -> None:
        """limit: bytes on the disk. Raises OSError."""
        self._path = path
        path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        self._head: IO[bytes] = os.fdopen(descriptor, "w+b", buffering=0)
        self._head_limit = limit // 2
        self._piece_limit = limit // 4
        self._head_size = 0
        self._pieces: List[Tuple[int, IO[bytes]]] = []  # (offset of its first byte, file)
        self.size = 0  # bytes that were written, kept or not

    def write(self, data: bytes) -> None:
        """Raises OSError; what was not written then does not count."""
        view = memoryview(data)
        while view:
            file, room = self._place()
            part = view[:room]
            written = file.write(part) or 0
            self.size += written
            if file is self._head:
                self._head_size += written
            view = view[written:]

    def _place(self) -> Tuple[IO[bytes], int]:
        """Where the next byte goes, and how many fit there."""
        if not self._pieces and self._head_size < self._head_limit:
            return self._head, self._head_limit - self._head_size
        if self._pieces:
            start, file = self._pieces[-1]
            room = self._piece_limit - (self.size - start)
            if room > 0:
                return file, room
        if len(self._pieces) == KEPT_PIECES:
            self._pieces.pop(0)[1].close()
        piece = tempfile.TemporaryFile(dir=self._path.parent, buffering=0)  # noqa: SIM115  `close` does
        self._pieces.append((self.size, piece))
        return self._pieces[-1][1], self._piece_limit

    def read(self, offset: int, count: int) -> Tuple[int, bytes]:
        """Up to so many bytes from there, and where they begin: further on when those there are not kept."""
        found = b""
        for start, file in [(0, self._head), *self._pieces]:
            end = self._head_size if file is self._head else min(start + self._piece_limit, self.size)
            at = offset + len(found)
            if at >= end or len(found) == count:
                continue
            if at < start:
                if found:
                    break
                offset = at = start
            found += os.pread(file.fileno(), min(count - len(found), end - at), at - start)
        return offset, found

    def close(self) -> None:
        """Put the end behind the beginning, with a word on what is missing between them. Raises OSError."""
        with ExitStack() as files:
            for file in (self._head, *(file for _, file in self._pieces)):
                files.enter_context(file)
            left_out = self._pieces[0][0] - self._head_size if self._pieces else 0
            if left_out:
                self._head.seek(_whole(self._head.fileno(), self._head_size))
                self._head.truncate()
                self._head.write(f"\n[{left_out} bytes are left out here]\n".encode())
            for number, (_, file) in enumerate(self._pieces):
                file.seek(_skip(file.fileno()) if left_out and number == 0 else 0)
                shutil.copyfileobj(file, self._head)


def _whole(descriptor: int, size: int) -> int:
    """Where the last whole character before `size` ends."""
    data = os.pread(descriptor, 4, max(size - 4, 0))
    for back, byte in enumerate(reversed(data), 1):
        if byte & 0xC0 != 0x80:  # a character begins here
            length = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return size - back if length > back else size
    return size


def _skip(descriptor: int) -> int:
    """How many bytes at the beginning belong to a character that began before."""
    data = os.pread(descriptor, 4, 0)
    return next((number for number, byte in enumerate(data) if byte & 0xC0 != 0x80), 0)
