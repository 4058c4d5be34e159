"""Benchmarks of a whole agent: what it takes while it has nothing to do, and a burst of short processes.

BENCH_IDLE (20) is how many seconds it is watched.
"""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from quartzflow_agent.config import AgentConfig, Endpoint, save, write_secret
from quartzflow_agent.paths import Home
from quartzflow_agent.protocol import task_pb2

from tests.agent.fake_server import FakeServer, make_certificates, running
from tests.agent.support import task_config

from .registry import Measurement, benchmark

IDLE = float(os.environ.get("BENCH_IDLE", "20"))  # seconds
STARTS = 5
PROCESSES = 500
PATIENCE = 60.0  # seconds
TASKS = 50  # cached by the idle agent


@benchmark
def agent_idle() -> Iterator[Measurement]:
    """An agent that is connected, has tasks, and nothing to do; and how long one takes to start."""
    with tempfile.TemporaryDirectory(prefix="quartzflow-bench-") as directory:
        starts, memory, cpu = asyncio.run(_idle(Path(directory)))
    start = round(statistics.median(starts), 3)
    yield Measurement("agent_start", start, "s", "lower", 1, "1 s until it is ready, the median of five")
    yield Measurement("agent_idle_memory", round(memory, 1), "MB", "lower", 60, "60 MB of resident memory")
    yield Measurement("agent_idle_cpu", round(cpu, 3), "% of a core", "lower", 0.5, "0.5 % of a core")


@benchmark
def agent_burst() -> Iterator[Measurement]:
    """500 short shell tasks at once on one agent."""
    with tempfile.TemporaryDirectory(prefix="quartzflow-bench-") as directory:
        good, seconds = asyncio.run(_burst(Path(directory)))
    against = "every one of 500 processes ran, and its own output came back"
    yield Measurement("agent_burst_good", good, "executions", "higher", PROCESSES, against)
    yield Measurement("agent_burst_time", round(seconds, 2), "s", "lower", PATIENCE, f"{PATIENCE:.0f} s")


class _Started:
    """An agent's process, from its start on."""

    def __init__(self, home: Home, ready: socket.socket) -> None:
        self._ready = ready
        env = {**os.environ, "QUICFLOW_HOME": str(home.root), "NOTIFY_SOCKET": ready.getsockname()}
        self._began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from quartzflow_agent.cli import main; main()", "agent", "run"],
            env=env,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def ready(self) -> float:
        """Seconds until it says so."""
        said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._ready, 100), PATIENCE)
        assert said == b"READY=1", said
        return time.monotonic() - self._began

    async def stop(self) -> None:
        self.process.terminate()
        said = await asyncio.get_running_loop().sock_recv(self._ready, 100)
        assert said == b"STOPPING=1", said
        assert await asyncio.to_thread(self.process.wait, PATIENCE) == 0


@asynccontextmanager
async def _place(directory: Path) -> AsyncIterator[tuple[FakeServer, Home, socket.socket]]:
    """A server, a home that has joined it, and a socket in the place of systemd's."""
    home = Home(directory / "quicflow")
    home.create()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(directory / "notify"))
        ready.setblocking(False)
        async with running(FakeServer(make_certificates(directory))) as server:
            server.config_version = 1
            server.tasks = [
                task_config(str(number), cron_expr="0 0 1 1 *", version=1) for number in range(TASKS)
            ]
            authority = server.certificates.authority
            save(home, AgentConfig([Endpoint.parse(server.address)], "bench", ca_file=authority))
            write_secret(home.credential, "secret")
            yield server, home, ready


async def _until_connected(server: FakeServer) -> None:
    async with asyncio.timeout(PATIENCE):
        while not server.peers:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _idle(directory: Path) -> tuple[list[float], float, float]:
    """Seconds of each start; MB (of a million bytes); percents of a core."""
    async with _place(directory) as (server, home, ready):
        starts = []
        for _ in range(STARTS - 1):
            agent = _Started(home, ready)
            starts.append(await agent.ready())
            await agent.stop()
        agent = _Started(home, ready)
        starts.append(await agent.ready())
        await _until_connected(server)
        await asyncio.sleep(5)  # its views are written
        process = psutil.Process(agent.process.pid)
        before, began = process.cpu_times(), time.monotonic()
        await asyncio.sleep(IDLE)
        after, memory = process.cpu_times(), process.memory_info().rss
        used = max(after.user + after.system - before.user - before.system, 0.0)  # in steps of a clock tick
        cpu = used / (time.monotonic() - began) * 100
        await agent.stop()
        return starts, memory / 1e6, cpu


async def _burst(directory: Path) -> tuple[int, float]:
    """How many ended well with their own output, and the seconds until the last was reported."""
    async with _place(directory) as (server, home, ready):
        agent = _Started(home, ready)
        await agent.ready()
        await _until_connected(server)
        began = time.monotonic()
        server.peers[0].execute(*(_short(number) for number in range(PROCESSES)))
        async with asyncio.timeout(PATIENCE):
            while len(server.ended) < PROCESSES:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        seconds = time.monotonic() - began
        await agent.stop()
        wanted = {f"exec_{number}": f"{number}\n" for number in range(PROCESSES)}
        reported = [*server.results, *(record for sync in server.syncs for record in sync.records)]
        good = {
            result.execution_id
            for result in reported
            if result.status == task_pb2.SUCCESS and result.output == wanted[result.execution_id]
        }
        return len(good), seconds


def _short(number: int) -> task_pb2.TaskExecution:
    return task_pb2.TaskExecution(
        execution_id=f"exec_{number}",
        task_id=f"burst{number}",
        task_name="burst",
        executor_type=task_pb2.SHELL,
        executor_config={"command": f"echo {number}; sleep 1"},
        scheduled_time=round(time.time() * 1000),
        timeout=int(PATIENCE),
    )
