"""How many executions of one task may run at once on this host, and what becomes of the others."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Deque, Dict, List, Optional, Set, Tuple

QUEUE, SKIP, REPLACE = "queue", "skip", "replace"
# A task that is always slower than its schedule must not fill the memory.
LONGEST_QUEUE = 1000


class Verdict(Enum):
    """What becomes of an execution whose time has come."""

    RUN = "run"
    QUEUED = "queued"
    REFUSED = "refused"


@dataclass
class Admission:
    """The answer to `admit`."""

    verdict: Verdict
    dropped: List[str] = field(default_factory=list)  # queued ones that it displaces
    stopped: Optional[str] = None  # the running one that has to make room


@dataclass
class _Lane:
    running: List[str] = field(default_factory=list)  # oldest first
    stopping: List[str] = field(default_factory=list)
    queue: Deque[Tuple[str, int]] = field(default_factory=deque)  # execution id, its limit


class Lanes:
    """One lane for each task."""

    def __init__(self) -> None:
        self._lanes: Dict[str, _Lane] = {}

    def admit(self, task_id: str, execution_id: str, limit: int, policy: str) -> Admission:
        """Its time has come: run it now, keep it back, or not at all. limit: running at once, at least 1."""
        lane = self._lanes.setdefault(task_id, _Lane())
        limit = max(limit, 1)
        if len(lane.running) < limit and not lane.queue:
            lane.running.append(execution_id)
            return Admission(Verdict.RUN)
        if policy == REPLACE:
            dropped = [waiting for waiting, _ in lane.queue]
            lane.queue.clear()
            lane.queue.append((execution_id, limit))
            stopped = None
            if not lane.stopping:
                stopped = lane.running[0]
                lane.stopping.append(stopped)
            return Admission(Verdict.QUEUED, dropped, stopped)
        if policy == SKIP or len(lane.queue) >= LONGEST_QUEUE:
            return Admission(Verdict.REFUSED)
        lane.queue.append((execution_id, limit))
        return Admission(Verdict.QUEUED)

    def release(self, task_id: str, execution_id: str) -> List[str]:
        """It is over, or will not run: which ones run now."""
        lane = self._lanes.get(task_id)
        if lane is None:
            return []
        for place in (lane.running, lane.stopping):
            if execution_id in place:
                place.remove(execution_id)
        lane.queue = deque(entry for entry in lane.queue if entry[0] != execution_id)
        started: List[str] = []
        while lane.queue and len(lane.running) < lane.queue[0][1]:
            waiting, _ = lane.queue.popleft()
            lane.running.append(waiting)
            started.append(waiting)
        if not lane.running and not lane.queue:
            del self._lanes[task_id]
        return started


class Room:
    """How many executions of all tasks together may run at once; the others wait in order of arrival."""

    def __init__(self, most: int) -> None:
        """most: 0 is any number."""
        self._most = most
        self._inside: Set[str] = set()
        self._waiting: Dict[str, None] = {}

    def enter(self, execution_id: str) -> bool:
        """Whether it may run now; else it waits. Who is in may ask again."""
        if execution_id in self._inside:
            return True
        if self._most and len(self._inside) >= self._most:
            self._waiting[execution_id] = None
            return False
        self._inside.add(execution_id)
        return True

    def leave(self, execution_id: str) -> List[str]:
        """It is over, or will not run: which ones are in instead."""
        self._inside.discard(execution_id)
        self._waiting.pop(execution_id, None)
        entered: List[str] = []
        while self._waiting and len(self._inside) < self._most:
            entered.append(next(iter(self._waiting)))
            del self._waiting[entered[-1]]
            self._inside.add(entered[-1])
        return entered
