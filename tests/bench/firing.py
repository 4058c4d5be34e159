"""Benchmarks of firing tasks, on the whole product."""

import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tests import services
from tests.services import wait_until

from .registry import Measurement, benchmark, percentile

FIRINGS = 60
PROMISED = 200.0  # milliseconds
AGAINST = "a start within 200 ms of the scheduled time"


@benchmark
def lateness() -> Iterator[Measurement]:
    """60 firings of one task, a second apart, end to end: scheduled time to the start on the agent."""
    with tempfile.TemporaryDirectory(prefix="quartzflow-bench-") as directory:
        late = list(_lateness(Path(directory)))
    for name, value in (
        ("lateness_p50", percentile(late, 50)),
        ("lateness_p95", percentile(late, 95)),
        ("lateness_max", max(late)),
    ):
        yield Measurement(name, round(value, 1), "ms", "lower", PROMISED, AGAINST)


def _lateness(directory: Path) -> Iterator[float]:
    """Milliseconds, one for each firing. Raises AssertionError where one did not run."""
    with services.running_stack(directory) as stack, stack.api() as api:
        task = services.shell_task(api, "lateness", "* * * * * *", "true")
        time.sleep(FIRINGS + 3)
        api.post(f"/tasks/{task}/disable")
        wait_until(
            lambda: all(row["status"] > 2 for row in services.executions(api, task)), 30, "the last end"
        )
        rows = sorted(services.executions(api, task), key=lambda row: row["scheduled_time"])[:FIRINGS]
        assert len(rows) == FIRINGS, f"{len(rows)} of {FIRINGS} firings"
        assert {row["status"] for row in rows} == {services.SUCCESS}, rows
    for row in rows:
        start, scheduled = (datetime.fromisoformat(row[name]) for name in ("start_time", "scheduled_time"))
        yield (start - scheduled).total_seconds() * 1000
