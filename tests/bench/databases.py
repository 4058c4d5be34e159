"""Benchmarks of the whole way of a firing, beat to committed result, on each database.

BENCH_BUSY_AGENTS (500) and BENCH_SECONDS (60) scale them; BENCH_RATE (1000) is how many executions a second
are asked for.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil

from tests import services
from tests.services import wait_until

from .bridge import SECONDS, Bench, bench, measure
from .registry import Measurement, benchmark, percentile

AGENTS = int(os.environ.get("BENCH_BUSY_AGENTS", "500"))
RATE = int(os.environ.get("BENCH_RATE", "1000"))
TASKS = max(1, round(RATE / AGENTS))  # each fires every second on all agents
CANCELLED = 6  # the status of an execution

COUNT = """
import collections, json
from executions_app.models import Execution
print(json.dumps(collections.Counter(Execution.objects.values_list("status", flat=True))))
"""


@benchmark
def throughput() -> Iterator[Measurement]:
    """Tasks fire every second on all busy agents: rows, bridge, agents, committed results; on SQLite."""
    with bench(AGENTS, processes=1) as one:
        yield from measurements("throughput", one, None)


@benchmark
def throughput_postgresql() -> Iterator[Measurement]:
    """The same on PostgreSQL, which writes through to the disk."""
    with services.postgres_cluster(fsync="on") as url, bench(AGENTS, processes=1, DATABASE_URL=url) as one:
        yield from measurements("throughput_postgresql", one, _postgres)


def _postgres() -> float:
    """Seconds of CPU of PostgreSQL's processes, which are children of this one; of those that have ended, too."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.name() == "postgres":
                total += sum(child.cpu_times()[:4])  # with its children's that it has waited for
    return total


def measurements(name: str, one: Bench, database: Callable[[], float] | None) -> Iterator[Measurement]:
    """What goes through, and the CPU time that each process takes for it.

    1. Ask for RATE executions a second, and count what is committed within SECONDS.
    2. Stop, wait for what is on its way, and compare: nothing is lost, nothing runs twice.

    database: the CPU time of its processes so far, in seconds
    """
    with one.stack.api() as api:
        tasks = [services.shell_task(api, f"load-{n}", "* * * * * *", "true") for n in range(TASKS)]
        wait_until(lambda: one.agents.stats().acknowledged >= one.count, 30, "the first results")
        programs = {**one.stack.programs(), "agents": psutil.Process(one.agents.pids[0])}
        spent = database() if database else 0.0
        used = {program: sum(process.cpu_times()[:2]) for program, process in programs.items()}
        before, start = one.agents.stats(), time.monotonic()
        time.sleep(SECONDS)
        after, seconds = one.agents.stats(), time.monotonic() - start
        cpu: dict[str, float] = {}
        for program, process in programs.items():
            kind = program.partition("-")[0]
            cpu[kind] = cpu.get(kind, 0.0) + sum(process.cpu_times()[:2]) - used[program]
        if database:
            cpu["postgres"] = database() - spent
        for task in tasks:
            api.post(f"/tasks/{task}/disable")
        wait_until(lambda: not one.agents.stats().unacknowledged, 60, "the last acknowledgements")
        time.sleep(3)
        end = one.agents.stats()
    by_status = json.loads(one.stack.manage("shell", "--verbosity=0", "-c", COUNT).splitlines()[-1])
    total, done = sum(by_status.values()), {str(services.SUCCESS), str(CANCELLED)}
    # The last firings are cancelled with the tasks' disabling.
    assert end.instructions - end.duplicates == end.executed == end.acknowledged, end.summary()
    assert end.executed <= total and by_status.keys() <= done, (by_status, end.summary())
    committed = after.acknowledged - before.acknowledged
    wanted = TASKS * one.count
    yield measure(name, committed / seconds, "executions/s", wanted, f"{wanted}/s asked for", "higher")
    ack_ms = percentile(after.ack_ms[len(before.ack_ms) :], 99)
    yield measure(f"{name}_commit_p99", ack_ms, "ms", 1000, "a result is acknowledged within 1 s")
    for program, seconds in sorted(cpu.items()):
        per_thousand = seconds / max(committed, 1) * 1000
        yield measure(
            f"{name}_cpu_{program}", per_thousand, "s per 1,000", 1, "a core for 1,000 executions/s"
        )
