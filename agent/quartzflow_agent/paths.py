"""Where the agent keeps its files: QUICFLOW_HOME, ~/.quicflow by default."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from quartzflow_agent.files import PRIVATE_DIRECTORY


@dataclass(frozen=True)
class Home:
    """The agent's directory; only its owner may look into it."""

    root: Path

    @classmethod
    def find(cls, given: Optional[Path] = None) -> Home:
        """The directory given, else QUICFLOW_HOME, else ~/.quicflow."""
        return cls((given or Path(os.environ.get("QUICFLOW_HOME") or "~/.quicflow")).expanduser().absolute())

    @property
    def config(self) -> Path:
        """Servers, name, trust, labels. No secret."""
        return self.root / "agent.toml"

    @property
    def policy(self) -> Path:
        """What the owner of the host allows, unless the system's own policy says it."""
        return self.root / "policy.toml"

    @property
    def credential(self) -> Path:
        """What the server knows this agent by; a secret."""
        return self.root / "credential"

    @property
    def enrollment_token(self) -> Path:
        """A token that waits for the first connection (`agent join --later`); a secret."""
        return self.root / "enrollment_token"

    @property
    def store(self) -> Path:
        """The durable record of executions (SQLite)."""
        return self.root / "store.sqlite3"

    @property
    def lock(self) -> Path:
        """Locked while an agent runs here."""
        return self.root / "agent.lock"

    @property
    def status(self) -> Path:
        """What the running agent last said of itself."""
        return self.root / "status.json"

    @property
    def scripts(self) -> Path:
        """Script texts while they run."""
        return self.root / "run"

    @property
    def tasks(self) -> Path:
        """The views of PRD §3.2.5, for people and other tools."""
        return self.root / "tasks"

    @property
    def executions(self) -> Path:
        return self.tasks / "executions"

    @property
    def daily_stats(self) -> Path:
        return self.tasks / "daily_stats"

    @property
    def logs(self) -> Path:
        return self.tasks / "logs"

    @property
    def pending_sync(self) -> Path:
        return self.tasks / "pending_sync.json"

    def create(self) -> None:
        """Make the directories. Raises OSError."""
        for path in (self.root, self.scripts, self.tasks, self.executions, self.daily_stats, self.logs):
            path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)

    def log_file(self, name: str) -> Path:
        """The file of a log's stored name, `DATE/TASK_EXECUTION.log`."""
        return self.logs / name
