"""Building and reading the frames of the control stream."""

from __future__ import annotations

import time
from typing import Dict, Iterable, Optional, Tuple, Type, TypeVar

from google.protobuf.message import DecodeError, Message

from quartzflow_agent.protocol import agent_pb2, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb

M = TypeVar("M", bound=Message)

# The payload of every DATA message our ALPN knows. Anything else is an error of the peer.
PAYLOADS: Dict[pb.MessageType, Type[Message]] = {
    pb.MESSAGE_TYPE_TASK_CONFIG_PUSH: task_pb2.TaskConfigPush,
    pb.MESSAGE_TYPE_TASK_CONFIG_PULL: task_pb2.TaskConfigPull,
    pb.MESSAGE_TYPE_TASK_CONFIG_RESPONSE: task_pb2.TaskConfigResponse,
    pb.MESSAGE_TYPE_TASK_EXECUTION: task_pb2.TaskExecution,
    pb.MESSAGE_TYPE_TASK_PROGRESS: task_pb2.TaskProgress,
    pb.MESSAGE_TYPE_TASK_RESULT: task_pb2.TaskResult,
    pb.MESSAGE_TYPE_DAILY_STATS_REPORT: task_pb2.DailyStatsReport,
    pb.MESSAGE_TYPE_OFFLINE_SYNC_REQUEST: task_pb2.OfflineSyncRequest,
    pb.MESSAGE_TYPE_OFFLINE_SYNC_RESPONSE: task_pb2.OfflineSyncResponse,
    pb.MESSAGE_TYPE_REGISTER: agent_pb2.RegisterRequest,
    pb.MESSAGE_TYPE_REGISTER_RESPONSE: agent_pb2.RegisterResponse,
    pb.MESSAGE_TYPE_TASK_CANCEL: agent_pb2.TaskCancel,
    pb.MESSAGE_TYPE_LOG_WATCH: agent_pb2.LogWatch,
    pb.MESSAGE_TYPE_LOG_FETCH: agent_pb2.LogFetch,
    pb.MESSAGE_TYPE_LOG_CHUNK: agent_pb2.LogChunk,
    pb.MESSAGE_TYPE_GO_AWAY: agent_pb2.GoAway,
}


class MessageError(ValueError):
    """A well-formed frame whose content is unknown or malformed."""


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def ping(
    client_id: str,
    *,
    config_version: int = 0,
    running: int = 0,
    unacknowledged: int = 0,
    sent_at: Optional[int] = None,
) -> pb.Frame:
    """A heartbeat. `sent_at` (agent's clock, ms) comes back in the PONG; None: now."""
    now = now_ms()
    body = pb.PingFrame(
        client_id=client_id,
        config_version=config_version,
        running=running,
        unacknowledged=unacknowledged,
        sent_at=now if sent_at is None else sent_at,
    )
    return pb.Frame(type=pb.FRAME_TYPE_PING, payload=body.SerializeToString(), timestamp=now)


def pong(
    *,
    config_version: int = 0,
    scheduler_alive: bool = False,
    sent_at: int = 0,
    server_time: Optional[int] = None,
) -> pb.Frame:
    """The answer to a PING; `sent_at` is the PING's. `server_time` None: now."""
    now = now_ms() if server_time is None else server_time
    body = pb.PongFrame(
        server_time=now, config_version=config_version, scheduler_alive=scheduler_alive, sent_at=sent_at
    )
    return pb.Frame(type=pb.FRAME_TYPE_PONG, payload=body.SerializeToString(), timestamp=now)


def data(
    type: pb.MessageType,
    message: Message,
    msg_id: str = "",
    *,
    sender_id: str = "",
    receiver_id: str = "",
    wait_ack: bool = False,
) -> pb.Frame:
    """A DATA frame carrying `message`, which must be of the class that PAYLOADS names for `type`."""
    if not isinstance(message, PAYLOADS[type]):
        raise TypeError(f"{message.DESCRIPTOR.name} is not the payload of {pb.MessageType.Name(type)}")
    now = now_ms()
    body = pb.DataMessage(
        msg_id=msg_id,
        sender_id=sender_id,
        receiver_id=receiver_id,
        type=type,
        payload=message.SerializeToString(),
        wait_ack=wait_ack,
        timestamp=now,
    )
    return pb.Frame(type=pb.FRAME_TYPE_DATA, payload=body.SerializeToString(), timestamp=now)


def ack(
    msg_id: str,
    status: pb.AckStatus = pb.ACK_STATUS_SUCCESS,
    *,
    result: bytes = b"",
    error: str = "",
    more_msg_ids: Iterable[str] = (),
) -> pb.Frame:
    """An ACK of `msg_id`, and of `more_msg_ids` with the same status."""
    body = pb.AckMessage(msg_id=msg_id, status=status, result=result, error=error, more_msg_ids=more_msg_ids)
    return pb.Frame(type=pb.FRAME_TYPE_ACK, payload=body.SerializeToString(), timestamp=now_ms())


def decode_ping(frame: pb.Frame) -> pb.PingFrame:
    """Raises MessageError when the frame is not a PING."""
    return _parse(pb.PingFrame, _payload(frame, pb.FRAME_TYPE_PING))


def decode_pong(frame: pb.Frame) -> pb.PongFrame:
    """Raises MessageError when the frame is not a PONG."""
    return _parse(pb.PongFrame, _payload(frame, pb.FRAME_TYPE_PONG))


def decode_ack(frame: pb.Frame) -> pb.AckMessage:
    """Raises MessageError when the frame is not an ACK or names no message."""
    message = _parse(pb.AckMessage, _payload(frame, pb.FRAME_TYPE_ACK))
    if not message.msg_id:
        raise MessageError("ACK without msg_id")
    return message


def decode_data(frame: pb.Frame) -> Tuple[pb.DataMessage, Message]:
    """The envelope and its typed payload. Raises MessageError on an unknown type or a malformed payload."""
    envelope = decode_envelope(frame)
    cls = PAYLOADS.get(envelope.type)
    if cls is None:
        raise MessageError(f"unknown message type {int(envelope.type)}")
    return envelope, _parse(cls, envelope.payload)


def decode_envelope(frame: pb.Frame) -> pb.DataMessage:
    """A DATA frame's envelope, whatever it carries. Raises MessageError when the frame is not DATA."""
    return _parse(pb.DataMessage, _payload(frame, pb.FRAME_TYPE_DATA))


def _payload(frame: pb.Frame, expected: pb.FrameType) -> bytes:
    if frame.type != expected:
        raise MessageError(f"frame type {int(frame.type)} where {int(expected)} was expected")
    return frame.payload


def _parse(cls: Type[M], payload: bytes) -> M:
    try:
        return cls.FromString(payload)
    except DecodeError:
        raise MessageError(f"malformed {cls.DESCRIPTOR.name}") from None
