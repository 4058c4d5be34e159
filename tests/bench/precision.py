"""How close to its time a firing starts at a real agent, idle and beside a loaded server.

BENCH_FIRINGS (100) is how many firings are measured, BENCH_LOAD (500) how many others run each second meanwhile.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from tests import services
from tests.services import Stack, wait_until

from .bridge import LIMITS, measure, simulated
from .registry import Measurement, benchmark, percentile

FIRINGS = int(os.environ.get("BENCH_FIRINGS", "100"))
LOAD = int(os.environ.get("BENCH_LOAD", "500"))
SETTLE = 3  # seconds from the making of a task to the first firing that is measured


@benchmark
def precision() -> Iterator[Measurement]:
    """Firings at a real agent, a second apart: start minus scheduled time, idle and beside 500 others a second."""
    with (
        tempfile.TemporaryDirectory(prefix="quartzflow-bench-") as directory,
        services.running_stack(Path(directory), QF_LOG_LEVEL="WARNING", QF_BRIDGE_LIMITS=LIMITS) as stack,
        stack.api() as api,
    ):
        yield from _figures("idle", _late(api, "idle"), stddev=20, p99=50)
        with _load(stack, api) as running:
            started, before = time.monotonic(), running()
            late = _late(api, "busy")
            rate = (running() - before) / (time.monotonic() - started)
        yield from _figures("busy", late, stddev=500, p99=200)
    yield measure("precision_busy_rate", rate, "firings/s", LOAD, f"{LOAD}/s asked for meanwhile", "higher")


def _figures(name: str, late: list[float], stddev: float, p99: float) -> Iterator[Measurement]:
    """Milliseconds."""
    what = f"of {len(late)} consecutive firings"
    spread = statistics.pstdev(late)
    yield measure(f"precision_{name}_stddev", spread, "ms", stddev, f"standard deviation {what}")
    yield measure(f"precision_{name}_p99", percentile(late, 99), "ms", p99, f"{p99:g} ms, 99 % {what}")


def _late(api: httpx.Client, name: str) -> list[float]:
    """Milliseconds from scheduled time to start, one for each firing. Raises AssertionError where one is missing."""
    task = services.shell_task(api, f"precision-{name}", "* * * * * *", "true")
    time.sleep(SETTLE + FIRINGS + 2)
    api.post(f"/tasks/{task}/disable")
    wait_until(lambda: all(row["status"] > 2 for row in services.executions(api, task)), 30, "the last end")
    rows = sorted(services.executions(api, task), key=lambda row: row["scheduled_time"])[SETTLE:][:FIRINGS]
    assert len(rows) == FIRINGS, f"{len(rows)} of {FIRINGS} firings"
    assert {row["status"] for row in rows} == {services.SUCCESS}, rows
    scheduled = [datetime.fromisoformat(row["scheduled_time"]) for row in rows]
    assert scheduled == [scheduled[0] + timedelta(seconds=n) for n in range(FIRINGS)], "not one each second"
    starts = [datetime.fromisoformat(row["start_time"]) for row in rows]
    return [(start - time_).total_seconds() * 1000 for start, time_ in zip(starts, scheduled, strict=True)]


@contextmanager
def _load(stack: Stack, api: httpx.Client) -> Iterator[Callable[[], int]]:
    """LOAD simulated agents that each run one task every second; yields how many executions they have made."""
    answer = api.post("/groups", json={"name": "load"})
    assert answer.status_code == 201, answer.text
    with simulated(stack, "load", LOAD, 1) as agents:
        services.shell_task(api, "load", "* * * * * *", "true", group="load")
        wait_until(lambda: agents.stats().executed >= LOAD, 30, "the load")
        yield lambda: agents.stats().executed
