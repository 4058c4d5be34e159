"""Real beat processes on the database and the broker of the test, to be paused, killed and started again."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from executions_app.models import Execution
from executions_app.tasks import fire_batch
from quartzflow.models import Lease
from tests import settings
from tests.services import ROOT, wait_until

PATIENCE = 30.0  # seconds; R1 promises that scheduling is back by then
FIRE_BATCH = "executions_app.tasks.fire_batch"


class Beats:
    """Beat processes, and what they send."""

    def __init__(self, broker: redis.Redis, logs: Path) -> None:
        self._broker = broker
        self._logs = logs
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("QF_", "DJANGO_"))},
            "QF_DATA_DIR": str(settings.DIRECTORY),
            "QF_SECRET_KEY": settings.SECRET_KEY,
            "DATABASE_URL": f"sqlite:///{settings.DATABASES['default']['TEST']['NAME']}",
        }
        self.sent: list[tuple[int, int, int]] = []  # (task id, nominal second, fencing token), as they came

    def start(self) -> int:
        """Start one; returns its process id."""
        command = [sys.executable, "-m", "celery", "-A", "quartzflow", "beat", "--pidfile=", "-l", "INFO"]
        with (self._logs / f"beat-{len(self._running)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._running[process.pid] = process
        return process.pid

    def log_of(self, pid: int) -> str:
        """What a process has logged so far."""
        return (self._logs / f"beat-{list(self._running).index(pid)}.log").read_text()

    def send(self, pid: int, number: int) -> None:
        self._running[pid].send_signal(number)

    def stop(self, pid: int, number: int = signal.SIGTERM) -> None:
        """End one, and wait for its end."""
        self.send(pid, number)
        self._running[pid].wait(PATIENCE)

    def close(self) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.kill()
                process.wait(PATIENCE)

    def leader(self) -> int:
        """The process that holds the lease."""
        return int(Lease.objects.get(name="scheduler").holder.split(":")[1])

    def token(self) -> int:
        return Lease.objects.get(name="scheduler").token

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Make executions of what is sent, until the condition holds."""

        def holds() -> bool:
            self._take()
            return bool(condition())

        wait_until(holds, PATIENCE, lambda: f"{what}; sent: {self.sent[-20:]}; {self._all_logs()}")

    def until_fired(self, task_id: int, second: float) -> None:
        """Until a firing for a time that is not earlier was sent."""
        self.until(
            lambda: any(t == task_id and at >= second for t, at, _ in self.sent), f"firing at {second}"
        )

    def _take(self) -> None:
        while (raw := self._broker.rpop("qf.celery")) is not None:
            message = json.loads(raw)
            if message["headers"]["task"] == FIRE_BATCH:
                firings, token = json.loads(base64.b64decode(message["body"]))[0]
                self.sent += [(task_id, second, token) for task_id, second in firings]
                fire_batch([tuple(firing) for firing in firings], token)

    def _all_logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self._logs.glob("beat-*.log")))

    def seconds(self, task_id: int) -> list[int]:
        """The times for which executions exist, in order; one that is there twice is twice in it."""
        rows = Execution.objects.filter(task_id=task_id).order_by("scheduled_time")
        return [int(moment.timestamp()) for moment in rows.values_list("scheduled_time", flat=True)]


@contextmanager
def beats(broker_url: str, logs: Path) -> Iterator[Beats]:
    """None of the processes outlives the block."""
    with redis.Redis.from_url(broker_url) as broker:
        made = Beats(broker, logs)
        try:
            yield made
        finally:
            made.close()
