"""A quic-flow client's session (ALPN quic-backbone-v1), without any input or output.

Every exchange has a stream of its own: its opener writes one frame, the answer comes back on it. The first one is a
PING with the client id. Commands go out on streams that we open and leave open until their ACK has come.
Whatever the peer sends, `receive` returns: an error closes this session with a reason and touches nothing else.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol import messages, task_pb2
from quartzflow_agent.protocol.constants import (
    CLOSE_FLOOD,
    CLOSE_GO_AWAY,
    CLOSE_PROTOCOL,
    CLOSE_REFUSED,
    CLOSE_REGISTER_TIMEOUT,
    CLOSE_SILENT,
)
from quartzflow_agent.protocol.framing import FrameDecoder, FramingError, encode

from . import legacy_commands as commands
from .closing import Close, PeerError
from .facts import Facts, State
from .inputs import HeartbeatReceived, Input, LegacyArrived, LegacyEnded
from .limits import COST_UNIT, Bucket, Limits

FIRST_STREAM = 0
MAX_STREAMS = 1000  # of the client, open at once
MAX_HELD = 10_000  # instructions that wait for their time; the sweep brings further ones again
MAX_RUNNING = 100  # commands at once; the others wait
ANSWER_GRACE = 30.0  # seconds beyond a command's timeout until we no longer wait for its ACK


@dataclass(slots=True)
class _Command:
    instruction: task_pb2.TaskExecution
    started: int  # Unix ms
    give_up_at: float  # monotonic seconds
    decoder: FrameDecoder
    deaf: bool = False  # its stream takes nothing any more


class LegacySession:
    """As `Session`, `now` is monotonic time in seconds. Times of executions are Unix ms.

    The client knows neither configurations nor full logs; what the bridge tells of them goes nowhere.
    """

    __slots__ = (
        "_bucket", "_buffered", "_early", "_ended", "_held", "_leaving", "_limits", "_next_stream", "_opened_at",
        "_running", "_streams", "_writes", "applied", "approved", "client_id", "closing", "expected", "facts",
        "heard_at", "looked", "session_id", "state",
    )  # fmt: skip

    def __init__(self, session_id: str, facts: Facts, limits: Limits, now: float) -> None:
        self.session_id = session_id
        self.facts = facts
        self.state = State.CONNECTED
        self.client_id = ""
        self.approved = False  # may get work
        self.closing: Close | None = None
        self.heard_at = now
        self.applied = self.looked = 0
        self.expected: int | None = None  # it never holds a configuration
        self._limits = limits
        self._opened_at = now
        self._streams: dict[int, FrameDecoder | None] = {}  # of the client; None: answered, or given up
        self._early: list[tuple[int, pb.Frame]] = []  # frames that came before the registration was through
        self._held: dict[str, task_pb2.TaskExecution] = {}
        self._running: dict[int, _Command] = {}  # by stream
        self._ended: list[Input] = []
        self._writes: list[tuple[int, bytes, bool]] = []
        self._next_stream = 1
        self._buffered = 0
        self._leaving = ""
        self._bucket = Bucket(limits.burst, now)

    # --- The client's side ---

    def receive(self, stream_id: int, data: bytes, end: bool, now: float) -> list[Input]:
        """What the bytes say. After an error of the peer: what it said before, with `closing` set."""
        inputs: list[Input] = []
        if self.closing is None:
            try:
                if stream_id % 4 == 0:
                    self._read_request(stream_id, data, end, now, inputs)
                elif stream_id % 4 == 1:
                    self._read_answer(stream_id, data, end, now, inputs)
                else:
                    raise PeerError("unidirectional stream")
            except (FramingError, messages.MessageError) as error:
                self.close(CLOSE_PROTOCOL, str(error))
            except PeerError as error:
                self.close(error.code, str(error), error.limit)
        return inputs

    def reset(self, stream_id: int) -> None:
        """The client gave up its side of a stream; an execution that ends by that is in `take_ended`."""
        command = self._running.pop(stream_id, None)
        if command is not None:
            self._buffered -= command.decoder.buffered
            self._fail(command, "the client gave up the command's stream")
        else:
            self._give_up(stream_id)

    def stop_sending(self, stream_id: int) -> None:
        """The client reads no more of a stream. The answer to a command may still come."""
        if stream_id in self._running:
            self._running[stream_id].deaf = True
        else:
            self._give_up(stream_id)

    def _give_up(self, stream_id: int) -> None:
        if stream_id == FIRST_STREAM and self.state is not State.REGISTERED:
            self.close(CLOSE_PROTOCOL, "the first stream was given up")
        self._early = [item for item in self._early if item[0] != stream_id]
        decoder = self._streams.get(stream_id)
        if decoder is not None:
            self._buffered -= decoder.buffered
            self._streams[stream_id] = None

    def check(self, now: float) -> None:
        """Close what has not registered in time or is silent; stop waiting for answers that are overdue."""
        if self.state is State.CONNECTED and now - self._opened_at >= self._limits.register_timeout:
            reason = f"not registered within {self._limits.register_timeout:g} s"
            self.close(CLOSE_REGISTER_TIMEOUT, reason, "register_timeout")
        elif now - self.heard_at >= self._limits.silence:
            self.close(CLOSE_SILENT, f"silent for {self._limits.silence:g} s", "silence")
        for stream_id, command in list(self._running.items()):
            if now >= command.give_up_at:
                del self._running[stream_id]
                self._finish(stream_id, command)
                text = "the client did not answer in time"
                result = commands.timed_out(command.instruction, command.started, text)
                self._ended.append(LegacyEnded(result))

    def close(self, code: int, reason: str, limit: str = "") -> None:
        """End the session; the first reason stays."""
        if self.closing is None:
            self.closing = Close(code, reason, limit)
            self.state = State.CLOSED

    @property
    def has_output(self) -> bool:
        """Whether there is something to write, or the connection is to be closed."""
        return bool(self._writes) or self.closing is not None

    def take_writes(self) -> list[tuple[int, bytes, bool]]:
        """What is to be written: (stream, bytes, whether our side of the stream ends)."""
        writes, self._writes = self._writes, []
        return writes

    def take_ended(self) -> list[Input]:
        """Executions that ended otherwise than by an answer."""
        ended, self._ended = self._ended, []
        return ended

    # --- The bridge's side ---

    def accept(self, client_id: str, config_version: int, *, group: str = "", credential: str = "") -> None:
        """Let the client in: answer its first PING, and what it has said meanwhile."""
        self.client_id = client_id
        self.state = State.REGISTERED
        self._pong(FIRST_STREAM)
        early, self._early = self._early, []
        for stream_id, frame in early:
            try:
                self._answer_request(stream_id, frame)
            except (messages.MessageError, PeerError) as error:
                self.close(CLOSE_PROTOCOL, str(error))

    def refuse(self, code: str, message: str) -> None:
        """Do not let the client in."""
        self.close(CLOSE_REFUSED, f"{code}: {message}" if message else code)

    def execute(self, instruction: task_pb2.TaskExecution) -> None:
        """Hold this until its time. A newer version of an instruction takes the place of the one that is held."""
        if not self.approved:
            # Approved since it connected, from which address only a new registration tells.
            self.close(CLOSE_GO_AWAY, "the approval has changed; connect again")
        elif len(self._held) < MAX_HELD and all(
            command.instruction.execution_id != instruction.execution_id for command in self._running.values()
        ):
            self._held[instruction.execution_id] = instruction

    def due(self, now: int) -> tuple[list[task_pb2.TaskExecution], list[task_pb2.TaskExecution]]:
        """What is to start now, in order, and what is to be skipped, as too many of its task run; all stay held."""
        room = MAX_RUNNING - len(self._running)
        counts = Counter(command.instruction.task_id for command in self._running.values())
        starts: list[task_pb2.TaskExecution] = []
        skipped: list[task_pb2.TaskExecution] = []
        for instruction in sorted(self._held.values(), key=commands.begins_at):
            if commands.begins_at(instruction) > now or len(starts) >= room:
                break
            if counts[instruction.task_id] < max(instruction.concurrency, 1):
                counts[instruction.task_id] += 1
                starts.append(instruction)
            elif instruction.concurrency_policy == "skip":
                skipped.append(instruction)
        return starts, skipped

    def next_due(self, now: int) -> int | None:
        """When the next of the held ones begins, after `now`; None: none does."""
        later = [at for at in map(commands.begins_at, self._held.values()) if at > now]
        return min(later, default=None)

    def start(self, instruction: task_pb2.TaskExecution, started: int, now: float) -> None:
        """Send the command; LegacyEnded follows. Raises Unsupported, and FramingError when it is over MAX_FRAME."""
        self._held.pop(instruction.execution_id, None)
        frame = encode(commands.command_frame(instruction, instruction.execution_id))
        stream_id, self._next_stream = self._next_stream, self._next_stream + 4
        timeout = min(max(instruction.timeout, commands.HANDLER_TIMEOUT), commands.MAX_TIMEOUT)
        decoder = FrameDecoder(self._limits.frame)
        self._running[stream_id] = _Command(instruction, started, now + timeout + ANSWER_GRACE, decoder)
        self._writes.append((stream_id, frame, False))

    def drop(self, execution_id: str) -> None:
        """Hold this no longer."""
        self._held.pop(execution_id, None)

    def cancel(self, execution_ids: Sequence[str], reason: str) -> None:
        """Drop what has not begun. What runs cannot be stopped; its result no longer counts."""
        for execution_id in execution_ids:
            self._held.pop(execution_id, None)

    def go_away(self, reason: str, endpoints: Sequence[str], delay_ms: int) -> None:
        """Close as soon as nothing runs."""
        self._leaving = reason
        self._leave()

    def watch_log(self, execution_id: str, watching: bool) -> None:
        """Output comes with the result only."""

    # --- Reading ---

    def _read_request(self, stream_id: int, data: bytes, end: bool, now: float, inputs: list[Input]) -> None:
        if stream_id not in self._streams:
            if len(self._streams) >= MAX_STREAMS:
                raise PeerError(f"more than {MAX_STREAMS} streams", CLOSE_FLOOD)
            registered = self.state is State.REGISTERED
            limit = self._limits.frame if registered else self._limits.first_frame
            self._streams[stream_id] = FrameDecoder(limit)
        decoder = self._streams[stream_id]
        for frame in self._feed(decoder, data, now) if decoder is not None else ():
            if self._streams[stream_id] is None:
                raise PeerError("more than one frame on a stream")
            self._streams[stream_id] = None
            self._read(stream_id, frame, inputs)
        if end:
            decoder = self._streams.pop(stream_id)
            if decoder is not None:
                if decoder.buffered:
                    raise PeerError(f"stream {stream_id} ended within a frame")
                self._writes.append((stream_id, b"", True))

    def _read(self, stream_id: int, frame: pb.Frame, inputs: list[Input]) -> None:
        if self.state is State.CONNECTED and stream_id == FIRST_STREAM:
            if frame.type != pb.FRAME_TYPE_PING:
                raise PeerError("the first frame is not a PING")
            client_id = messages.decode_ping(frame).client_id
            if not client_id:
                raise PeerError("the first PING has no client id")
            self.state = State.REGISTERING
            inputs.append(LegacyArrived(client_id))
        elif self.state is not State.REGISTERED:
            self._early.append((stream_id, frame))
        else:
            heartbeat = self._answer_request(stream_id, frame)
            if heartbeat is not None:
                inputs.append(heartbeat)

    def _answer_request(self, stream_id: int, frame: pb.Frame) -> Input | None:
        if frame.type == pb.FRAME_TYPE_PING:
            ping = messages.decode_ping(frame)
            if ping.client_id not in ("", self.client_id):
                raise PeerError("speaks for another client")
            self._pong(stream_id)
            return HeartbeatReceived(pb.PingFrame(running=len(self._running)), None)
        if frame.type != pb.FRAME_TYPE_DATA:
            raise PeerError(f"frame type {int(frame.type)} opens no exchange")
        message = messages.decode_envelope(frame)
        answer = encode(messages.ack(message.msg_id)) if message.wait_ack else b""
        self._writes.append((stream_id, answer, True))
        return None

    def _read_answer(self, stream_id: int, data: bytes, end: bool, now: float, inputs: list[Input]) -> None:
        command = self._running.get(stream_id)
        if command is None:
            return  # an answer that we no longer wait for
        frames = self._feed(command.decoder, data, now)
        if frames:
            ack = messages.decode_ack(frames[0])
            if ack.msg_id != command.instruction.execution_id:
                raise PeerError("answers another command than the stream's")
            inputs.append(LegacyEnded(commands.read_answer(command.instruction, command.started, ack)))
        elif end:
            self._fail(command, "the client ended the command's stream without an answer")
            inputs += self.take_ended()
        else:
            return
        del self._running[stream_id]
        self._finish(stream_id, command)
        self._leave()

    def _feed(self, decoder: FrameDecoder, data: bytes, now: float) -> list[pb.Frame]:
        before = decoder.buffered
        frames = decoder.feed(data)
        self._buffered += decoder.buffered - before
        if self._buffered > self._limits.buffered:
            raise PeerError(f"{self._buffered} bytes of incomplete frames", CLOSE_FLOOD, "buffered")
        for frame in frames:
            self._limits.charge(self._bucket, 1 + len(frame.payload) / COST_UNIT, now)
            self.heard_at = now
        return frames

    # --- Writing ---

    def _pong(self, stream_id: int) -> None:
        # Our side of the exchange is over with it.
        self._writes.append((stream_id, encode(messages.pong()), True))

    def _finish(self, stream_id: int, command: _Command) -> None:
        self._buffered -= command.decoder.buffered
        if not command.deaf:
            self._writes.append((stream_id, b"", True))

    def _fail(self, command: _Command, error: str) -> None:
        self._ended.append(LegacyEnded(commands.failed(command.instruction, command.started, error)))
        self._leave()

    def _leave(self) -> None:
        if self._leaving and not self._running:
            self.close(CLOSE_GO_AWAY, self._leaving)
