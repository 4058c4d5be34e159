"""Benchmarks of the bridge, with simulated agents on the same machine.

BENCH_AGENTS (10000) and BENCH_SECONDS (60) scale them.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

from quic_bridge.simulation.options import Options
from quic_bridge.simulation.processes import Simulation
from tests import services
from tests.services import ROOT, Stack, wait_until

from .registry import ENDING, Measurement, benchmark, percentile

AGENTS = int(os.environ.get("BENCH_AGENTS", "10000"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "60"))
RATE = 200.0  # connections a second
PROCESSES = 2
PUSHES = 10
BURSTS = 3
BURST_PATIENCE = 15.0  # seconds, for what may never arrive
STOCK_RATE = 80  # agents a second that aioquic's own server must let in; it is measured with those that are
LIMITS = "handshakes=2000,address_handshakes=2000,address_handshakes_burst=5000"

# One instruction for each agent, which waits there for an hour: what comes back is the acknowledgement alone.
BURST = """
import time
from quartzflow_agent.protocol import messages, task_pb2
from groups_app.models import Bridge, Client
from quartzflow import bridges
later = messages.now_ms() + 3_600_000
items = [
    (name, task_pb2.TaskExecution(execution_id=f"burst-{later}-{name}", scheduled_time=later).SerializeToString())
    for name in Client.objects.filter(status=1).values_list("client_id", flat=True)
]
start = time.time()
bridges.send(Bridge.objects.get().bridge_id, bridges.dispatch(items))
print(start, len(items))
"""


@dataclass
class Bench:
    """A running installation whose host group `default` is full of simulated agents."""

    stack: Stack
    agents: Simulation
    count: int
    metrics_port: int

    def metric(self, name: str) -> float:
        """A sample of the bridge; labels as in the exposition. 0 when there is none."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=30).text
        found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    def all_online(self) -> bool:
        return self.agents.stats().online == self.count


@contextmanager
def bench(count: int, processes: int = PROCESSES, **more: str) -> Iterator[Bench]:
    """All agents are online when the block begins. `more`: further environment variables of the server."""
    with ExitStack() as todo:
        directory = Path(todo.enter_context(tempfile.TemporaryDirectory(prefix="quartzflow-bench-")))
        metrics_port = services.free_port()
        more = {
            "QF_LOCAL_AGENT": "0",
            "QF_LOG_LEVEL": "WARNING",
            "QF_BRIDGE_METRICS_PORT": str(metrics_port),
            "QF_BRIDGE_LIMITS": LIMITS,
            **more,
        }
        stack = todo.enter_context(services.running_stack(directory, **more))
        agents = todo.enter_context(simulated(stack, "default", count, processes))
        found = Bench(stack, agents, count, metrics_port)
        wait_until(lambda: agents.stats().configs >= count, 60, "every agent's first configuration")
        yield found


@contextmanager
def simulated(stack: Stack, group: str, count: int, processes: int) -> Iterator[Simulation]:
    """As many agents in a group, online when the block begins."""
    command = stack.manage("enroll_token", "create", group, "--uses", str(count))
    options = Options(
        endpoints=(("127.0.0.1", stack.quic_port),),
        ca=(stack.data_dir / "pki" / "ca.pem").read_bytes(),
        token=command.split("--token ")[1].split()[0],
        prefix="bench",
        count=count,
        rate=RATE,
    )
    agents = Simulation(options, processes)
    try:
        wait_until(
            lambda: agents.stats().online == count,
            60 + count / 20,
            lambda: f"all online: {agents.stats().summary()}",
        )
        yield agents
    finally:
        agents.close()


@cache
def shared() -> Bench:
    """The large installation, once for all benchmarks that need it."""
    return ENDING.enter_context(bench(AGENTS))


def measure(
    name: str, value: float, unit: str, yardstick: float, against: str, better: str = "lower"
) -> Measurement:
    return Measurement(name, round(value, 3), unit, better, yardstick, against)  # type: ignore[arg-type]


def longest_lag(one: Bench, done: Callable[[], bool], patience: float) -> float:
    """The longest stall of the bridge's loop, in ms, until `done`."""
    lag, until = 0.0, time.monotonic() + patience
    while not done():
        assert time.monotonic() < until, f"not done within {patience} s: {one.agents.stats().summary()}"
        lag = max(lag, one.metric("quartzflow_bridge_loop_lag_seconds"))
        time.sleep(0.5)
    return max(lag, one.metric("quartzflow_bridge_loop_lag_seconds")) * 1000


@benchmark
def bridge_idle() -> Iterator[Measurement]:
    """All agents are registered and send heartbeats: what the bridge takes."""
    one = shared()
    time.sleep(16)  # the lag of the ramp-up leaves the window
    process = one.stack.programs()["bridge"]
    used, until, before = process.cpu_times(), time.monotonic() + SECONDS, one.agents.stats()
    lag = longest_lag(one, lambda: time.monotonic() > until, SECONDS + 60)
    now, after = process.cpu_times(), one.agents.stats()
    cpu = (now.user + now.system - used.user - used.system) / SECONDS * 100
    assert after.online == one.count and after.lost == before.lost, after.summary()
    agents = f"with {one.count} agents"
    yield measure("bridge_idle_cpu", cpu, "% of a core", 40, f"40 % of a core {agents}")
    yield measure("bridge_idle_memory", process.memory_info().rss / 2**20, "MiB", 1200, f"1.2 GB {agents}")
    yield measure("bridge_idle_lag", lag, "ms", 250, f"250 ms {agents}")
    pongs = (after.pongs - before.pongs) / one.count / (SECONDS / 15)
    yield measure("bridge_idle_heartbeats", pongs, "of those due", 1, "every heartbeat answered", "higher")


@benchmark
def bridge_reconnect() -> Iterator[Measurement]:
    """All agents lose their connection at once and come back."""
    one = shared()
    time.sleep(16)
    before, start = one.agents.stats().registrations, time.monotonic()
    used = one.stack.programs()["bridge"].cpu_times()
    one.agents.drop_all()

    def back() -> bool:
        stats = one.agents.stats()
        return stats.online == one.count and stats.registrations >= before + one.count

    lag = longest_lag(one, back, 300)
    seconds = time.monotonic() - start
    now = one.stack.programs()["bridge"].cpu_times()
    cpu = (now.user + now.system - used.user - used.system) / one.count * 1000
    agents = f"with {one.count} agents"
    yield measure("bridge_reconnect_time", seconds, "s", 180, f"3 minutes {agents}")
    yield measure("bridge_reconnect_lag", lag, "ms", 250, f"250 ms {agents}")
    yield measure("bridge_reconnect_cpu", cpu, "ms per agent", 10, f"10 ms {agents}")


@benchmark
def bridge_burst() -> Iterator[Measurement]:
    """One message to each agent, acknowledged, three times; and the same with aioquic's own asyncio server."""
    one = shared()
    times = [_burst(one) for _ in range(BURSTS)]
    agents = f"with {one.count} agents"
    yield measure("bridge_burst_slowest", max(times), "s", 4, f"4 s {agents}")
    online, stock = _stock_bursts(one)
    seconds = max(seconds for _, seconds in stock)
    share = min(acknowledged for acknowledged, _ in stock) / max(online, 1) * 100
    against = f"aioquic's asyncio server: {online} online, {share:.0f} % acknowledged within {seconds:.1f} s"
    yield measure("bridge_burst_beside_stock", max(times), "s", seconds, against)


def _burst(one: Bench) -> float:
    """Seconds until the bridge has all acknowledgements."""
    name = "quartzflow_bridge_instructions_answered_total"
    before = one.metric(name)
    start, count = one.stack.manage("shell", "--verbosity=0", "-c", BURST).split()[-2:]
    wait_until(lambda: one.metric(name) >= before + int(count), 60, "all acknowledgements")
    assert int(count) == one.count
    return time.time() - float(start)


def _stock_bursts(one: Bench) -> tuple[int, list[tuple[int, float]]]:
    """How many of as many agents aioquic's own server gets online, and (acknowledgements, seconds) of each burst."""
    port, pki = services.free_port(), one.stack.data_dir / "pki"
    command = [
        sys.executable,
        "-m",
        "tests.bench.stock",
        str(port),
        str(pki / "server.pem"),
        str(pki / "server.key"),
    ]
    server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin and server.stdout
    options = Options(
        (("127.0.0.1", port),), (pki / "ca.pem").read_bytes(), "t", "stock", count=one.count, rate=RATE
    )
    agents = Simulation(options, PROCESSES)
    try:
        until = time.monotonic() + 60 + one.count / STOCK_RATE
        while (online := agents.stats().online) < one.count and time.monotonic() < until:
            time.sleep(1)
        found = []
        for _ in range(BURSTS):
            server.stdin.write(f"{BURST_PATIENCE}\n")
            server.stdin.flush()
            if not select.select([server.stdout], [], [], 2 * BURST_PATIENCE)[0]:
                found.append((0, 2 * BURST_PATIENCE))  # its loop does not even get to say so
                break
            answer = json.loads(server.stdout.readline())
            found.append((answer["acknowledged"], answer["seconds"]))
        return online, found
    finally:
        agents.close()
        server.kill()
        server.wait()


@benchmark
def config_push() -> Iterator[Measurement]:
    """A task is changed; until every agent of its group has applied it."""
    with bench(100, processes=1) as one:
        few = _pushes(one, PUSHES)
    yield measure("config_push_100_p99", percentile(few, 99) * 1000, "ms", 300, "300 ms with 100 agents")
    one = shared()
    many = _pushes(one, 3)
    agents = f"with {one.count} agents"
    yield measure("config_push_all_p99", percentile(many, 99), "s", 5, f"5 s {agents}")
    yield measure("config_push_all_max", max(many), "s", 5, f"5 s {agents}")


def _pushes(one: Bench, times: int) -> list[float]:
    """Seconds from before the request to the application, for each change and agent."""
    found: list[float] = []
    with one.stack.api() as api:
        task = services.shell_task(api, f"push-{time.time()}", "0 0 1 1 *", "true")
        time.sleep(8)
        for number in range(times):
            start = time.time()
            answer = api.put(f"/tasks/{task}", json={"description": f"change {number}"})
            assert answer.status_code == 200, answer.text

            def applied(start: float = start) -> list[float]:
                return [moment - start for moment in one.agents.applied_at(0) if moment > start]

            wait_until(lambda applied=applied: len(applied()) >= one.count, 60, "all applied")  # type: ignore[misc]
            found += applied()
            time.sleep(1)
    return found
