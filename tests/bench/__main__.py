"""Runs the benchmarks, prints a table, and writes bench.json: a list with one entry for each figure."""

import json
import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.services import ROOT

from . import (  # noqa: F401 - register their benchmarks
    bridge,
    chaos,
    databases,
    firing,
    footprint,
    lists,
    pages,
    precision,
    scheduling,
    store,
)
from .registry import BENCHMARKS, ENDING, Measurement

FILE = ROOT / "bench.json"


def machine() -> dict[str, Any]:
    """The facts without which a figure says nothing."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def entry(measurement: Measurement, at: datetime, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": measurement.name,
        "value": measurement.value,
        "unit": measurement.unit,
        "better": measurement.better,
        "yardstick": measurement.yardstick,
        "ratio": round(measurement.ratio, 4),
        "at": at.isoformat(timespec="seconds"),
        "against": measurement.against,
        "machine": facts,
    }


def write(path: Path, new: list[dict[str, Any]]) -> None:
    """Put the new figures in the place of those of the same names; the others stay."""
    old = json.loads(path.read_text()) if path.exists() else []
    names = {one["name"] for one in new}
    kept = [one for one in old if one["name"] not in names]
    path.write_text(json.dumps(sorted(kept + new, key=lambda one: one["name"]), indent=2) + "\n")


def show(console: Console, measurements: Iterable[Measurement]) -> None:
    table = Table("figure", "value", "yardstick", "ratio", "better", "compared with")
    for one in measurements:
        row = (f"{one.value:g} {one.unit}", f"{one.yardstick:g} {one.unit}", f"{one.ratio:.3f}", one.better)
        table.add_row(one.name, *row, one.against)
    console.print(table)


def main(arguments: list[str]) -> int:
    only = [argument.removeprefix("ONLY=") for argument in arguments]
    unknown = [name for name in only if name not in BENCHMARKS]
    console = Console()
    if unknown:
        console.print(f"there is no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
        return 2
    measurements: list[Measurement] = []
    facts = machine()
    with ENDING:
        for name in only or BENCHMARKS:
            console.print(f"{name}: {(BENCHMARKS[name].__doc__ or '').splitlines()[0]}")
            for measurement in BENCHMARKS[name]():
                measurements.append(measurement)
                # After each: what the next one breaks does not take it along.
                write(FILE, [entry(measurement, datetime.now(UTC), facts)])
    show(console, measurements)
    console.print(f"written to {FILE.name}; {facts['cores']} cores, {facts['cpu']}, Python {facts['python']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
