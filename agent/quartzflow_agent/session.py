"""The agent's side of a session with a bridge, without any input or output: bytes and time in, bytes and events out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from google.protobuf.message import Message

from quartzflow_agent import events
from quartzflow_agent.events import AttemptKey, Event
from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.constants import (
    HEARTBEAT_INTERVAL,
    MAX_FRAME,
    OFFLINE_AFTER,
    OLDEST_PROTOCOL,
    PONG_TIMEOUT,
    PROTOCOL_VERSION,
    RECORDS_WANTED,
)
from quartzflow_agent.protocol.framing import FrameDecoder, FramingError, encode
from quartzflow_agent.protocol.text import spoken

# The bridge answers a registration after a database commit: it may be busy with a thousand others.
REGISTER_ANSWER_TIMEOUT = 15.0  # seconds
ACKS_PER_FRAME = 500

NEW, REGISTERING, READY, CLOSED = "new", "registering", "ready", "closed"


@dataclass(frozen=True)
class Vitals:
    """What a PING says of the agent."""

    config_version: int = 0  # applied
    running: int = 0  # executions
    unacknowledged: int = 0  # results that the server lacks


@dataclass(frozen=True)
class _Stats:
    day: str
    revision: int


Config = Union[task_pb2.TaskConfigPush, task_pb2.TaskConfigResponse]
# What a message of ours that waits for an answer was about.
_Subject = Union[AttemptKey, _Stats]


class AgentSession:
    """One connection's control stream.

    `now` is always the agent's monotonic time, seconds. After any call, `data_to_send` may have something and
    `timer` may have changed.
    """

    def __init__(
        self,
        request: agent_pb2.RegisterRequest,
        vitals: Callable[[], Vitals],
        add_sample: Callable[[int, float, float], None],
    ) -> None:
        """request: sent first. vitals: asked at each PING. add_sample: told server ms, sent and received times."""
        self.state = NEW
        self.client_id = request.client_id
        self.heartbeat: float = HEARTBEAT_INTERVAL
        self._request = request
        self._vitals = vitals
        self._add_sample = add_sample
        self._decoder = FrameDecoder(MAX_FRAME)
        self._out = bytearray()
        self._accepted: List[str] = []
        self._parts: List[Config] = []  # of a configuration that has not come as a whole yet
        self._waiting: Dict[str, _Subject] = {}
        self._syncs: Dict[str, List[AttemptKey]] = {}
        self._prefix = os.urandom(4).hex()
        self._number = 0
        self._deadline: Optional[float] = None  # registration or PONG overdue
        self._ping_at: Optional[float] = None
        self._sent_at: Optional[float] = None  # of the request or PING that is not answered yet
        self._heard_at = 0.0

    # --- time and bytes ---

    def start(self, now: float) -> None:
        """Introduce ourselves."""
        self.state = REGISTERING
        self._sent_at = now
        self._deadline = now + REGISTER_ANSWER_TIMEOUT
        self._send(pb.MESSAGE_TYPE_REGISTER, self._request)

    def receive_data(self, data: bytes, now: float) -> List[Event]:
        """What the bridge's bytes mean."""
        if self.state == CLOSED:
            return []
        self._heard_at = now
        found: List[Event] = []
        try:
            for frame in self._decoder.feed(data):
                found += self._on_frame(frame, now)
        except (FramingError, messages.MessageError) as error:
            found.append(self._lose(f"protocol error: {error}"))
        return found

    def timer(self) -> Optional[float]:
        """When to call handle_timer; None: no need to."""
        times = [moment for moment in (self._deadline, self._ping_at) if moment is not None]
        return min(times) if times else None

    def handle_timer(self, now: float) -> List[Event]:
        """Do what is due."""
        if self._deadline is not None and now >= self._deadline:
            if self.state == REGISTERING:
                return [self._lose("the server did not answer the registration")]
            # A bridge that is busy, but sends other things, is alive.
            assert self._sent_at is not None  # noqa: S101  a PONG is overdue, so a PING was sent
            if self._heard_at <= self._sent_at or now - self._sent_at >= OFFLINE_AFTER:
                return [self._lose(f"no PONG within {now - self._sent_at:.0f} s")]
            self._deadline = now + PONG_TIMEOUT
        if self._ping_at is not None and now >= self._ping_at:
            self.ping(now)
        return []

    def ping(self, now: float) -> None:
        """Send a heartbeat now, unless one is under way."""
        if self.state != READY:
            return
        self._ping_at = now + self.heartbeat
        if self._sent_at is not None:
            return
        self._sent_at = now
        self._deadline = now + PONG_TIMEOUT
        vitals = self._vitals()
        self._out += encode(
            messages.ping(
                self.client_id,
                config_version=vitals.config_version,
                running=vitals.running,
                unacknowledged=vitals.unacknowledged,
            )
        )

    @property
    def has_output(self) -> bool:
        """Whether there is something to be written."""
        return bool(self._accepted or self._out)

    def data_to_send(self) -> bytes:
        """Everything that waits to be written, once."""
        acks = bytearray()
        for start in range(0, len(self._accepted), ACKS_PER_FRAME):
            first, *more = self._accepted[start : start + ACKS_PER_FRAME]
            acks += encode(messages.ack(first, more_msg_ids=more))
        self._accepted.clear()
        data = bytes(acks + self._out)
        self._out.clear()
        return data

    # --- messages of the agent ---

    def pull_config(self, version: int) -> None:
        """Ask for what changed since `version` (0: for everything)."""
        self._send(pb.MESSAGE_TYPE_TASK_CONFIG_PULL, task_pb2.TaskConfigPull(version=version))

    def accept(self, msg_id: str) -> None:
        """Acknowledge; many acknowledgements share a frame."""
        self._accepted.append(msg_id)

    def reject(self, msg_id: str, error: str) -> None:
        """Say no."""
        self._out += encode(messages.ack(msg_id, pb.ACK_STATUS_FAILURE, error=error))

    def applied(self, msg_id: str, version: int) -> None:
        """The configuration is in force."""
        self._out += encode(messages.ack(msg_id, result=str(version).encode()))

    def progress(self, progress: task_pb2.TaskProgress) -> None:
        """A state or a piece of output; nobody answers it."""
        self._send(pb.MESSAGE_TYPE_TASK_PROGRESS, progress)

    def result(self, result: task_pb2.TaskResult) -> None:
        """An attempt's end; ResultsAcknowledged or ResultRefused follows."""
        msg_id = self._send(pb.MESSAGE_TYPE_TASK_RESULT, result, wait_ack=True)
        self._waiting[msg_id] = (result.execution_id, result.attempt)

    def sync(self, records: Sequence[task_pb2.TaskResult], last_sync_time: int) -> None:
        """A batch of ends that the server lacks; SyncAnswered follows. last_sync_time: ms."""
        request = task_pb2.OfflineSyncRequest(
            client_id=self.client_id,
            last_sync_time=last_sync_time,
            record_count=len(records),
            records=records,
        )
        msg_id = self._send(pb.MESSAGE_TYPE_OFFLINE_SYNC_REQUEST, request, wait_ack=True)
        self._syncs[msg_id] = [(record.execution_id, record.attempt) for record in records]

    def daily_stats(self, report: task_pb2.DailyStatsReport, revision: int) -> None:
        """A day's statistics; StatsAcknowledged or RecordsWanted follows."""
        msg_id = self._send(pb.MESSAGE_TYPE_DAILY_STATS_REPORT, report, wait_ack=True)
        self._waiting[msg_id] = _Stats(report.date, revision)

    def log_chunk(self, chunk: agent_pb2.LogChunk) -> None:
        """A part of a full log."""
        self._send(pb.MESSAGE_TYPE_LOG_CHUNK, chunk)

    def _send(
        self,
        kind: pb.MessageType,
        message: Message,
        *,
        wait_ack: bool = False,
    ) -> str:
        self._number += 1
        msg_id = f"{self._prefix}-{self._number}"
        self._out += encode(messages.data(kind, message, msg_id, sender_id=self.client_id, wait_ack=wait_ack))
        return msg_id

    # --- frames of the bridge ---

    def _on_frame(self, frame: pb.Frame, now: float) -> List[Event]:
        if self.state == REGISTERING:
            return self._on_registered(frame, now)
        if self.state != READY:
            return []
        if frame.type == pb.FRAME_TYPE_PONG:
            return self._on_pong(messages.decode_pong(frame), now)
        if frame.type == pb.FRAME_TYPE_ACK:
            return self._on_ack(messages.decode_ack(frame))
        if frame.type == pb.FRAME_TYPE_DATA:
            return self._on_data(*messages.decode_data(frame))
        raise messages.MessageError(f"unexpected frame type {int(frame.type)}")

    def _on_registered(self, frame: pb.Frame, now: float) -> List[Event]:
        _, response = messages.decode_data(frame)
        if not isinstance(response, agent_pb2.RegisterResponse):
            raise messages.MessageError("something else before the answer to the registration")
        if not response.accepted:
            self._close()
            return [events.Refused(response.code, response.message)]
        # A server from before this rule says nothing: it speaks the first version.
        version = response.protocol_version or 1
        if not OLDEST_PROTOCOL <= version <= PROTOCOL_VERSION:
            self._close()
            ours = spoken(OLDEST_PROTOCOL, PROTOCOL_VERSION)
            problem = f"the agent speaks agent protocol {ours}, the server {version}: "
            problem += "update the server" if version < OLDEST_PROTOCOL else "update the agent"
            return [events.Refused("protocol_version", problem)]
        self.state = READY
        self.client_id = response.client_id or self.client_id
        self.heartbeat = response.heartbeat_interval or HEARTBEAT_INTERVAL
        if response.server_time and self._sent_at is not None:
            self._add_sample(response.server_time, self._sent_at, now)
        self._sent_at = self._deadline = None
        self.ping(now)
        return [events.Registered(response)]

    def _on_pong(self, pong: pb.PongFrame, now: float) -> List[Event]:
        if self._sent_at is not None:
            self._add_sample(pong.server_time, self._sent_at, now)
        self._sent_at = self._deadline = None
        return [events.Pong(pong.config_version, pong.scheduler_alive)]

    def _on_ack(self, ack: pb.AckMessage) -> List[Event]:
        found: List[Event] = []
        committed: List[AttemptKey] = []
        for msg_id in (ack.msg_id, *ack.more_msg_ids):
            subject = self._waiting.pop(msg_id, None)
            if isinstance(subject, _Stats):
                if ack.status == pb.ACK_STATUS_SUCCESS:
                    found.append(events.StatsAcknowledged(subject.day, subject.revision))
                elif ack.error == RECORDS_WANTED:
                    found.append(
                        events.RecordsWanted(subject.day, ack.result.decode("ascii", "replace").split(","))
                    )
            elif subject is not None:
                if ack.status == pb.ACK_STATUS_SUCCESS:
                    committed.append(subject)
                elif ack.status == pb.ACK_STATUS_FAILURE:
                    found.append(events.ResultRefused(subject, ack.error))
        if committed:
            found.append(events.ResultsAcknowledged(committed))
        return found

    def _on_data(self, envelope: pb.DataMessage, message: Message) -> List[Event]:
        msg_id = envelope.msg_id
        if isinstance(message, task_pb2.TaskExecution):
            return [events.Instructed(msg_id, message)]
        if isinstance(message, (task_pb2.TaskConfigPush, task_pb2.TaskConfigResponse)):
            return self._on_config(msg_id, message)
        if isinstance(message, agent_pb2.TaskCancel):
            return [events.CancelRequested(msg_id, list(message.execution_ids), message.reason)]
        if isinstance(message, agent_pb2.LogWatch):
            return [events.WatchChanged(message.execution_id, message.watching)]
        if isinstance(message, agent_pb2.LogFetch):
            return [events.LogRequested(message)]
        if isinstance(message, task_pb2.OfflineSyncResponse):
            sent = self._syncs.pop(msg_id, [])
            done, never = set(message.execution_ids), set(message.refused_ids)
            committed = [key for key in sent if key[0] in done]
            refused = [key for key in sent if key[0] in never]
            return [events.SyncAnswered(sent, committed, refused, message.message)] if sent else []
        if isinstance(message, agent_pb2.GoAway):
            return [events.WentAway(list(message.endpoints), message.delay_ms / 1000, message.reason)]
        raise messages.MessageError(f"unexpected {message.DESCRIPTOR.name}")

    def _on_config(self, msg_id: str, config: Config) -> List[Event]:
        if config.parts < 2:
            return [events.ConfigReceived(msg_id, config)]
        if config.part == 0:
            self._parts = []
        first = self._parts[0] if self._parts else config
        if config.part != len(self._parts) or (type(first), first.version) != (type(config), config.version):
            return []  # sent twice, or of something that was begun anew
        self._parts.append(config)
        if len(self._parts) < config.parts:
            self.accept(msg_id)
            return [events.ConfigComing()]
        whole: Any = type(config)()
        for part in self._parts:
            whole.MergeFrom(part)
        self._parts = []
        whole.part = whole.parts = 0
        return [events.ConfigReceived(msg_id, whole)]

    def _lose(self, reason: str) -> events.Lost:
        self._close()
        return events.Lost(reason)

    def _close(self) -> None:
        self.state = CLOSED
        self._deadline = self._ping_at = None
