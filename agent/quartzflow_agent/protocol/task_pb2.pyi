from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PushAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ADD: _ClassVar[PushAction]
    UPDATE: _ClassVar[PushAction]
    DELETE: _ClassVar[PushAction]
    FULL_SYNC: _ClassVar[PushAction]

class ExecutorType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHELL: _ClassVar[ExecutorType]
    HTTP: _ClassVar[ExecutorType]
    PLUGIN: _ClassVar[ExecutorType]

class ExecutionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PENDING: _ClassVar[ExecutionStatus]
    RUNNING: _ClassVar[ExecutionStatus]
    SUCCESS: _ClassVar[ExecutionStatus]
    FAILURE: _ClassVar[ExecutionStatus]
    TIMEOUT: _ClassVar[ExecutionStatus]
    CANCELLED: _ClassVar[ExecutionStatus]
ADD: PushAction
UPDATE: PushAction
DELETE: PushAction
FULL_SYNC: PushAction
SHELL: ExecutorType
HTTP: ExecutorType
PLUGIN: ExecutorType
PENDING: ExecutionStatus
RUNNING: ExecutionStatus
SUCCESS: ExecutionStatus
FAILURE: ExecutionStatus
TIMEOUT: ExecutionStatus
CANCELLED: ExecutionStatus

class TaskConfig(_message.Message):
    __slots__ = ("id", "name", "executor_type", "executor_config", "cron_expr", "timeout", "retry_count", "retry_interval", "enabled", "version", "schedule_type", "timezone", "interval_seconds", "run_at", "anchor_at", "start_at", "end_at", "misfire_policy", "misfire_grace", "concurrency", "concurrency_policy", "local_firing", "spread_seconds", "schedule_since", "calendar", "calendar_mode", "retry_max_interval")
    class ExecutorConfigEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_TYPE_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_CONFIG_FIELD_NUMBER: _ClassVar[int]
    CRON_EXPR_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    RETRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    RETRY_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_TYPE_FIELD_NUMBER: _ClassVar[int]
    TIMEZONE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RUN_AT_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_AT_FIELD_NUMBER: _ClassVar[int]
    START_AT_FIELD_NUMBER: _ClassVar[int]
    END_AT_FIELD_NUMBER: _ClassVar[int]
    MISFIRE_POLICY_FIELD_NUMBER: _ClassVar[int]
    MISFIRE_GRACE_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_POLICY_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIRING_FIELD_NUMBER: _ClassVar[int]
    SPREAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_SINCE_FIELD_NUMBER: _ClassVar[int]
    CALENDAR_FIELD_NUMBER: _ClassVar[int]
    CALENDAR_MODE_FIELD_NUMBER: _ClassVar[int]
    RETRY_MAX_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    executor_type: ExecutorType
    executor_config: _containers.ScalarMap[str, str]
    cron_expr: str
    timeout: int
    retry_count: int
    retry_interval: int
    enabled: bool
    version: int
    schedule_type: str
    timezone: str
    interval_seconds: int
    run_at: int
    anchor_at: int
    start_at: int
    end_at: int
    misfire_policy: str
    misfire_grace: int
    concurrency: int
    concurrency_policy: str
    local_firing: bool
    spread_seconds: int
    schedule_since: int
    calendar: str
    calendar_mode: str
    retry_max_interval: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., executor_type: _Optional[_Union[ExecutorType, str]] = ..., executor_config: _Optional[_Mapping[str, str]] = ..., cron_expr: _Optional[str] = ..., timeout: _Optional[int] = ..., retry_count: _Optional[int] = ..., retry_interval: _Optional[int] = ..., enabled: bool = ..., version: _Optional[int] = ..., schedule_type: _Optional[str] = ..., timezone: _Optional[str] = ..., interval_seconds: _Optional[int] = ..., run_at: _Optional[int] = ..., anchor_at: _Optional[int] = ..., start_at: _Optional[int] = ..., end_at: _Optional[int] = ..., misfire_policy: _Optional[str] = ..., misfire_grace: _Optional[int] = ..., concurrency: _Optional[int] = ..., concurrency_policy: _Optional[str] = ..., local_firing: bool = ..., spread_seconds: _Optional[int] = ..., schedule_since: _Optional[int] = ..., calendar: _Optional[str] = ..., calendar_mode: _Optional[str] = ..., retry_max_interval: _Optional[int] = ...) -> None: ...

class TaskConfigPush(_message.Message):
    __slots__ = ("tasks", "version", "action", "deleted_task_ids", "part", "parts")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DELETED_TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[TaskConfig]
    version: int
    action: PushAction
    deleted_task_ids: _containers.RepeatedScalarFieldContainer[str]
    part: int
    parts: int
    def __init__(self, tasks: _Optional[_Iterable[_Union[TaskConfig, _Mapping]]] = ..., version: _Optional[int] = ..., action: _Optional[_Union[PushAction, str]] = ..., deleted_task_ids: _Optional[_Iterable[str]] = ..., part: _Optional[int] = ..., parts: _Optional[int] = ...) -> None: ...

class TaskConfigPull(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class TaskConfigResponse(_message.Message):
    __slots__ = ("tasks", "version", "action", "deleted_task_ids", "part", "parts")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DELETED_TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[TaskConfig]
    version: int
    action: PushAction
    deleted_task_ids: _containers.RepeatedScalarFieldContainer[str]
    part: int
    parts: int
    def __init__(self, tasks: _Optional[_Iterable[_Union[TaskConfig, _Mapping]]] = ..., version: _Optional[int] = ..., action: _Optional[_Union[PushAction, str]] = ..., deleted_task_ids: _Optional[_Iterable[str]] = ..., part: _Optional[int] = ..., parts: _Optional[int] = ...) -> None: ...

class TaskExecution(_message.Message):
    __slots__ = ("task_id", "task_name", "execution_id", "executor_type", "executor_config", "timeout", "params", "scheduled_time", "run_id", "attempt", "shard_index", "shard_total", "concurrency", "concurrency_policy", "task_version", "trigger", "expires_at", "delay_ms")
    class ExecutorConfigEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_NAME_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_TYPE_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_CONFIG_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_TIME_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SHARD_INDEX_FIELD_NUMBER: _ClassVar[int]
    SHARD_TOTAL_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_POLICY_FIELD_NUMBER: _ClassVar[int]
    TASK_VERSION_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    task_name: str
    execution_id: str
    executor_type: ExecutorType
    executor_config: _containers.ScalarMap[str, str]
    timeout: int
    params: _containers.ScalarMap[str, str]
    scheduled_time: int
    run_id: str
    attempt: int
    shard_index: int
    shard_total: int
    concurrency: int
    concurrency_policy: str
    task_version: int
    trigger: str
    expires_at: int
    delay_ms: int
    def __init__(self, task_id: _Optional[str] = ..., task_name: _Optional[str] = ..., execution_id: _Optional[str] = ..., executor_type: _Optional[_Union[ExecutorType, str]] = ..., executor_config: _Optional[_Mapping[str, str]] = ..., timeout: _Optional[int] = ..., params: _Optional[_Mapping[str, str]] = ..., scheduled_time: _Optional[int] = ..., run_id: _Optional[str] = ..., attempt: _Optional[int] = ..., shard_index: _Optional[int] = ..., shard_total: _Optional[int] = ..., concurrency: _Optional[int] = ..., concurrency_policy: _Optional[str] = ..., task_version: _Optional[int] = ..., trigger: _Optional[str] = ..., expires_at: _Optional[int] = ..., delay_ms: _Optional[int] = ...) -> None: ...

class TaskProgress(_message.Message):
    __slots__ = ("execution_id", "task_id", "status", "started_at", "output", "output_offset", "attempt")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    task_id: str
    status: ExecutionStatus
    started_at: int
    output: str
    output_offset: int
    attempt: int
    def __init__(self, execution_id: _Optional[str] = ..., task_id: _Optional[str] = ..., status: _Optional[_Union[ExecutionStatus, str]] = ..., started_at: _Optional[int] = ..., output: _Optional[str] = ..., output_offset: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class TaskResult(_message.Message):
    __slots__ = ("execution_id", "task_id", "status", "started_at", "finished_at", "exit_code", "output", "error", "retry_count", "failure_reason", "truncated", "output_size", "scheduled_time", "local", "run_id", "attempt", "shard_index", "shard_total", "task_name", "has_exit_code")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SIZE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_TIME_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SHARD_INDEX_FIELD_NUMBER: _ClassVar[int]
    SHARD_TOTAL_FIELD_NUMBER: _ClassVar[int]
    TASK_NAME_FIELD_NUMBER: _ClassVar[int]
    HAS_EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    task_id: str
    status: ExecutionStatus
    started_at: int
    finished_at: int
    exit_code: int
    output: str
    error: str
    retry_count: int
    failure_reason: str
    truncated: bool
    output_size: int
    scheduled_time: int
    local: bool
    run_id: str
    attempt: int
    shard_index: int
    shard_total: int
    task_name: str
    has_exit_code: bool
    def __init__(self, execution_id: _Optional[str] = ..., task_id: _Optional[str] = ..., status: _Optional[_Union[ExecutionStatus, str]] = ..., started_at: _Optional[int] = ..., finished_at: _Optional[int] = ..., exit_code: _Optional[int] = ..., output: _Optional[str] = ..., error: _Optional[str] = ..., retry_count: _Optional[int] = ..., failure_reason: _Optional[str] = ..., truncated: bool = ..., output_size: _Optional[int] = ..., scheduled_time: _Optional[int] = ..., local: bool = ..., run_id: _Optional[str] = ..., attempt: _Optional[int] = ..., shard_index: _Optional[int] = ..., shard_total: _Optional[int] = ..., task_name: _Optional[str] = ..., has_exit_code: bool = ...) -> None: ...

class TaskStats(_message.Message):
    __slots__ = ("task_id", "task_name", "success_count", "failure_count", "timeout_count", "cancelled_count", "total_duration_ms", "max_duration_ms", "min_duration_ms")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_NAME_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_COUNT_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    task_name: str
    success_count: int
    failure_count: int
    timeout_count: int
    cancelled_count: int
    total_duration_ms: int
    max_duration_ms: int
    min_duration_ms: int
    def __init__(self, task_id: _Optional[str] = ..., task_name: _Optional[str] = ..., success_count: _Optional[int] = ..., failure_count: _Optional[int] = ..., timeout_count: _Optional[int] = ..., cancelled_count: _Optional[int] = ..., total_duration_ms: _Optional[int] = ..., max_duration_ms: _Optional[int] = ..., min_duration_ms: _Optional[int] = ...) -> None: ...

class DailyStatsReport(_message.Message):
    __slots__ = ("client_id", "date", "task_stats", "report_time")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    TASK_STATS_FIELD_NUMBER: _ClassVar[int]
    REPORT_TIME_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    date: str
    task_stats: _containers.RepeatedCompositeFieldContainer[TaskStats]
    report_time: int
    def __init__(self, client_id: _Optional[str] = ..., date: _Optional[str] = ..., task_stats: _Optional[_Iterable[_Union[TaskStats, _Mapping]]] = ..., report_time: _Optional[int] = ...) -> None: ...

class OfflineSyncRequest(_message.Message):
    __slots__ = ("client_id", "last_sync_time", "record_count", "records")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_SYNC_TIME_FIELD_NUMBER: _ClassVar[int]
    RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    last_sync_time: int
    record_count: int
    records: _containers.RepeatedCompositeFieldContainer[TaskResult]
    def __init__(self, client_id: _Optional[str] = ..., last_sync_time: _Optional[int] = ..., record_count: _Optional[int] = ..., records: _Optional[_Iterable[_Union[TaskResult, _Mapping]]] = ...) -> None: ...

class OfflineSyncResponse(_message.Message):
    __slots__ = ("success", "message", "synced_count", "server_time", "execution_ids", "refused_ids")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SYNCED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_IDS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_IDS_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    synced_count: int
    server_time: int
    execution_ids: _containers.RepeatedScalarFieldContainer[str]
    refused_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, success: bool = ..., message: _Optional[str] = ..., synced_count: _Optional[int] = ..., server_time: _Optional[int] = ..., execution_ids: _Optional[_Iterable[str]] = ..., refused_ids: _Optional[_Iterable[str]] = ...) -> None: ...
