"""What goes into the store and comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import List, Optional

from quartzflow_agent.protocol import task_pb2

# Values of the wire's ExecutionStatus; the order is the order of an execution's life.
PENDING = int(task_pb2.PENDING)
RUNNING = int(task_pb2.RUNNING)
SUCCESS = int(task_pb2.SUCCESS)
FAILURE = int(task_pb2.FAILURE)
TIMEOUT = int(task_pb2.TIMEOUT)
CANCELLED = int(task_pb2.CANCELLED)
STATUS_NAMES = ("pending", "running", "success", "failure", "timeout", "cancelled")


def is_end(status: int) -> bool:
    """Whether an attempt with this status is over."""
    return status >= SUCCESS


def utc_day(milliseconds: int) -> str:
    """YYYY-MM-DD of a moment."""
    return utc(milliseconds).strftime("%Y-%m-%d")


def utc(milliseconds: int) -> datetime:
    """Unix ms as an aware datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)


class Added(Enum):
    """What became of an instruction that was to be stored."""

    NEW = "new"  # the execution, or a new attempt of it, is to be run
    KNOWN = "known"  # it is stored and not over yet
    ADOPTED = "adopted"  # a later attempt of what still runs: that run now counts as this attempt
    ENDED = "ended"  # it is over; its result is to be sent again


@dataclass(frozen=True)
class Execution:
    """One execution, as its current attempt stands."""

    execution_id: str
    task_id: str
    task_name: str
    local: bool
    scheduled_at: int
    attempt: int
    status: int
    day: str
    started_at: Optional[int]
    finished_at: Optional[int]
    exit_code: Optional[int]
    failure_reason: str
    log: str
    synced: bool

    @property
    def status_name(self) -> str:
        return STATUS_NAMES[self.status]

    @property
    def duration_ms(self) -> Optional[int]:
        """None while it runs, and when it never did."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(self.finished_at - self.started_at, 0)


@dataclass(frozen=True)
class Open:
    """An execution that is not over, as found after a restart."""

    instruction: task_pb2.TaskExecution
    local: bool
    status: int
    started_at: Optional[int]
    log: str
    pid: Optional[int]
    pid_created: Optional[float]


@dataclass(frozen=True)
class Ending:
    """How an attempt ended."""

    status: int
    finished_at: int  # ms
    exit_code: Optional[int] = None
    failure_reason: str = ""
    output: str = ""  # its start, OUTPUT_LIMIT bytes at most
    error: str = ""  # the end of stderr, or why it could not run, ERROR_LIMIT bytes at most
    output_size: int = 0  # bytes
    truncated: bool = False


@dataclass(frozen=True)
class Pending:
    """A result that the server has not acknowledged."""

    row: int  # ascends with the order of the ends
    result: task_pb2.TaskResult
    sync_attempts: int
    last_sync_at: int  # ms; 0: never


@dataclass(frozen=True)
class DayStats:
    """One task's day."""

    day: str
    task_id: str
    task_name: str
    success: int
    failure: int
    timeout: int
    cancelled: int
    timed: int
    total_ms: int
    max_ms: int
    min_ms: int
    hourly: List[int]
    updated_at: int

    @property
    def total(self) -> int:
        return self.success + self.failure + self.timeout + self.cancelled

    @property
    def avg_ms(self) -> int:
        """Over those that had started."""
        return round(self.total_ms / self.timed) if self.timed else 0


@dataclass(frozen=True)
class CachedTask:
    """A task as the server last described it."""

    config: task_pb2.TaskConfig
    changed_at: int  # ms; since when the agent has it with this schedule
    fired_at: int  # ms; 0: never
