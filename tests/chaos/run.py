"""One run: the whole product, real agents behind links, tasks that fire, and blows; then the verdict.

`python -m tests.chaos.run HOSTS EXECUTIONS SEED LONGEST_CUT EVERY` runs one by hand and prints what happened.
"""

import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil

from tests import services
from tests.services import Stack, wait_until

from .hosts import ENTRY, Host
from .links import Links
from .plan import Blow, blows
from .verdict import Firings, Verdict, judge

GROUP = "chaos"
LIVE = (1, 2)  # statuses of the API
PER_HOST = 2  # executions of all tasks in `Chaos.every` seconds
JOIN = 60.0  # seconds
LOOKAHEAD = 3.0  # seconds after a change until the scheduler surely fires by it


@dataclass(frozen=True)
class Chaos:
    """What to run."""

    hosts: int
    executions: int  # about so many
    seed: int
    longest_cut: float  # seconds
    every: int  # seconds between two firings of the most frequent task; divides 60
    settle: float = 420.0  # seconds, at most: back-off, the server's patience with silent agents, its sweeps

    @property
    def seconds(self) -> float:
        return self.executions / self.hosts / PER_HOST * self.every


@dataclass
class Outcome:
    """What happened, and what came of it."""

    verdict: Verdict
    blows: Counter[str]
    lost_datagrams: int
    settled: float  # seconds from the last blow until all was over

    def text(self) -> str:
        did = ", ".join(f"{count} × {name}" for name, count in sorted(self.blows.items()))
        return (
            f"{did}; {self.lost_datagrams} datagrams lost; settled after {self.settled:.1f} s\n"
            f"{self.verdict.text()}"
        )


def run(chaos: Chaos, stack: Stack, directory: Path) -> Outcome:
    """In a group of its own. Raises AssertionError when it does not settle; divergences are in the outcome."""
    with stack.api() as api:
        assert api.post("/groups", json={"name": GROUP}).status_code == 201
    with stack.api() as api, _hosts(stack, directory, chaos.hosts) as (hosts, links):
        end = datetime.now(UTC) + timedelta(seconds=chaos.seconds + 1)
        tasks = _tasks(api, chaos.every, end)
        scene = Scene(stack, api, hosts, links, tasks, time.time() + LOOKAHEAD, end.timestamp())
        done = _strike(scene, chaos)
        ended = time.monotonic()
        wait_until(lambda: not _open(api, tasks, hosts), chaos.settle, lambda: _open(api, tasks, hosts))
        settled = time.monotonic() - ended
        rows = [row for task in tasks for row in services.executions(api, task)]
        return Outcome(judge(rows, hosts, scene.firings(chaos)), done, links.lost, settled)


@contextmanager
def _hosts(stack: Stack, directory: Path, count: int) -> Iterator[tuple[list[Host], Links]]:
    """All have joined the group and run when the block begins; they are stopped in good order at its end."""
    links = Links(count, ("127.0.0.1", stack.quic_port))
    command = stack.manage("enroll_token", "create", GROUP, "--uses", str(count))
    token = command.split("--token ")[1].split()[0]
    ca = stack.data_dir / "pki" / "ca.pem"
    homes = directory / "hosts"
    homes.mkdir()
    hosts = [Host(homes, f"host-{n:02}", port, ca, token) for n, port in enumerate(links.ports)]
    try:
        for host in hosts:
            host.start()
        wait_until(lambda: all(host.joined for host in hosts), JOIN, "all hosts' first connection")
        yield hosts, links
        for host in hosts:
            host.stop()
    finally:
        for host in hosts:
            if host.process is not None:
                host.process.kill()
                host.process.wait()
        links.close()


def _tasks(api: httpx.Client, every: int, end: datetime) -> list[int]:
    """Quick ones, long ones, and ones that fail and are tried again, until `end`."""
    commands = {
        "steady": (f"*/{every}", f"{ENTRY}; echo done", {}),
        "long": (f"*/{every * 2}", f"{ENTRY}; sleep {every * 0.7}", {}),
        "failing": (f"*/{every * 2}", f"{ENTRY}; exit 3", {"retry_count": 1, "retry_interval": every}),
    }
    found = []
    (group,) = (group["id"] for group in api.get("/groups").json()["data"] if group["name"] == GROUP)
    for name, (seconds, command, more) in commands.items():
        task = services.shell_task(api, name, "0 0 1 1 *", command)
        change = {"cron_expr": f"{seconds} * * * * *", "end_at": end.isoformat(), "group_ids": [group]}
        answer = api.put(f"/tasks/{task}", json={**change, **more})
        assert answer.status_code == 200, answer.text
        found.append(task)
    return found


@dataclass(frozen=True)
class Scene:
    """What blows fall on."""

    stack: Stack
    api: httpx.Client
    hosts: list[Host]
    links: Links
    tasks: list[int]
    first: float  # Unix seconds; from then on they fire
    last: float
    pauses: list[tuple[float, float]] = field(default_factory=list)

    def firings(self, chaos: Chaos) -> list[Firings]:
        """What was due on each host."""
        steady, *others = self.tasks
        rest = [Firings(task, chaos.every * 2, self.first, self.last, []) for task in others]
        return [Firings(steady, chaos.every, self.first, self.last, self.pauses), *rest]

    def suffer(self, blow: Blow) -> None:
        if blow.what == "cut":
            self.links.cut(blow.host)
        elif blow.what == "mend":
            self.links.mend(blow.host)
        elif blow.what == "kill":
            self.hosts[blow.host].kill()
        elif blow.what == "start":
            self.hosts[blow.host].start()
        elif blow.what == "bridge":
            self._kill_bridge()
        else:
            self._change_task(blow.what)

    def _kill_bridge(self) -> None:
        found: dict[str, psutil.Process] = {}
        wait_until(lambda: found.update(self.stack.programs()) or "bridge" in found, 20, "a bridge")
        found["bridge"].kill()

    def _change_task(self, action: str) -> None:
        """What waits for a task's next time is cancelled when it is disabled, wherever that is."""
        before = time.time()
        answer = self.api.post(f"/tasks/{self.tasks[0]}/{action}")
        assert answer.status_code == 200, answer.text
        if action == "disable":
            self.pauses.append((before, math.inf))
        else:
            self.pauses[-1] = (self.pauses[-1][0], time.time() + LOOKAHEAD)


def _strike(scene: Scene, chaos: Chaos) -> Counter[str]:
    """All blows, each at its time; then the rest of the time."""
    begin, done = time.monotonic(), Counter[str]()
    for blow in blows(chaos.seed, chaos.hosts, chaos.seconds, chaos.longest_cut):
        time.sleep(max(begin + blow.at - time.monotonic(), 0))
        scene.suffer(blow)
        done[blow.what] += 1
    time.sleep(max(begin + chaos.seconds + 1 - time.monotonic(), 0))
    return done


def _open(api: httpx.Client, tasks: list[int], hosts: list[Host]) -> str:
    """What is not over yet; "" when nothing is."""
    left = {host.client_id: host.unfinished() for host in hosts}
    texts = [f"{client_id}: {text}" for client_id, text in left.items() if text]
    for task in tasks:
        for status in LIVE:
            query = {"task_id": task, "status": status, "page_size": 3}
            data = api.get("/executions", params=query).json()["data"]
            if data["total"]:
                names = ", ".join(row["execution_id"] for row in data["items"])
                texts.append(f"{data['total']} of task {task} with status {status} on the server: {names} …")
    return "; ".join(texts)


def main() -> None:
    """Keeps its directory when something is wrong."""
    numbers = [int(text) for text in sys.argv[1:]]
    directory = Path(tempfile.mkdtemp(prefix="quartzflow-chaos-"))
    with services.running_stack(directory, QF_LOCAL_AGENT="0") as stack:
        outcome = run(Chaos(*numbers), stack, directory)
    sys.stdout.write(f"{directory}\n{outcome.text()}\n")
    sys.exit(bool(outcome.verdict.wrong))


if __name__ == "__main__":
    main()
