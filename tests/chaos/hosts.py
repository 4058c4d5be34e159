"""A host: an agent's home, and its process, which may be killed at any time."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from quartzflow_agent.config import AgentConfig, Endpoint, save, write_secret
from quartzflow_agent.paths import Home

from tests.services import ROOT

LEDGER = "ledger"  # in the home: a line for each start of a task's command
# What tasks write there, before anything else.
ENTRY = f'echo "$QF_EXECUTION_ID $QF_ATTEMPT" >> "$QF_AGENT_HOME/{LEDGER}"'
STARTS = 5.0  # seconds until a started agent has taken up its work, on a machine that has other things to do
GRACE = 1.0  # seconds; what it fires may not be written down yet


@dataclass(frozen=True)
class Record:
    """An execution as the agent has it."""

    execution_id: str
    task_id: int
    attempt: int
    status: int
    scheduled_at: int  # ms
    finished_at: int | None  # ms
    exit_code: int | None
    failure_reason: str
    synced: bool


class Host:
    """One host. The agent joins when it first starts."""

    def __init__(self, directory: Path, client_id: str, port: int, ca: Path, token: str) -> None:
        self.client_id = client_id
        self.home = Home(directory / client_id)
        self.home.create()
        save(self.home, AgentConfig([Endpoint("127.0.0.1", port)], client_id, ca_file=ca))
        write_secret(self.home.enrollment_token, token)
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths: list[tuple[float, float]] = []  # from a kill to the next start (Unix seconds)
        self.log = directory / f"{client_id}.log"

    def start(self) -> None:
        """Start the agent; no more than that."""
        assert self.process is None
        if self.deaths:
            self.deaths[-1] = (self.deaths[-1][0], time.time() + STARTS)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from quartzflow_agent.cli import main; main()", "agent", "run"],
                cwd=ROOT,
                env={**os.environ, "QUICFLOW_HOME": str(self.home.root)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def kill(self) -> None:
        """As if the power were gone, but for what it has started: that goes on."""
        self.end(signal.SIGKILL)
        self.deaths.append((time.time(), float("inf")))

    def stop(self) -> None:
        """In good order. Raises AssertionError when it is not."""
        assert self.end(signal.SIGTERM) == 0, self.log.read_text()[-3000:]

    def end(self, number: int) -> int:
        assert self.process is not None, f"{self.client_id} does not run"
        assert self.process.poll() is None, f"{self.client_id} has died: {self.log.read_text()[-3000:]}"
        self.process.send_signal(number)
        code, self.process = self.process.wait(30), None
        return code

    def was_dead(self, moment: float) -> bool:
        return any(start - GRACE <= moment <= end for start, end in self.deaths)

    @property
    def joined(self) -> bool:
        return self.home.credential.exists()

    def records(self) -> dict[str, Record]:
        """What the agent's store says, the file itself."""
        columns = (
            "execution_id, CAST(task_id AS INTEGER), attempt, status, scheduled_at, finished_at, exit_code,"
            " failure_reason, synced"
        )
        with closing(sqlite3.connect(self.home.store)) as db:
            rows = db.execute(f"SELECT {columns} FROM executions")
            return {row[0]: Record(*row) for row in rows}

    def unfinished(self) -> str:
        """What it still has to run or to tell the server; "" when there is nothing."""
        with closing(sqlite3.connect(self.home.store)) as db:
            found = [
                db.execute(query).fetchone()[0]
                for query in (
                    "SELECT count(*) FROM executions WHERE status < 2",
                    "SELECT count(*) FROM results WHERE acknowledged = 0",
                )
            ]
        return "{} open, {} not acknowledged".format(*found) if any(found) else ""

    def ledger(self) -> Counter[str]:
        """How often each attempt has really begun: "EXECUTION ATTEMPT" → count."""
        path = self.home.root / LEDGER
        return Counter(path.read_text().splitlines() if path.exists() else [])
