"""What sessions share, and where each of them stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


@dataclass(slots=True)
class Facts:
    """What every session of a bridge tells its agent; the bridge keeps it up to date."""

    bridge_id: str
    endpoints: Sequence[str] = ()  # HOST:PORT of bridges to try, best first
    config_version: int = 0  # the newest version the bridge has seen
    scheduler_alive: bool = False


class State(Enum):
    CONNECTED = "connected"
    REGISTERING = "registering"
    REGISTERED = "registered"
    CLOSED = "closed"
