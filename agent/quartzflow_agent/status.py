"""What a running agent says of itself, for `quicflow agent status`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Dict, Optional

from quartzflow_agent.files import write_atomic
from quartzflow_agent.paths import Home


@dataclass(frozen=True)
class Status:
    """One moment of an agent."""

    pid: int
    version: str  # of the agent
    client_id: str
    group: str  # as the server says
    started_at: str  # RFC 3339
    connected: bool
    server: str  # HOST:PORT of the session, or of the last try
    problem: str  # why it is not connected
    scheduler_alive: bool  # on the server
    local_firing: bool
    config_version: int
    running: int  # executions
    unacknowledged: int  # results that the server lacks
    clock_offset_ms: int  # how far the server's clock is ahead
    updated_at: str  # RFC 3339


def save(home: Home, status: Status) -> None:
    """Raises OSError."""
    write_atomic(home.status, f"{json.dumps(asdict(status), indent=2)}\n".encode(), sync=False)


def load(home: Home) -> Optional[Dict[str, Any]]:
    """What an agent last said here; None: it never did. Raises OSError, ValueError."""
    try:
        found = json.loads(home.status.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(found, dict):
        raise ValueError(f"{home.status}: not a status")
    return found
