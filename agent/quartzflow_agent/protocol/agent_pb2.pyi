from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterRequest(_message.Message):
    __slots__ = ("client_id", "credential", "enrollment_token", "protocol_version", "agent_version", "hostname", "os", "arch", "labels", "group", "config_version", "unacknowledged", "python_version", "features")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    ENROLLMENT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    ARCH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    UNACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    credential: str
    enrollment_token: str
    protocol_version: int
    agent_version: str
    hostname: str
    os: str
    arch: str
    labels: _containers.ScalarMap[str, str]
    group: str
    config_version: int
    unacknowledged: int
    python_version: str
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, client_id: _Optional[str] = ..., credential: _Optional[str] = ..., enrollment_token: _Optional[str] = ..., protocol_version: _Optional[int] = ..., agent_version: _Optional[str] = ..., hostname: _Optional[str] = ..., os: _Optional[str] = ..., arch: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., group: _Optional[str] = ..., config_version: _Optional[int] = ..., unacknowledged: _Optional[int] = ..., python_version: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("accepted", "code", "message", "client_id", "credential", "group", "server_time", "config_version", "heartbeat_interval", "scheduler_alive", "bridge_id", "endpoints", "protocol_version")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_ALIVE_FIELD_NUMBER: _ClassVar[int]
    BRIDGE_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    code: str
    message: str
    client_id: str
    credential: str
    group: str
    server_time: int
    config_version: int
    heartbeat_interval: int
    scheduler_alive: bool
    bridge_id: str
    endpoints: _containers.RepeatedScalarFieldContainer[str]
    protocol_version: int
    def __init__(self, accepted: bool = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., client_id: _Optional[str] = ..., credential: _Optional[str] = ..., group: _Optional[str] = ..., server_time: _Optional[int] = ..., config_version: _Optional[int] = ..., heartbeat_interval: _Optional[int] = ..., scheduler_alive: bool = ..., bridge_id: _Optional[str] = ..., endpoints: _Optional[_Iterable[str]] = ..., protocol_version: _Optional[int] = ...) -> None: ...

class TaskCancel(_message.Message):
    __slots__ = ("execution_ids", "reason")
    EXECUTION_IDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    execution_ids: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    def __init__(self, execution_ids: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ...) -> None: ...

class LogWatch(_message.Message):
    __slots__ = ("execution_id", "watching")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    WATCHING_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    watching: bool
    def __init__(self, execution_id: _Optional[str] = ..., watching: bool = ...) -> None: ...

class LogFetch(_message.Message):
    __slots__ = ("request_id", "execution_id", "offset", "limit")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    execution_id: str
    offset: int
    limit: int
    def __init__(self, request_id: _Optional[str] = ..., execution_id: _Optional[str] = ..., offset: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class LogChunk(_message.Message):
    __slots__ = ("request_id", "execution_id", "offset", "total", "data", "last", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    execution_id: str
    offset: int
    total: int
    data: bytes
    last: bool
    error: str
    def __init__(self, request_id: _Optional[str] = ..., execution_id: _Optional[str] = ..., offset: _Optional[int] = ..., total: _Optional[int] = ..., data: _Optional[bytes] = ..., last: bool = ..., error: _Optional[str] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("reason", "endpoints", "delay_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    endpoints: _containers.RepeatedScalarFieldContainer[str]
    delay_ms: int
    def __init__(self, reason: _Optional[str] = ..., endpoints: _Optional[_Iterable[str]] = ..., delay_ms: _Optional[int] = ...) -> None: ...
