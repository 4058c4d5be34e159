"""Benchmarks of the scheduler: beside the stock one, with a hundred thousand tasks, and through its own death."""

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from tests import services
from tests.services import ROOT

from .registry import Measurement, benchmark

KILLS = int(os.environ.get("BENCH_KILLS", "20"))
SETTLE = 4.0  # seconds between a take-over and the next kill


def environment(directory: Path) -> dict[str, str]:
    env = services.stack_environment(directory)
    return {
        **env,
        "QF_SECRET_KEY": "for-benchmarks-only-" + "x" * 20,
        "DJANGO_SETTINGS_MODULE": "quartzflow.settings",
    }


def run_beat(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="quartzflow-bench-") as text:
        directory = Path(text)
        with services.redis_server(directory):
            command = [sys.executable, "-m", "tests.bench.beats", name]
            done = subprocess.run(
                command, cwd=ROOT, env=environment(directory), capture_output=True, text=True, timeout=600
            )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@benchmark
def thousand_at_once() -> Iterator[Measurement]:
    """1,000 tasks due at one moment: our scheduler and the stock one, one after the other."""
    ours, stock = run_beat("ours"), run_beat("stock")
    assert ours["sent"] == stock["sent"] == 1000, (ours, stock)
    against = "the stock DatabaseScheduler in the same run"
    for name, key in (("thousand_cpu_per_firing", "cpu"), ("thousand_max_lateness", "late")):
        yield Measurement(
            name, round(ours[key], 3), "ms" if key == "cpu" else "s", "lower", round(stock[key], 3), against
        )


@benchmark
def many_tasks() -> Iterator[Measurement]:
    """100,000 tasks, 50 of them every second, one edited each second."""
    found = run_beat("many")
    yield Measurement(
        "many_tasks_load", round(found["load"], 2), "s", "lower", 15, "100,000 tasks within 15 s"
    )
    yield Measurement(
        "many_tasks_max_lateness", round(found["late"], 3), "s", "lower", 1, "no firing later than 1 s"
    )
    yield Measurement(
        "many_tasks_edit_to_effect", round(found["effect"], 3), "s", "lower", 1, "an edit within 1 s"
    )
    yield Measurement("many_tasks_cpu", round(found["cpu_percent"], 1), "%", "lower", 100, "one core")


@benchmark
def failover() -> Iterator[Measurement]:
    """The leading scheduler is killed again and again: the longest gap, and what was lost."""
    with tempfile.TemporaryDirectory(prefix="quartzflow-bench-") as text, ExitStack() as ending:
        directory = Path(text)
        ending.enter_context(services.redis_server(directory))
        gaps, lost = _kill_leaders(directory, ending)
    yield Measurement(
        "failover_longest_gap", round(max(gaps), 2), "s", "lower", 10, f"{KILLS} kills -9 of the leader"
    )
    yield Measurement("failover_lost_firings", lost, "firings", "lower", 1, "none of them")


def _kill_leaders(directory: Path, ending: ExitStack) -> tuple[list[float], int]:
    """The gaps between two messages around each kill, and how many seconds never came."""
    env = environment(directory)
    setup = (
        "import django; django.setup()\n"
        "from django.core.management import call_command; call_command('migrate', verbosity=0)\n"
        "from tests import people; print(people.task('t', cron_expr='* * * * * *').pk)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", setup], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    command = [sys.executable, "-m", "celery", "-A", "quartzflow", "beat", "--pidfile=", "-l", "WARNING"]
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        running.append(
            subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )

    def end() -> None:
        for process in running:
            process.kill()
            process.wait(10)

    ending.callback(end)
    start()
    start()
    seconds: dict[int, float] = {}  # nominal second → when its message first came
    with redis.Redis(unix_socket_path=str(directory / "redis.sock")) as broker:
        _listen(broker, seconds, until=lambda: len(seconds) > 3, limit=60)
        gaps = []
        for _kill in range(KILLS):
            leader = next(p for p in running if p.pid == _leader(directory))
            last = max(seconds.values())
            leader.send_signal(signal.SIGKILL)
            leader.wait(10)
            running.remove(leader)
            before = len(seconds)
            _listen(broker, seconds, until=lambda before=before: len(seconds) > before, limit=30)
            gaps.append(max(seconds.values()) - last)
            start()
            settled = time.monotonic() + SETTLE
            _listen(broker, seconds, until=lambda settled=settled: time.monotonic() > settled, limit=30)
    return gaps, len(set(range(min(seconds), max(seconds) + 1)) - seconds.keys())


def _leader(directory: Path) -> int:
    with sqlite3.connect(f"file:{directory / 'db.sqlite3'}?mode=ro", uri=True) as database:
        (holder,) = database.execute("SELECT holder FROM tb_lease WHERE name = 'scheduler'").fetchone()
    return int(holder.split(":")[1])


def _listen(broker: "redis.Redis", seconds: dict[int, float], until: Any, limit: float) -> None:
    """Take messages from the queue until the condition holds."""
    deadline = time.monotonic() + limit
    while not until():
        assert time.monotonic() < deadline, f"no firing for {limit} s"
        found = broker.brpop(["qf.celery"], timeout=0.2)
        if found is not None:
            for second in _firings(found[1]):
                seconds.setdefault(second, time.time())


def _firings(raw: bytes) -> list[int]:
    message = json.loads(raw)
    if message["headers"]["task"] != "executions_app.tasks.fire_batch":
        return []
    (firings, _token), *_ = json.loads(base64.b64decode(message["body"]))
    return [second for _task, second in firings]
