"""Deadlines of many connections, on few of the loop's timers.

A timer of asyncio's own for each connection costs as much as the rest of what a datagram needs: thousands of them are
compared with one another, in Python, whenever one is set.
"""

import asyncio
import math
from typing import Protocol

FINE = 0.01  # seconds; near deadlines ring together, by so much late
COARSE = 25  # of these; far ones ring together, by so much early, and look again
FAR = 1.0  # seconds
TURN = 0.02  # seconds of ringing in one turn of the loop


class Timed(Protocol):
    """Whoever has a deadline."""

    slot: int  # written by `Timers` alone: when it rings, in units of FINE; 0: not armed

    def ring(self, now: float) -> None:
        """The time has come, or nearly so; `now` is the loop's, and not before what it was armed for."""


class Timers:
    """Rings each connection once, at the earliest time that it was armed for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Timed]] = {}

    def arm(self, item: Timed, due: float) -> None:
        """Ring at `due`, the loop's time; not if it is inf, or the item rings before that: it must look again then."""
        if due == math.inf or 0 < item.slot * FINE <= due:
            return
        self.disarm(item)
        far = due - self._loop.time() > FAR
        slot = math.floor(due / (FINE * COARSE)) * COARSE if far else math.ceil(due / FINE)
        item.slot = slot
        items = self._slots.get(slot)
        if items is None:
            self._slots[slot] = {item}
            self._loop.call_at(slot * FINE, self._ring_slot, slot)
        else:
            items.add(item)

    def disarm(self, item: Timed) -> None:
        """Forget the item's deadline, if it has one."""
        if item.slot:
            self._slots.get(item.slot, set()).discard(item)
            item.slot = 0

    def _ring_slot(self, slot: int) -> None:
        self._ring(slot, self._slots.pop(slot))

    def _ring(self, slot: int, items: set[Timed]) -> None:
        until = self._loop.time() + TURN
        try:
            while items:
                item = items.pop()
                if item.slot == slot:  # neither disarmed nor armed anew since the slot began to ring
                    item.slot = 0
                    now = max(slot * FINE, self._loop.time())
                    item.ring(now)
                    if now >= until:
                        break
        finally:  # an error is the item's own: the loop reports it
            if items:
                self._loop.call_soon(self._ring, slot, items)
