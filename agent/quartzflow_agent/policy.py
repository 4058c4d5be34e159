"""What the owner of this host allows: policy.toml. The server cannot change it, and it has the last word."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import sys
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

from quartzflow_agent.config import ConfigError
from quartzflow_agent.executors.base import Executor, Job, Outcome, Rejected
from quartzflow_agent.i18n import _
from quartzflow_agent.paths import Home
from quartzflow_agent.protocol import task_pb2

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Where the agent's account, and so a task, cannot write. It stands in the place of the one in the agent's home.
SYSTEM_POLICY = Path("/etc/quicflow/policy.toml")
EXECUTORS = {int(task_pb2.SHELL): "shell", int(task_pb2.HTTP): "http", int(task_pb2.PLUGIN): "plugin"}
# What could start another command: an operator, quoted or not, or a dollar sign before more than a variable's name.
NOT_PLAIN = re.compile(r"[`();<>|&]|\$(?![A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})")


@dataclass(frozen=True)
class Policy:
    """Lists: only what they name is allowed; None: anything is. Numbers: 0 is no limit."""

    executors: Optional[List[str]] = None  # of shell, http, plugin
    commands: Optional[List[str]] = None  # Shell: first word of the one plain command that a task may be
    users: Optional[List[str]] = None  # Shell: accounts that it may run as, the agent's own, too
    directories: Optional[List[str]] = None  # Shell: work_dir lies in one of these
    environment: Optional[List[str]] = None  # Shell: names, with * and ?, that `env` may set
    plugins: Optional[List[str]] = None  # names, with * and ?
    http_hosts: Optional[List[str]] = None  # host names, with * and ?
    max_concurrent: int = 0  # executions at once, of all tasks together; the others wait
    cpu_seconds: int = 0  # that each process of an execution may use
    output_bytes: int = 0  # kept per execution, when it is less than log_limit

    def check(self, job: Job) -> None:
        """Raise Rejected, naming the rule, for what this host may not run."""
        kind = EXECUTORS[int(job.instruction.executor_type)]
        if self.executors is not None and kind not in self.executors:
            raise _rejected("executors", f"{kind} tasks are not allowed")
        if kind == "shell":
            self._check_shell(job)
        elif kind == "http":
            self.check_host(_host(job.config.get("url", "")))
        else:
            self._check_name("plugins", self.plugins, job.config.get("plugin", ""))

    def check_host(self, host: str) -> None:
        """Raise Rejected for a host that HTTP tasks may not ask."""
        self._check_name("http_hosts", self.http_hosts, host)

    def _check_shell(self, job: Job) -> None:
        if self.commands is not None:
            self._check_command(self.commands, job)
        if self.users is not None:
            user = job.config.get("run_as", "") or pwd.getpwuid(os.geteuid()).pw_name
            if user not in self.users:
                raise _rejected("users", f"{user!r} is not allowed")
        work_dir = job.config.get("work_dir", "")
        if self.directories is not None and work_dir:
            found = Path(work_dir).resolve()
            allowed = [Path(directory).resolve() for directory in self.directories]
            if not any(found == directory or directory in found.parents for directory in allowed):
                raise _rejected("directories", f"{work_dir!r} is not allowed")
        # A variable such as LD_PRELOAD or PATH would make another command of an allowed one.
        names = [] if self.environment is None and self.commands is not None else self.environment
        for name in job.json_object("env"):
            self._check_name("environment", names, name)

    def _check_command(self, commands: List[str], job: Job) -> None:
        """One plain command: whatever could start another one is refused."""
        if job.config.get("interpreter", "") not in ("", "sh"):
            raise _rejected("commands", "only the interpreter sh is allowed")
        command = job.config.get("command", "").strip()
        if not command.isprintable() or NOT_PLAIN.search(command):
            raise _rejected("commands", "only one plain command is allowed: no operators, no substitutions")
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise _rejected("commands", str(error)) from error
        if not words or words[0] not in commands:
            raise _rejected("commands", f"{words[0] if words else ''!r} is not allowed")

    def _check_name(self, rule: str, allowed: Optional[List[str]], name: str) -> None:
        if allowed is not None and not any(fnmatchcase(name, pattern) for pattern in allowed):
            raise _rejected(rule, f"{name!r} is not allowed")


class Guarded:
    """An executor that the policy looks at first."""

    def __init__(self, executor: Executor, policy: Policy) -> None:
        self._executor = executor
        self._policy = policy

    async def run(self, job: Job) -> Outcome:
        """Raises Rejected, StartFailed."""
        self._policy.check(job)
        job.check_host = self._policy.check_host
        return await self._executor.run(job)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""  # the executor says what is wrong with it, if it gets so far


def _rejected(rule: str, why: str) -> Rejected:
    return Rejected(f"this host's policy, {rule}: {why}")


def policy_file(home: Home) -> Optional[Path]:
    """The policy that is in force here; None: there is none."""
    return next((path for path in (SYSTEM_POLICY, home.policy) if os.path.lexists(path)), None)


def load_policy(home: Home) -> Policy:
    """Read the policy in force. Raises ConfigError: without its policy the agent does not run."""
    path = policy_file(home)
    if path is None:
        return Policy()
    try:
        return _policy(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValueError) as error:
        raise ConfigError(
            _("The policy {path} cannot be used: {error}").format(path=path, error=error)
        ) from error


def _policy(data: Dict[str, Any]) -> Policy:
    """Raises ValueError: a rule that is misspelt must not leave the door open."""
    unknown = sorted(set(data) - {rule.name for rule in fields(Policy)})
    if unknown:
        raise ValueError(f"unknown rule: {', '.join(unknown)}")
    for rule in fields(Policy):
        value = data.get(rule.name, rule.default)
        if isinstance(rule.default, int):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{rule.name} must be a whole number, 0 or more")
        elif value is not None and not (
            isinstance(value, list) and all(isinstance(item, str) and item for item in value)
        ):
            raise ValueError(f"{rule.name} must be a list of texts")
    strange = sorted(set(data.get("executors", [])) - set(EXECUTORS.values()))
    if strange:
        raise ValueError(f"executors: {', '.join(strange)} is none of {', '.join(EXECUTORS.values())}")
    return Policy(**data)
