"""Counts of what all processes do, kept in Redis, so that any web process can show them all to Prometheus.

Whoever counts only adds to a dictionary; a thread of its own writes at most once a second. A Redis that is away costs
the counts of that time: they are for graphs, never for decisions.
"""

import json
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import redis
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

COUNTS_KEY = "qf:metrics"
PROCESSES_KEY = "qf:processes"
PAUSE = 1.0  # seconds between two writes of a process
FRESH = 30.0  # seconds after which a process that no longer reports is left out

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
COUNTERS = {
    "firings": "Firings that the scheduler sent",
    "firings_made_up": "Missed firings that were made up for",
    "firings_given_up": "Tasks whose missed firings were not made up for",
    "firings_skipped": "Firings that a calendar did not allow",
    "executions_created": "Executions that were made of firings",
    "executions_ended": "Ends that agents reported, by status",
}
# name → (help, upper bounds)
HISTOGRAMS = {
    "start_lateness_seconds": ("From a firing's time to its start on the host", SECONDS),
    "firing_batch": ("Firings that the scheduler sent in one step", (1, 10, 100, 500, 1000, 5000, 10_000)),
    "schedule_reload_seconds": ("Following changes of tasks in the scheduler", SECONDS),
    "dispatch_seconds": ("From a message with firings to their committed rows", SECONDS),
}


class Metrics:
    """Collects counts of this process and writes them. Thread-safe; never raises."""

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._counts: dict[str, float] = {}
        self._processes: dict[str, str] = {}
        self._timer: threading.Timer | None = None
        self._failed = False

    def count(self, name: str, value: float = 1, label: str = "") -> None:
        """Add to a counter of COUNTERS; `label`: the value of its one label, if it has one."""
        if value:
            self._add({f"{name}|{label}": value})

    def observe(self, name: str, values: list[float]) -> None:
        """Add values to a histogram of HISTOGRAMS."""
        if not values:
            return
        bounds = HISTOGRAMS[name][1]
        added: dict[str, float] = {f"{name}|sum": sum(values)}
        for value in values:
            place = bisect_left(bounds, value)
            key = f"{name}|{bounds[place] if place < len(bounds) else '+Inf'}"
            added[key] = added.get(key, 0) + 1
        self._add(added)

    def report(self, process: str, facts: Mapping[str, Any]) -> None:
        """How a process stands now; JSON values. What it said before is forgotten."""
        with self._lock:
            self._processes[process] = json.dumps({**facts, "at": time.time()})
            self._schedule()

    def _add(self, added: Mapping[str, float]) -> None:
        with self._lock:
            for key, value in added.items():
                self._counts[key] = self._counts.get(key, 0) + value
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(self._pause, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def flush(self) -> None:
        """Write what has been collected, now."""
        with self._lock:
            counts, self._counts = self._counts, {}
            processes, self._processes = self._processes, {}
            self._timer = None
        try:
            with connect() as client, client.pipeline(transaction=False) as pipeline:
                for key, value in counts.items():
                    pipeline.hincrbyfloat(COUNTS_KEY, key, value)
                if processes:
                    pipeline.hset(PROCESSES_KEY, mapping=processes)
                pipeline.execute()
            self._failed = False
        except (redis.RedisError, OSError) as error:
            if not self._failed:  # once, not every second
                log.warning("metrics not written", error=str(error))
            self._failed = True


metrics = Metrics()


def connect() -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(
        settings.ENV.redis_url, socket_timeout=1, socket_connect_timeout=1, decode_responses=True
    )
    return client


def read_counts() -> dict[str, float]:
    """All counts, as `name|label` or `name|bound`. Raises redis.RedisError."""
    with connect() as client:
        return {key: float(value) for key, value in client.hgetall(COUNTS_KEY).items()}


def read_processes() -> dict[str, dict[str, Any]]:
    """The processes that reported lately, with what they said. Raises redis.RedisError."""
    now = time.time()
    found: dict[str, dict[str, Any]] = {}
    with connect() as client:
        for name, text in client.hgetall(PROCESSES_KEY).items():
            facts = json.loads(text)
            if now - facts["at"] <= FRESH:
                found[name] = facts
            elif now - facts["at"] > 100 * FRESH:
                client.hdel(PROCESSES_KEY, name)
    return found


def histogram(counts: Mapping[str, float], name: str) -> tuple[list[tuple[str, float]], float]:
    """(upper bound, how many up to it) of each bucket, and the sum of all values."""
    total = 0.0
    buckets = []
    for bound in (*HISTOGRAMS[name][1], "+Inf"):
        total += counts.get(f"{name}|{bound}", 0)
        buckets.append((str(bound), total))
    return buckets, counts.get(f"{name}|sum", 0.0)


def quantile(counts: Mapping[str, float], name: str, part: float) -> float | None:
    """The upper bound of the bucket that holds this part (0.99) of the values; None without any."""
    buckets, _ = histogram(counts, name)
    total = buckets[-1][1]
    if not total:
        return None
    bound = next(bound for bound, count in buckets if count >= part * total)
    return None if bound == "+Inf" else float(bound)
