"""What an agent says, as a session reports it."""

from dataclasses import dataclass

from quartzflow_agent.protocol import agent_pb2, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb


@dataclass(frozen=True, slots=True)
class RegisterReceived:
    """The agent asks to be let in."""

    request: agent_pb2.RegisterRequest


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    """A PING; the session has answered it."""

    ping: pb.PingFrame
    clock_offset: int | None  # ms that the agent's clock is ahead of ours, less the way here; None: not told


@dataclass(frozen=True, slots=True)
class PullReceived:
    """The agent asks for configuration; `Session.answer_pull` answers."""

    msg_id: str
    since: int  # the configuration version that the agent holds; 0: nothing


@dataclass(frozen=True, slots=True)
class ProgressReceived:
    """A start, or output; nobody answers."""

    message: task_pb2.TaskProgress


@dataclass(frozen=True, slots=True)
class ResultReceived:
    """An end; `Session.acknowledge` or `reject` answers, after the commit."""

    msg_id: str
    message: task_pb2.TaskResult


@dataclass(frozen=True, slots=True)
class SyncReceived:
    """Ends that the server lacks; `Session.answer_sync` answers, after the commit."""

    msg_id: str
    message: task_pb2.OfflineSyncRequest


@dataclass(frozen=True, slots=True)
class StatsReceived:
    """A day's statistics; `Session.acknowledge` or `reject` answers."""

    msg_id: str
    message: task_pb2.DailyStatsReport


@dataclass(frozen=True, slots=True)
class ExecutionsAnswered:
    """The agent has stored these instructions (error is empty) or refuses them."""

    executions: tuple[tuple[str, int], ...]  # (execution id, attempt)
    error: str


@dataclass(frozen=True, slots=True)
class ConfigApplied:
    """The agent holds this configuration version now."""

    version: int


@dataclass(frozen=True, slots=True)
class PartTaken:
    """The agent has got a part of a configuration; the session has sent the next."""


@dataclass(frozen=True, slots=True)
class ConfigRefused:
    """The agent could not put this version in force."""

    version: int
    error: str


@dataclass(frozen=True, slots=True)
class ChunkReceived:
    """A part of a whole log."""

    message: agent_pb2.LogChunk


@dataclass(frozen=True, slots=True)
class LegacyArrived:
    """A quic-flow client says its name; `LegacySession.accept` or `refuse` answers."""

    client_id: str


@dataclass(frozen=True, slots=True)
class LegacyEnded:
    """An execution on a quic-flow client is over; nobody answers."""

    message: task_pb2.TaskResult


Input = (
    RegisterReceived
    | HeartbeatReceived
    | PullReceived
    | ProgressReceived
    | ResultReceived
    | SyncReceived
    | StatsReceived
    | ExecutionsAnswered
    | ConfigApplied
    | PartTaken
    | ConfigRefused
    | ChunkReceived
    | LegacyArrived
    | LegacyEnded
)
