"""One agent's session, without any input or output: bytes and time in, inputs and bytes out.

The control stream (stream 0) carries frames both ways; further streams of the agent only bring log chunks. Whatever
the peer sends, `receive` returns: a protocol error closes this session with a reason and touches nothing else.
"""

import re
from collections.abc import Sequence

from google.protobuf.message import Message
from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.constants import (
    CLOSE_FLOOD,
    CLOSE_PROTOCOL,
    CLOSE_REFUSED,
    CLOSE_REGISTER_TIMEOUT,
    CLOSE_SILENT,
    CONFIG_PARTS,
    HEARTBEAT_INTERVAL,
    PROTOCOL_VERSION,
    RECORDS_WANTED,
)
from quartzflow_agent.protocol.framing import FrameDecoder, FramingError, encode

from .closing import Close, PeerError
from .facts import Facts as Facts
from .facts import State
from .inputs import (
    ChunkReceived,
    ConfigApplied,
    ConfigRefused,
    ExecutionsAnswered,
    HeartbeatReceived,
    Input,
    PartTaken,
    ProgressReceived,
    PullReceived,
    RegisterReceived,
    ResultReceived,
    StatsReceived,
    SyncReceived,
)
from .limits import COST_UNIT, PULL_COST, Bucket, Limits
from .parts import PUSH, Part, encode_config

CONTROL_STREAM = 0
ACKS_PER_FRAME = 500

# Our msg_ids say what they are about, so that an ACK needs no table of what was sent.
EXECUTION = "x:"  # + attempt : execution id; a copy may be answered when the next attempt is under way
ATTEMPT = re.compile(r"[0-9]{1,9}")
CANCEL = "c:"


class Session:
    """`now` is always the loop's monotonic time in seconds. After any call there may be output, or `closing` set."""

    __slots__ = (
        "_bucket", "_control", "_limits", "_opened_at", "_output", "_parts", "_pull", "_side", "_spoken", "applied",
        "client_id", "closing", "expected", "facts", "heard_at", "in_parts", "looked", "session_id", "state",
    )  # fmt: skip

    def __init__(self, session_id: str, facts: Facts, limits: Limits, now: float) -> None:
        self.session_id = session_id
        self.facts = facts
        self.state = State.CONNECTED
        self.client_id = ""  # from the registration on
        self.closing: Close | None = None
        self.heard_at = now
        self.applied = 0  # the configuration version that the agent last said it holds
        # The newest version that changed anything for this agent: holding it or a later one, the agent is in step,
        # since changes that concern other groups alone need not reach it. None: not known until its first pull.
        self.expected: int | None = None
        self.looked = 0  # the version up to which the bridge has looked for changes that concern this agent
        self.in_parts = False  # whether the agent can put a configuration together that comes in parts
        self._parts: list[Part] = []  # of the newest configuration: not acknowledged, or not sent yet
        self._spoken = PROTOCOL_VERSION  # the agent's, when it is an earlier one
        self._limits = limits
        self._opened_at = now
        self._control = FrameDecoder(limits.first_frame)
        self._side: dict[int, FrameDecoder] | None = None
        self._output: list[bytes] = []
        self._pull: tuple[str, int] | None = None  # msg_id and version of the answer that is not applied yet
        self._bucket = Bucket(limits.burst, now)

    # --- The agent's side ---

    def receive(self, stream_id: int, data: bytes, end: bool, now: float) -> list[Input]:
        """What the bytes say. After an error of the peer: what it said before, with `closing` set."""
        inputs: list[Input] = []
        if self.closing is None:
            try:
                if stream_id == CONTROL_STREAM:
                    for frame in self._control.feed(data):
                        self._limits.charge(self._bucket, 1 + len(frame.payload) / COST_UNIT, now)
                        self._read(frame, inputs)
                        self.heard_at = now
                    if end:
                        raise PeerError("control stream ended")
                else:
                    self._read_side(stream_id, data, end, inputs, now)
            except (FramingError, messages.MessageError) as error:
                self.close(CLOSE_PROTOCOL, str(error))
            except PeerError as error:
                self.close(error.code, str(error), error.limit)
        return inputs

    def reset(self, stream_id: int) -> None:
        """The agent gave up a stream."""
        if stream_id == CONTROL_STREAM:
            self.close(CLOSE_PROTOCOL, "control stream was reset")
        elif self._side is not None:
            self._side.pop(stream_id, None)

    stop_sending = reset

    def check(self, now: float) -> None:
        """Close the session when it has not registered in time, or is silent for too long."""
        if self.state is State.CONNECTED and now - self._opened_at >= self._limits.register_timeout:
            reason = f"not registered within {self._limits.register_timeout:g} s"
            self.close(CLOSE_REGISTER_TIMEOUT, reason, "register_timeout")
        elif now - self.heard_at >= self._limits.silence:
            self.close(CLOSE_SILENT, f"silent for {self._limits.silence:g} s", "silence")

    def check_backlog(self, unacknowledged: int) -> None:
        """Close the session of an agent that does not read; `unacknowledged` is in bytes."""
        if unacknowledged > self._limits.backlog:
            self.close(CLOSE_FLOOD, f"{unacknowledged} bytes not read", "backlog")

    def close(self, code: int, reason: str, limit: str = "") -> None:
        """End the session; the first reason stays."""
        if self.closing is None:
            self.closing = Close(code, reason, limit)
            self.state = State.CLOSED

    @property
    def has_output(self) -> bool:
        """Whether there is something to write, or the connection is to be closed."""
        return bool(self._output) or self.closing is not None

    def take_output(self) -> bytes:
        """What is to be written to the control stream."""
        if not self._output:
            return b""
        output = b"".join(self._output)
        self._output.clear()
        return output

    # --- The bridge's side ---

    def accept(self, client_id: str, config_version: int, *, group: str = "", credential: str = "") -> None:
        """Let the agent in; `config_version` is what it holds, `credential` its new one if a token was used."""
        self.client_id = client_id
        self.applied = config_version
        if config_version == self.facts.config_version:
            self.expected = self.looked = config_version
        self.state = State.REGISTERED
        self._control.max_size = self._limits.frame
        self._respond(
            agent_pb2.RegisterResponse(accepted=True, client_id=client_id, credential=credential, group=group)
        )

    def refuse(self, code: str, message: str) -> None:
        """Do not let the agent in, and close."""
        self._respond(agent_pb2.RegisterResponse(accepted=False, code=code, message=message))
        self.close(CLOSE_REFUSED, f"{code}: {message}" if message else code)

    def execute(self, instruction: task_pb2.TaskExecution) -> None:
        """Have the agent run this; ExecutionsAnswered follows. Raises FramingError when it is over MAX_FRAME."""
        msg_id = f"{EXECUTION}{instruction.attempt}:{instruction.execution_id}"
        self._send(pb.MESSAGE_TYPE_TASK_EXECUTION, instruction, msg_id, wait_ack=True)

    def cancel(self, execution_ids: Sequence[str], reason: str) -> None:
        """Have the agent drop or stop these."""
        message = agent_pb2.TaskCancel(execution_ids=execution_ids, reason=reason)
        self._send(pb.MESSAGE_TYPE_TASK_CANCEL, message, CANCEL + execution_ids[0], wait_ack=True)

    def answer_pull(self, msg_id: str, response: task_pb2.TaskConfigResponse) -> None:
        """Answer a PullReceived; ConfigApplied follows. Raises FramingError when a frame is over MAX_FRAME."""
        self._begin(encode_config(response, msg_id, in_parts=self.in_parts), response.version)
        self._pull = (msg_id, response.version)

    def push(self, version: int, parts: Sequence[Part]) -> None:
        """Send a push that `encode_push` made for many agents; PartTaken, then ConfigApplied or -Refused follow."""
        self._begin(parts, version)

    def push_again(self) -> None:
        """Send that part of the newest configuration once more that is not acknowledged."""
        if self._parts:
            self.write(self._parts[0].frame)

    def _begin(self, parts: Sequence[Part], version: int) -> None:
        # What is left of an older configuration need not be sent: this one makes up for it.
        self._parts = list(parts)
        self.expected = self.looked = version
        self.write(self._parts[0].frame)

    def in_step(self) -> bool:
        """Whether the agent holds all that concerns it, as far as the bridge has looked."""
        return self.expected is not None and self.expected <= self.applied <= self.facts.config_version

    def acknowledge(self, msg_ids: Sequence[str]) -> None:
        """These reports are committed."""
        for start in range(0, len(msg_ids), ACKS_PER_FRAME):
            first, *more = msg_ids[start : start + ACKS_PER_FRAME]
            self.write(encode(messages.ack(first, more_msg_ids=more)))

    def reject(self, msg_id: str, error: str) -> None:
        """This report will never be committed, and why."""
        self.write(encode(messages.ack(msg_id, pb.ACK_STATUS_FAILURE, error=error)))

    def want_records(self, msg_id: str, task_ids: Sequence[str]) -> None:
        """Answer a StatsReceived: these tasks' records of that day are wanted again, and the statistics after them."""
        wanted = ",".join(task_ids).encode()
        self.write(encode(messages.ack(msg_id, pb.ACK_STATUS_FAILURE, result=wanted, error=RECORDS_WANTED)))

    def answer_sync(
        self, msg_id: str, committed: Sequence[str], message: str = "", refused: Sequence[str] = ()
    ) -> None:
        """Answer a SyncReceived: what is committed, and what never will be; `message` says why something is not."""
        response = task_pb2.OfflineSyncResponse(
            success=not message,
            message=message,
            synced_count=len(committed),
            server_time=messages.now_ms(),
            execution_ids=committed,
            refused_ids=refused,
        )
        self._send(pb.MESSAGE_TYPE_OFFLINE_SYNC_RESPONSE, response, msg_id)

    def watch_log(self, execution_id: str, watching: bool) -> None:
        """Somebody reads this execution's output, or no longer does."""
        self._send(
            pb.MESSAGE_TYPE_LOG_WATCH, agent_pb2.LogWatch(execution_id=execution_id, watching=watching)
        )

    def fetch_log(self, request: agent_pb2.LogFetch) -> None:
        """Have the agent send a part of a full log; ChunkReceived follows."""
        self._send(pb.MESSAGE_TYPE_LOG_FETCH, request)

    def go_away(self, reason: str, endpoints: Sequence[str], delay_ms: int) -> None:
        """Send the agent elsewhere."""
        message = agent_pb2.GoAway(reason=reason, endpoints=endpoints, delay_ms=delay_ms)
        self._send(pb.MESSAGE_TYPE_GO_AWAY, message)

    def write(self, frames: bytes) -> None:
        """Queue encoded frames; nothing once the session is closed."""
        if self.closing is None:
            self._output.append(frames)

    # --- Reading ---

    def _read(self, frame: pb.Frame, inputs: list[Input]) -> None:
        if self.state is State.CONNECTED:
            inputs.append(self._read_register(frame))
        elif self.state is not State.REGISTERED:
            raise PeerError("frame before the registration was answered")
        elif frame.type == pb.FRAME_TYPE_PING:
            inputs.append(self._read_ping(messages.decode_ping(frame)))
        elif frame.type == pb.FRAME_TYPE_ACK:
            self._read_ack(messages.decode_ack(frame), inputs)
        else:
            inputs.append(self._read_data(*messages.decode_data(frame)))

    def _read_register(self, frame: pb.Frame) -> Input:
        _, message = messages.decode_data(frame)
        if not isinstance(message, agent_pb2.RegisterRequest):
            raise PeerError("the first frame is not a registration")
        self.state = State.REGISTERING
        self.in_parts = CONFIG_PARTS in message.features
        self._spoken = min(message.protocol_version or PROTOCOL_VERSION, PROTOCOL_VERSION)
        return RegisterReceived(message)

    def _read_ping(self, ping: pb.PingFrame) -> Input:
        self._check_own(ping.client_id)
        self.applied = ping.config_version
        now = messages.now_ms()
        version = self.applied if self.in_step() else self.facts.config_version
        self.write(
            encode(
                messages.pong(
                    config_version=version,
                    scheduler_alive=self.facts.scheduler_alive,
                    sent_at=ping.sent_at,
                    server_time=now,
                )
            )
        )
        return HeartbeatReceived(ping, ping.sent_at - now if ping.sent_at else None)

    def _read_ack(self, ack: pb.AckMessage, inputs: list[Input]) -> None:
        succeeded = ack.status == pb.ACK_STATUS_SUCCESS
        error = "" if succeeded else ack.error or "failed"
        executions: list[tuple[str, int]] = []
        for msg_id in (ack.msg_id, *ack.more_msg_ids):
            if succeeded and len(self._parts) > 1 and msg_id == self._parts[0].msg_id:
                del self._parts[0]
                self.write(self._parts[0].frame)
                inputs.append(PartTaken())
            elif msg_id.startswith(EXECUTION):
                attempt, _, execution_id = msg_id[len(EXECUTION) :].partition(":")
                if ATTEMPT.fullmatch(attempt):
                    executions.append((execution_id, int(attempt)))
            elif self._pull is not None and msg_id == self._pull[0]:
                inputs.append(self._read_applied(self._pull[1], error))
                self._pull = None
            elif msg_id.startswith(PUSH) and msg_id[len(PUSH) :].isdecimal():
                inputs.append(self._read_applied(int(msg_id[len(PUSH) :]), error))
        if executions:
            inputs.append(ExecutionsAnswered(tuple(executions), error))

    def _read_applied(self, version: int, error: str) -> Input:
        if error:
            return ConfigRefused(version, error)
        # Only what we have sent; a late ACK never moves the agent back.
        if self.expected is None or version > self.expected:
            raise PeerError(f"acknowledged configuration version {version}, which was not sent")
        self.applied = max(self.applied, version)
        if version == self.expected:
            self._parts = []
        return ConfigApplied(version)

    def _read_data(self, envelope: pb.DataMessage, message: Message) -> Input:
        match message:
            case task_pb2.TaskProgress():
                return ProgressReceived(message)
            case task_pb2.TaskResult():
                return ResultReceived(envelope.msg_id, message)
            case task_pb2.OfflineSyncRequest():
                self._check_own(message.client_id)
                return SyncReceived(envelope.msg_id, message)
            case task_pb2.DailyStatsReport():
                self._check_own(message.client_id)
                return StatsReceived(envelope.msg_id, message)
            case task_pb2.TaskConfigPull():
                self._limits.charge(self._bucket, PULL_COST, self._bucket.at)
                self.applied = message.version
                return PullReceived(envelope.msg_id, message.version)
            case agent_pb2.LogChunk():
                return ChunkReceived(message)
            case _:
                raise PeerError(f"unexpected {message.DESCRIPTOR.name}")

    def _read_side(self, stream_id: int, data: bytes, end: bool, inputs: list[Input], now: float) -> None:
        if self.state is not State.REGISTERED:
            raise PeerError("second stream before the registration")
        if self._side is None:
            self._side = {}
        decoder = self._side.get(stream_id)
        if decoder is None:
            if len(self._side) >= self._limits.side_streams:
                raise PeerError(f"more than {self._limits.side_streams} streams", CLOSE_FLOOD, "side_streams")
            decoder = self._side[stream_id] = FrameDecoder(self._limits.frame)
        for frame in decoder.feed(data):
            self._limits.charge(self._bucket, 1 + len(frame.payload) / COST_UNIT, now)
            _, message = messages.decode_data(frame)
            if not isinstance(message, agent_pb2.LogChunk):
                raise PeerError(f"unexpected {message.DESCRIPTOR.name} on stream {stream_id}")
            self.heard_at = now
            inputs.append(ChunkReceived(message))
        if end:
            if decoder.buffered:
                raise PeerError(f"stream {stream_id} ended within a frame")
            del self._side[stream_id]
        elif decoder.buffered > self._limits.buffered // (self._limits.side_streams + 1):
            self._check_buffered()

    def _check_buffered(self) -> None:
        held = self._control.buffered + sum(side.buffered for side in (self._side or {}).values())
        if held > self._limits.buffered:
            raise PeerError(f"{held} bytes of incomplete frames", CLOSE_FLOOD, "buffered")

    def _check_own(self, client_id: str) -> None:
        if client_id not in ("", self.client_id):
            raise PeerError("speaks for another client")

    # --- Writing ---

    def _send(
        self, type: pb.MessageType, message: Message, msg_id: str = "", *, wait_ack: bool = False
    ) -> None:
        self.write(encode(messages.data(type, message, msg_id, wait_ack=wait_ack)))

    def _respond(self, response: agent_pb2.RegisterResponse) -> None:
        response.server_time = messages.now_ms()
        response.config_version = self.facts.config_version
        response.heartbeat_interval = HEARTBEAT_INTERVAL
        response.scheduler_alive = self.facts.scheduler_alive
        response.bridge_id = self.facts.bridge_id
        response.endpoints.extend(self.facts.endpoints)
        response.protocol_version = self._spoken if response.accepted else PROTOCOL_VERSION
        self._send(pb.MESSAGE_TYPE_REGISTER_RESPONSE, response)
