"""Waking up for many moments with one timer."""

from __future__ import annotations

import asyncio
import heapq
from typing import Callable, Dict, List, Tuple

from quartzflow_agent.clock import Clock

# Until a server has been heard, its clock is the host's, which somebody may set meanwhile.
LONGEST_NAP = 30.0  # seconds


class Timeline:
    """Calls `fire(key)` when the server's clock reaches the key's moment."""

    def __init__(self, clock: Clock, fire: Callable[[str], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._heap: List[Tuple[int, str]] = []
        self._due: Dict[str, int] = {}
        self._wake = asyncio.Event()

    def put(self, key: str, due: int) -> None:
        """Fire at `due` (ms; at once when it is past), instead of any moment set before."""
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        self._wake.set()

    def remove(self, key: str) -> None:
        """Never mind. Unknown keys are fine."""
        self._due.pop(key, None)

    def wake(self) -> None:
        """The clock has changed: look again."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            now = self._clock.server_ms()
            while self._heap and self._heap[0][0] <= now:
                due, key = heapq.heappop(self._heap)
                # An entry that does not match was moved or removed.
                if self._due.get(key) == due:
                    del self._due[key]
                    self._fire(key)
            left = (self._heap[0][0] - now) / 1000 if self._heap else LONGEST_NAP
            await self._clock.wait(self._wake, min(left, LONGEST_NAP))
