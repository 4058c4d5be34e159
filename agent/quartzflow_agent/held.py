"""An execution that is not over, and what the engine has to know of it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence

from quartzflow_agent.cron import ScheduleError
from quartzflow_agent.executors.output import saved_output
from quartzflow_agent.executors.process import process_created
from quartzflow_agent.logs import event
from quartzflow_agent.paths import Home
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.runner import AGENT_STOPPED, Run, refused
from quartzflow_agent.schedule import FIRE_ALL, SKIP, Schedule, retry_delay
from quartzflow_agent.store.records import FAILURE, RUNNING, TIMEOUT, Ending, Open, utc

log = logging.getLogger(__name__)

EXECUTION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SCHEDULE, RETRY = "schedule", "retry"
# Meta key: when the agent was last alive (ms).
ALIVE_UNTIL = "alive_until"
# So late after its time a firing is not late but missed; shorter absences are those of a restart.
NOTICE = 20_000  # ms
# Why the server takes back what waits; what runs already goes on.
OF_WAITING = frozenset({"task_disabled", "task_changed"})
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


def lost(entry: Open, output: Path, now: int) -> Ending:
    """The end of what ran when the agent died. now: ms."""
    head, size, truncated = saved_output(output)
    return Ending(
        FAILURE,
        max(now, entry.started_at or 0),
        failure_reason=AGENT_STOPPED,
        error="the agent was restarted while this ran",
        output=head,
        output_size=size,
        truncated=truncated,
    )


def renew(held: Held, config: task_pb2.TaskConfig) -> str:
    """Bring what waits in line with its task's newer definition; why it is not to be run any more, "": it is.

    A firing that is still on the schedule, or was due before the schedule began, runs by the new definition.
    What somebody wanted to run runs as it was wanted.
    """
    instruction = held.instruction
    if not held.scheduled or not instruction.task_version or config.version <= instruction.task_version:
        return ""
    if not config.enabled:
        return "task_disabled"
    if instruction.scheduled_time > config.schedule_since:
        try:
            if not Schedule.from_task_config(config).fires_at(utc(instruction.scheduled_time)):
                return "task_changed"
        except ScheduleError:
            return "task_changed"
    instruction.task_name = config.name
    instruction.executor_type = config.executor_type
    instruction.executor_config.clear()
    instruction.executor_config.update(config.executor_config)
    instruction.timeout = config.timeout
    instruction.concurrency = config.concurrency
    instruction.concurrency_policy = config.concurrency_policy
    instruction.task_version = config.version
    return ""


def former_ends(
    found: Sequence[Open], configs: Mapping[str, task_pb2.TaskConfig], home: Home, now: int, alive_until: int
) -> Dict[str, Ending]:
    """What a former life of the agent left and is over: what ran, and firings that it missed, by execution id.

    now, alive_until: ms; when it last was seen alive. What it kept waiting until then it did not miss.
    """
    waiting = [entry.instruction for entry in found if entry.status != RUNNING]
    missed = [item for item in waiting if _due(item) > alive_until and now - _due(item) > NOTICE]
    ends = {name: refused("expired", why, now) for name, why in _dropped(missed, configs).items()}
    for entry in found:
        if entry.status == RUNNING:
            log.warning(event("agent_restarted", execution=entry.instruction.execution_id))
            ends[entry.instruction.execution_id] = lost(entry, home.log_file(entry.log), now)
    return ends


def _due(instruction: task_pb2.TaskExecution) -> int:
    return instruction.scheduled_time + instruction.delay_ms


def _dropped(
    missed: Iterable[task_pb2.TaskExecution], configs: Mapping[str, task_pb2.TaskConfig]
) -> Dict[str, str]:
    """Which missed firings are not made up for, and why: skip does it for none, fire_once for the latest."""
    by_task: Dict[str, List[task_pb2.TaskExecution]] = {}
    for item in missed:
        if item.trigger in ("", SCHEDULE):
            by_task.setdefault(item.task_id, []).append(item)
    found: Dict[str, str] = {}
    for task_id, items in by_task.items():
        policy = configs[task_id].misfire_policy if task_id in configs else ""
        latest = max(item.scheduled_time for item in items)
        for item in items:
            if policy == SKIP:
                found[item.execution_id] = "the agent was not running then, and the task skips what it missed"
            elif policy != FIRE_ALL and item.scheduled_time < latest:
                found[item.execution_id] = "the agent was not running then; a later one makes up for it"
    return found


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
    wait = retry_delay(config.retry_interval, instruction.attempt, config.retry_max_interval)
    again.delay_ms = ending.finished_at + wait * 1000 - again.scheduled_time
    again.expires_at = 0
    return again
