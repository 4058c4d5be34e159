"""Time on the server's clock, and waiting for it.

The server's time is carried forward on a clock that neither a correction of the host's time of day nor (on Linux)
a suspended machine disturbs.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Deque, NamedTuple, Optional, Protocol

# Longest uninterrupted wait, seconds: asyncio's timers stand still while the machine is suspended.
LONGEST_WAIT = 5.0


class Clock(Protocol):
    """What the engine needs to know of time; tests bring their own."""

    def server_ms(self) -> int:
        """Unix time on the server's clock, ms."""
        ...

    def monotonic(self) -> float:
        """Seconds that only move forward."""
        ...

    async def wait(self, event: asyncio.Event, seconds: Optional[float]) -> bool:
        """Wait for the event, for so long at most (None: for ever). True when it is set."""
        ...


def monotonic() -> float:
    """Seconds since some moment, counting the time that the machine is suspended where the system can."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Sample(NamedTuple):
    """One PING and its PONG."""

    round_trip: float  # seconds
    base: float  # server's Unix time minus our monotonic time, seconds


class ServerClock:
    """The server's clock, from the PONG with the shortest round trip of the last eight."""

    def __init__(self) -> None:
        self._samples: Deque[Sample] = deque(maxlen=8)
        self._base: Optional[float] = None

    def server_ms(self) -> int:
        """Unix time on the server's clock, ms; the host's own until a server has been heard."""
        now = time.time() if self._base is None else monotonic() + self._base
        return round(now * 1000)

    def monotonic(self) -> float:
        return monotonic()

    def add_sample(self, server_ms: int, sent: float, received: float) -> None:
        """Learn from an answer: the server's time, and our monotonic times around it."""
        self._samples.append(Sample(received - sent, server_ms / 1000 - (sent + received) / 2))
        self._base = min(self._samples).base

    def new_connection(self) -> None:
        """Another server, or the same one after a pause: its samples do not compare with the old ones."""
        self._samples.clear()

    @property
    def offset_ms(self) -> int:
        """How far the server's clock is ahead of the host's."""
        return self.server_ms() - round(time.time() * 1000)

    async def wait(self, event: asyncio.Event, seconds: Optional[float]) -> bool:
        """Wait for the event, for so long at most (None: for ever). True when it is set."""
        deadline = None if seconds is None else monotonic() + seconds
        waiting = asyncio.ensure_future(event.wait())
        try:
            while not event.is_set():
                left = LONGEST_WAIT if deadline is None else deadline - monotonic()
                if left <= 0:
                    break
                # Not wait_for: before Python 3.12 it forgets that it was cancelled when the event comes just then.
                await asyncio.wait([waiting], timeout=min(left, LONGEST_WAIT))
        finally:
            waiting.cancel()
        return event.is_set()
