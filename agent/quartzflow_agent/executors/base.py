"""What every executor is given, and what it gives back."""

from __future__ import annotations

import asyncio
import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, FrozenSet, Mapping, Optional, Protocol

from quartzflow_agent.executors.output import Output
from quartzflow_agent.masking import SETTING as SECRETS_SETTING
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.script_text import PARAM_PREFIX
from quartzflow_agent.substitution import SECRETS, Placeholder, SubstitutionError, rewrite

PARAM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
DEFAULTS = "parameters"  # the setting of every executor with the values of parameters that are not given
MAX_PARAMS = 128 * 1024  # bytes of all parameters together; the system allows some MB for the environment
# Of the agent's own environment, what is its own business.
PRIVATE_PREFIXES = ("QUICFLOW_", "QF_")


class Rejected(Exception):
    """This host will not run it; the message says what to change."""


class StartFailed(Exception):
    """It was to run but could not be started."""


@dataclass(frozen=True)
class Outcome:
    """How it went."""

    exit_code: Optional[int] = None  # 0: success; None: see reason
    reason: str = ""  # why it failed; "" is success when there is no exit code
    error: str = ""  # for people; "": the end of stderr
    stopped: bool = False  # it ended because it was told to


class Stop:
    """Tells a running execution to end."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.reason = ""

    def request(self, reason: str) -> None:
        """End it; the first reason counts."""
        if not self.event.is_set():
            self.reason = reason
            self.event.set()

    async def or_done(self, work: "asyncio.Future[Any]") -> bool:
        """Wait until the work is done or is to be ended; True when it is to be ended."""
        requested: "asyncio.Future[Any]" = asyncio.ensure_future(self.event.wait())
        try:
            await asyncio.wait([work, requested], return_when=asyncio.FIRST_COMPLETED)
        finally:
            requested.cancel()
        return not work.done()


@dataclass
class Job:
    """One attempt that is to be run."""

    instruction: task_pb2.TaskExecution
    output: Output
    scripts: Path  # directory for script texts while they run
    on_process: Callable[[int], Awaitable[None]]  # told the process group's leader
    stop: Stop = field(default_factory=Stop)
    # Raises Rejected for a host that an HTTP task may not be sent on to.
    check_host: Callable[[str], None] = lambda host: None

    @property
    def config(self) -> Mapping[str, str]:
        return self.instruction.executor_config

    def check_settings(self, known: FrozenSet[str]) -> None:
        """Raise Rejected for settings this executor does not have: better not at all than not as meant."""
        unknown = sorted(set(self.config) - known - {DEFAULTS, SECRETS_SETTING})
        if unknown:
            raise Rejected(f"unknown setting: {', '.join(unknown)}")

    def json_object(self, name: str) -> Dict[str, str]:
        """A setting that is a JSON object of texts; {} when it is not set. Raises Rejected."""
        text = self.config.get(name, "")
        if not text:
            return {}
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Rejected(f"{name} must be a JSON object")
        return {str(key): item if isinstance(item, str) else json.dumps(item) for key, item in value.items()}

    def environment(self, more: Mapping[str, str]) -> Dict[str, str]:
        """The agent's environment without its own variables, then `more`, then what the execution is about.

        Parameters reach a process in no other way, so nothing in them is ever read as code. Raises Rejected.
        In `more`, placeholders are filled in with the text as it is.
        """
        instruction = self.instruction
        env = {key: value for key, value in os.environ.items() if not key.startswith(PRIVATE_PREFIXES)}
        env.update({name: self.fill(value) for name, value in more.items()})
        env.update(self.parameters(PARAM_PREFIX))
        env.update(
            QF_TASK_ID=instruction.task_id,
            QF_TASK_NAME=instruction.task_name,
            QF_EXECUTION_ID=instruction.execution_id,
            QF_SCHEDULED_TIME=rfc3339(instruction.scheduled_time),
            QF_ATTEMPT=str(instruction.attempt),
            QF_SHARD_INDEX=str(instruction.shard_index),
            QF_SHARD_TOTAL=str(instruction.shard_total),
        )
        for name, value in env.items():
            if "\0" in name or "\0" in value or "=" in name or not name:
                raise Rejected(f"environment variable {name!r}: not a usable name or value")
        return env

    def parameters(self, prefix: str) -> Dict[str, str]:
        """The parameters, defaults among them, with prefixed, upper-case names. Raises Rejected."""
        found: Dict[str, str] = {}
        for given in (self.json_object(DEFAULTS), self.instruction.params):
            own: Dict[str, str] = {}
            for name, value in given.items():
                if not PARAM_NAME.fullmatch(name):
                    raise Rejected(f"parameter {name!r}: a name has letters, digits and _, 64 at most")
                if "\0" in value:
                    raise Rejected(f"parameter {name!r} contains NUL")
                if prefix + name.upper() in own:
                    raise Rejected(f"parameter {name!r} is there twice: upper and lower case do not differ")
                own[prefix + name.upper()] = value
            found.update(own)
        if sum(len(name) + len(value.encode()) for name, value in found.items()) > MAX_PARAMS:
            raise Rejected(f"the parameters are longer than {MAX_PARAMS} bytes")
        return found

    def value(self, one: Placeholder) -> str:
        """What a placeholder stands for. Raises Rejected."""
        if one.namespace == SECRETS:
            secret = self.json_object(SECRETS_SETTING).get(one.name)
            if secret is None:
                raise Rejected(f"{one.text}: the server has no such secret, or cannot open it")
            return secret
        found = self.parameters("").get(one.name.upper())
        if found is None:
            raise Rejected(f"{one.text}: the parameter {one.name!r} is not given and has no default")
        return found

    def fill(self, text: str) -> str:
        """The text with its placeholders replaced by their values, as they are. Raises Rejected."""
        try:
            return rewrite(text, self.value)
        except SubstitutionError as error:
            raise Rejected(str(error)) from error


def rfc3339(milliseconds: int) -> str:
    """2025-01-09T02:00:00Z, with milliseconds where there are any."""
    moment = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    fraction = f".{moment.microsecond // 1000:03d}" if milliseconds % 1000 else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


class Executor(Protocol):
    """Runs one kind of task."""

    async def run(self, job: Job) -> Outcome:
        """Run it to its end, or until job.stop, leaving nothing behind in the latter case.

        Raises Rejected, StartFailed.
        """
        ...
