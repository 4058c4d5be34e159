"""Benchmarks of the whole way of a firing, beat to committed result, on each database.

BENCH_BUSY_AGENTS (500) and BENCH_SECONDS (60) scale them; BENCH_RATE (1000) is how many executions a second
are asked for.
"""

import os
import time
from collections.abc import Callable, Iterator

import httpx
import psutil

from tests import services
from tests.services import wait_until

from .bridge import SECONDS, Bench, bench, measure
from .registry import Measurement, benchmark, percentile

AGENTS = int(os.environ.get("BENCH_BUSY_AGENTS", "500"))
RATE = int(os.environ.get("BENCH_RATE", "1000"))
TASKS = max(1, round(RATE / AGENTS))  # each fires every second on all agents
CANCELLED = 6  # the status of an execution


@benchmark
def throughput() -> Iterator[Measurement]:
    """Tasks fire every second on all busy agents: rows, bridge, agents, committed results; on SQLite."""
    with bench(AGENTS, processes=1) as one:
        yield from measurements("throughput", one, dict)


@benchmark
def throughput_postgresql() -> Iterator[Measurement]:
    """The same on PostgreSQL, which writes through to the disk."""
    with services.postgres_cluster(fsync="on") as url, bench(AGENTS, processes=1, DATABASE_URL=url) as one:
        yield from measurements("throughput_postgresql", one, _postgres)


def _postgres() -> dict[str, psutil.Process]:
    """PostgreSQL's processes, which are children of this one."""
    children = psutil.Process().children(recursive=True)
    return {f"postgres-{child.pid}": child for child in children if child.name() == "postgres"}


def measurements(
    name: str, one: Bench, database: Callable[[], dict[str, psutil.Process]]
) -> Iterator[Measurement]:
    """What goes through, and the CPU time that each process takes for it.

    1. Ask for RATE executions a second, and count what is committed within SECONDS.
    2. Stop, wait for what is on its way, and compare: nothing is lost, nothing runs twice.

    database: its processes at the moment, by names that begin with the database's
    """
    with one.stack.api() as api:
        tasks = [services.shell_task(api, f"load-{n}", "* * * * * *", "true") for n in range(TASKS)]
        wait_until(lambda: one.agents.stats().acknowledged >= one.count, 30, "the first results")
        programs = {**one.stack.programs(), "agents": psutil.Process(one.agents.pids[0]), **database()}
        used = {program: sum(process.cpu_times()[:2]) for program, process in programs.items()}
        before, start = one.agents.stats(), time.monotonic()
        time.sleep(SECONDS)
        after, seconds = one.agents.stats(), time.monotonic() - start
        cpu: dict[str, float] = {}
        for program, process in programs.items():
            kind = program.partition("-")[0]
            cpu[kind] = cpu.get(kind, 0.0) + sum(process.cpu_times()[:2]) - used[program]
        for task in tasks:
            api.post(f"/tasks/{task}/disable")
        wait_until(lambda: not one.agents.stats().unacknowledged, 60, "the last acknowledgements")
        time.sleep(3)
        end = one.agents.stats()
        total, succeeded, cancelled = (
            sum(count(api, task, status) for task in tasks) for status in ("", services.SUCCESS, CANCELLED)
        )
    # The last firings are cancelled with the tasks' disabling.
    assert end.instructions - end.duplicates == end.executed == end.acknowledged, end.summary()
    assert end.executed <= total == succeeded + cancelled, (total, succeeded, cancelled, end.summary())
    committed = after.acknowledged - before.acknowledged
    wanted = TASKS * one.count
    yield measure(name, committed / seconds, "executions/s", wanted, f"{wanted}/s asked for", "higher")
    ack_ms = percentile(after.ack_ms[len(before.ack_ms) :], 99)
    yield measure(f"{name}_commit_p99", ack_ms, "ms", 1000, "a result is acknowledged within 1 s")
    for program, spent in sorted(cpu.items()):
        per_thousand = spent / max(committed, 1) * 1000
        yield measure(
            f"{name}_cpu_{program}", per_thousand, "s per 1,000", 1, "a core for 1,000 executions/s"
        )


def count(api: httpx.Client, task: int, status: int | str) -> int:
    """How many executions of a task have this status; "": any."""
    query = {"task_id": task, "page_size": 1} | ({"status": status} if status else {})
    total: int = api.get("/executions", params=query).json()["data"]["total"]
    return total
