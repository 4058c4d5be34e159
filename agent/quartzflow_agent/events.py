"""What a session with a bridge has to say to the agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple, Union

from quartzflow_agent.protocol import agent_pb2, task_pb2

# One attempt of one execution.
AttemptKey = Tuple[str, int]


@dataclass(frozen=True)
class Registered:
    """The server let us in."""

    response: agent_pb2.RegisterResponse


@dataclass(frozen=True)
class Refused:
    """The server did not let us in and will close the connection."""

    code: str  # see RegisterResponse.code
    message: str  # for people


@dataclass(frozen=True)
class Pong:
    """The server is alive."""

    config_version: int  # of this agent's configuration on the server
    scheduler_alive: bool  # False: nobody there computes what is due


@dataclass(frozen=True)
class ConfigReceived:
    """Tasks to add, change or drop; `Session.applied` answers it."""

    msg_id: str
    config: Union[task_pb2.TaskConfigPush, task_pb2.TaskConfigResponse]


@dataclass(frozen=True)
class ConfigComing:
    """A part of a configuration has come; the session has acknowledged it, and waits for the others."""


@dataclass(frozen=True)
class Instructed:
    """Run this; `Session.accept` or `Session.reject` answers it, once it is stored."""

    msg_id: str
    instruction: task_pb2.TaskExecution


@dataclass(frozen=True)
class CancelRequested:
    """Do not run these, or stop them; `Session.accept` answers it."""

    msg_id: str
    execution_ids: List[str]
    reason: str


@dataclass(frozen=True)
class WatchChanged:
    """Somebody looks at this execution's output, or no longer does."""

    execution_id: str
    watching: bool


@dataclass(frozen=True)
class LogRequested:
    """Send a part of a full log."""

    request: agent_pb2.LogFetch


@dataclass(frozen=True)
class ResultsAcknowledged:
    """The server has committed these results."""

    keys: List[AttemptKey]


@dataclass(frozen=True)
class ResultRefused:
    """The server will never take this result."""

    key: AttemptKey
    reason: str


@dataclass(frozen=True)
class SyncAnswered:
    """A batch of records was dealt with."""

    sent: List[AttemptKey]
    committed: List[AttemptKey]
    refused: List[AttemptKey]  # the server will never take these
    message: str


@dataclass(frozen=True)
class StatsAcknowledged:
    """The server has a day's statistics as they were at `revision`."""

    day: str
    revision: int


@dataclass(frozen=True)
class RecordsWanted:
    """By a day's statistics the server lacks records of these tasks: send them again, then the statistics."""

    day: str
    task_ids: List[str]


@dataclass(frozen=True)
class WentAway:
    """The bridge stops: connect to another."""

    endpoints: List[str]  # HOST:PORT
    delay: float  # seconds to spread the reconnects over
    reason: str


@dataclass(frozen=True)
class Lost:
    """The session is over."""

    reason: str
    code: int = (
        -1
    )  # the application error code of protocol.constants with which the server closed it; -1: none


Event = Union[
    Registered,
    Refused,
    Pong,
    ConfigReceived,
    ConfigComing,
    Instructed,
    CancelRequested,
    WatchChanged,
    LogRequested,
    ResultsAcknowledged,
    ResultRefused,
    SyncAnswered,
    StatsAcknowledged,
    RecordsWanted,
    WentAway,
    Lost,
]
