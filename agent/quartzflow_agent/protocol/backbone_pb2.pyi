from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FrameType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAME_TYPE_UNSPECIFIED: _ClassVar[FrameType]
    FRAME_TYPE_PING: _ClassVar[FrameType]
    FRAME_TYPE_PONG: _ClassVar[FrameType]
    FRAME_TYPE_DATA: _ClassVar[FrameType]
    FRAME_TYPE_ACK: _ClassVar[FrameType]

class MessageType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MESSAGE_TYPE_UNSPECIFIED: _ClassVar[MessageType]
    MESSAGE_TYPE_COMMAND: _ClassVar[MessageType]
    MESSAGE_TYPE_EVENT: _ClassVar[MessageType]
    MESSAGE_TYPE_QUERY: _ClassVar[MessageType]
    MESSAGE_TYPE_RESPONSE: _ClassVar[MessageType]
    MESSAGE_TYPE_TASK_CONFIG_PUSH: _ClassVar[MessageType]
    MESSAGE_TYPE_TASK_CONFIG_PULL: _ClassVar[MessageType]
    MESSAGE_TYPE_TASK_CONFIG_RESPONSE: _ClassVar[MessageType]
    MESSAGE_TYPE_TASK_EXECUTION: _ClassVar[MessageType]
    MESSAGE_TYPE_TASK_PROGRESS: _ClassVar[MessageType]
    MESSAGE_TYPE_TASK_RESULT: _ClassVar[MessageType]
    MESSAGE_TYPE_DAILY_STATS_REPORT: _ClassVar[MessageType]
    MESSAGE_TYPE_OFFLINE_SYNC_REQUEST: _ClassVar[MessageType]
    MESSAGE_TYPE_OFFLINE_SYNC_RESPONSE: _ClassVar[MessageType]
    MESSAGE_TYPE_REGISTER: _ClassVar[MessageType]
    MESSAGE_TYPE_REGISTER_RESPONSE: _ClassVar[MessageType]
    MESSAGE_TYPE_TASK_CANCEL: _ClassVar[MessageType]
    MESSAGE_TYPE_LOG_WATCH: _ClassVar[MessageType]
    MESSAGE_TYPE_LOG_FETCH: _ClassVar[MessageType]
    MESSAGE_TYPE_LOG_CHUNK: _ClassVar[MessageType]
    MESSAGE_TYPE_GO_AWAY: _ClassVar[MessageType]

class AckStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACK_STATUS_UNSPECIFIED: _ClassVar[AckStatus]
    ACK_STATUS_SUCCESS: _ClassVar[AckStatus]
    ACK_STATUS_FAILURE: _ClassVar[AckStatus]
    ACK_STATUS_TIMEOUT: _ClassVar[AckStatus]
FRAME_TYPE_UNSPECIFIED: FrameType
FRAME_TYPE_PING: FrameType
FRAME_TYPE_PONG: FrameType
FRAME_TYPE_DATA: FrameType
FRAME_TYPE_ACK: FrameType
MESSAGE_TYPE_UNSPECIFIED: MessageType
MESSAGE_TYPE_COMMAND: MessageType
MESSAGE_TYPE_EVENT: MessageType
MESSAGE_TYPE_QUERY: MessageType
MESSAGE_TYPE_RESPONSE: MessageType
MESSAGE_TYPE_TASK_CONFIG_PUSH: MessageType
MESSAGE_TYPE_TASK_CONFIG_PULL: MessageType
MESSAGE_TYPE_TASK_CONFIG_RESPONSE: MessageType
MESSAGE_TYPE_TASK_EXECUTION: MessageType
MESSAGE_TYPE_TASK_PROGRESS: MessageType
MESSAGE_TYPE_TASK_RESULT: MessageType
MESSAGE_TYPE_DAILY_STATS_REPORT: MessageType
MESSAGE_TYPE_OFFLINE_SYNC_REQUEST: MessageType
MESSAGE_TYPE_OFFLINE_SYNC_RESPONSE: MessageType
MESSAGE_TYPE_REGISTER: MessageType
MESSAGE_TYPE_REGISTER_RESPONSE: MessageType
MESSAGE_TYPE_TASK_CANCEL: MessageType
MESSAGE_TYPE_LOG_WATCH: MessageType
MESSAGE_TYPE_LOG_FETCH: MessageType
MESSAGE_TYPE_LOG_CHUNK: MessageType
MESSAGE_TYPE_GO_AWAY: MessageType
ACK_STATUS_UNSPECIFIED: AckStatus
ACK_STATUS_SUCCESS: AckStatus
ACK_STATUS_FAILURE: AckStatus
ACK_STATUS_TIMEOUT: AckStatus

class Frame(_message.Message):
    __slots__ = ("type", "payload", "timestamp")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    type: FrameType
    payload: bytes
    timestamp: int
    def __init__(self, type: _Optional[_Union[FrameType, str]] = ..., payload: _Optional[bytes] = ..., timestamp: _Optional[int] = ...) -> None: ...

class PingFrame(_message.Message):
    __slots__ = ("client_id", "config_version", "running", "sent_at", "unacknowledged")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    UNACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    config_version: int
    running: int
    sent_at: int
    unacknowledged: int
    def __init__(self, client_id: _Optional[str] = ..., config_version: _Optional[int] = ..., running: _Optional[int] = ..., sent_at: _Optional[int] = ..., unacknowledged: _Optional[int] = ...) -> None: ...

class PongFrame(_message.Message):
    __slots__ = ("server_time", "config_version", "scheduler_alive", "sent_at")
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_ALIVE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    server_time: int
    config_version: int
    scheduler_alive: bool
    sent_at: int
    def __init__(self, server_time: _Optional[int] = ..., config_version: _Optional[int] = ..., scheduler_alive: bool = ..., sent_at: _Optional[int] = ...) -> None: ...

class DataMessage(_message.Message):
    __slots__ = ("msg_id", "sender_id", "receiver_id", "type", "payload", "wait_ack", "timestamp")
    MSG_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    WAIT_ACK_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    msg_id: str
    sender_id: str
    receiver_id: str
    type: MessageType
    payload: bytes
    wait_ack: bool
    timestamp: int
    def __init__(self, msg_id: _Optional[str] = ..., sender_id: _Optional[str] = ..., receiver_id: _Optional[str] = ..., type: _Optional[_Union[MessageType, str]] = ..., payload: _Optional[bytes] = ..., wait_ack: bool = ..., timestamp: _Optional[int] = ...) -> None: ...

class AckMessage(_message.Message):
    __slots__ = ("msg_id", "status", "result", "error", "more_msg_ids")
    MSG_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MORE_MSG_IDS_FIELD_NUMBER: _ClassVar[int]
    msg_id: str
    status: AckStatus
    result: bytes
    error: str
    more_msg_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, msg_id: _Optional[str] = ..., status: _Optional[_Union[AckStatus, str]] = ..., result: _Optional[bytes] = ..., error: _Optional[str] = ..., more_msg_ids: _Optional[_Iterable[str]] = ...) -> None: ...
