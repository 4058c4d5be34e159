"""An execution that is not over, and what the engine has to know of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from quartzflow_agent.executors.process import process_created
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.runner import Run
from quartzflow_agent.store.records import FAILURE, TIMEOUT, Ending, Open

EXECUTION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SCHEDULE, RETRY = "schedule", "retry"
# Trying again would change nothing.
FINAL_REASONS = frozenset({"rejected", "expired", "concurrency"})


@dataclass
class Held:
    """An execution that is not over."""

    instruction: task_pb2.TaskExecution
    local: bool
    over: bool = False  # its end is being written down
    run: Optional[Run] = None  # set from its start on

    @property
    def scheduled(self) -> bool:
        """Whether a schedule fired it, rather than somebody who wants this run."""
        return self.local or self.instruction.trigger in ("", SCHEDULE)


def refusal(instruction: task_pb2.TaskExecution) -> str:
    """Why an instruction cannot even be stored; "": it can. Its ids become a file's name."""
    if not EXECUTION_ID.fullmatch(instruction.execution_id):
        return "rejected: malformed execution id"
    if not TASK_ID.fullmatch(instruction.task_id):
        return "rejected: malformed task id"
    return ""


def same_process(entry: Open) -> bool:
    """Whether the pid still is the process that was started then, and not a later one that got its number."""
    created = process_created(entry.pid or 0)
    return created is not None and entry.pid_created is not None and abs(created - entry.pid_created) < 1.0


def next_attempt(
    instruction: task_pb2.TaskExecution, config: Optional[task_pb2.TaskConfig], ending: Ending
) -> Optional[task_pb2.TaskExecution]:
    """The next attempt of what the agent fired and what has failed; None when there is none."""
    if (
        ending.status not in (FAILURE, TIMEOUT)
        or ending.failure_reason in FINAL_REASONS
        or config is None
        or not config.enabled
        or instruction.attempt >= config.retry_count
    ):
        return None
    again = task_pb2.TaskExecution()
    again.CopyFrom(instruction)
    again.attempt += 1
    again.trigger = RETRY
    again.delay_ms = ending.finished_at + config.retry_interval * 1000 - again.scheduled_time
    again.expires_at = 0
    return again
