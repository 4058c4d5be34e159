"""Benchmark of lists: every list and filter, API and console, of a big installation (PRD P5: below 500 ms)."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests import services
from tests.services import ROOT

from .registry import Measurement, benchmark
from .scheduling import environment

LIMIT = 500.0  # ms
SIZES = {"tasks": "10000", "clients": "10000"}
EXECUTIONS = {"postgresql": "10000000", "sqlite": "1000000"}


def run_lists(database: str) -> dict[str, Any]:
    """What list_pages prints. BENCH_LIST_EXECUTIONS scales it; BENCH_LIST_ONLY names some pages."""
    with tempfile.TemporaryDirectory(prefix="quartzflow-bench-") as text, ExitStack() as ending:
        directory = Path(text)
        (directory / "static").mkdir()  # whitenoise warns where there is none
        ending.enter_context(services.redis_server(directory))
        env = environment(directory) | {f"BENCH_LIST_{name.upper()}": value for name, value in SIZES.items()}
        env["BENCH_LIST_EXECUTIONS"] = os.environ.get("BENCH_LIST_EXECUTIONS", EXECUTIONS[database])
        if database == "postgresql":
            env["DATABASE_URL"] = ending.enter_context(services.postgres_cluster())
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.list_pages"],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=3600,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measurements(database: str) -> Iterator[Measurement]:
    found = run_lists(database)
    pages = sorted(found["pages"], key=lambda page: page["p95"], reverse=True)
    for page in pages[:10]:
        sys.stdout.write(
            f"  {page['p95']:8.1f} ms  {page['name']}  (p50 {page['p50']} ms, Python {page['cpu']} ms,"
            f" {page['queries']} queries)\n"
        )
    size = f"{int(os.environ.get('BENCH_LIST_EXECUTIONS', EXECUTIONS[database])):,} executions, {database}"
    scanned = [page["name"] for page in pages if page["scans"]]
    yield Measurement(
        f"lists_{database}_slowest",
        pages[0]["p95"],
        "ms",
        "lower",
        LIMIT,
        f"p95 of {pages[0]['name']}; {size}",
    )
    yield Measurement(
        f"lists_{database}_scans", len(scanned), "lists", "lower", 1,
        f"of {len(pages)} that read a big table whole: {', '.join(scanned) or 'none'}",
    )  # fmt: skip
    yield Measurement(f"lists_{database}_load", found["load_seconds"], "s", "lower", 600, size)


@benchmark
def lists() -> Iterator[Measurement]:
    """Every list and filter with 10,000 tasks, 10,000 hosts and 10 million executions on PostgreSQL."""
    yield from _measurements("postgresql")


@benchmark
def lists_sqlite() -> Iterator[Measurement]:
    """The same with a million executions on SQLite."""
    yield from _measurements("sqlite")
