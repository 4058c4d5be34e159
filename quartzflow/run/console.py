"""What `manage.py run` prints: one line for each line of a program, behind its name, in its colour."""

import os
import threading
from collections import defaultdict, deque
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # ANSI foreground codes
BOLD_RED, BOLD = "1;31", "1"
LONGEST_LINE = 64 * 1024  # bytes kept of a line that does not end
SUPERVISOR = "run"


class Console:
    """Prints to one stream, from any thread; remembers each program's last lines.

    `gone` turns true when nobody reads the stream any more (a closed terminal, `| head`)."""

    def __init__(self, stream: TextIO, names: list[str], colour: bool, remember: int = 20) -> None:
        self.stream = stream
        self.gone = False
        self._width = max(map(len, [*names, SUPERVISOR]))
        self._codes = dict(zip(names, COLOURS * len(names), strict=False)) if colour else {}
        self._colour = colour
        self._partial: dict[str, bytes] = defaultdict(bytes)
        self._last: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=remember))
        self._lock = threading.Lock()

    def feed(self, name: str, data: bytes) -> None:
        """Output of a program, cut anywhere."""
        *lines, rest = (self._partial[name] + data).split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._partial[name] = rest
        for line in lines:
            self.line(name, line.decode(errors="replace").rstrip("\r"))

    def flush(self, name: str) -> None:
        """The program has ended: what it left without a line's end is a line too."""
        rest = self._partial.pop(name, b"")
        if rest:
            self.line(name, rest.decode(errors="replace"))

    def line(self, name: str, text: str) -> None:
        self._last[name].append(text)
        self._print(self._styled(f"{name:<{self._width}} |", str(self._codes.get(name, ""))) + f" {text}")

    def say(self, text: str, code: str = BOLD) -> None:
        """A word of the supervisor's own."""
        for line in text.splitlines():
            self._print(self._styled(f"{SUPERVISOR:<{self._width}} | {line}", code))

    def last(self, name: str) -> list[str]:
        return list(self._last[name])

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and code else text

    def _print(self, text: str) -> None:
        with self._lock:
            if self.gone:
                return
            try:
                self.stream.write(text + "\n")
                self.stream.flush()
            except OSError:
                self.gone = True


def wants_colour(stream: TextIO, environ: dict[str, str] | os._Environ[str]) -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR is set; elsewhere only with FORCE_COLOR."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (stream.isatty() and environ.get("TERM") != "dumb")
