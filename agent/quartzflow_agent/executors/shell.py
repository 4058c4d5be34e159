"""The Shell executor: a script text, run by an interpreter (PRD FR-1.1)."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

from quartzflow_agent.executors.base import Job, Outcome, Rejected, StartFailed
from quartzflow_agent.executors.limits import limits_of, niceness_of
from quartzflow_agent.executors.process import ProcessRunner
from quartzflow_agent.script_text import fill_script
from quartzflow_agent.substitution import SubstitutionError, placeholders

SETTINGS = frozenset({"command", "interpreter", "work_dir", "env", "run_as", "umask", "nice", "limits"})
# The option with which an interpreter takes a script as an argument.
INLINE = dict.fromkeys(("sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "python", "python3"), "-c")
INLINE.update(dict.fromkeys(("perl", "ruby", "node"), "-e"))
MAX_INLINE = 100_000  # bytes; the system's limit for one argument is 128 KiB


class ShellExecutor:
    """Settings: command (required), interpreter (sh), work_dir, env (JSON object), run_as, umask (octal),
    nice (0 to 19), limits (JSON object, see LIMITS), parameters (JSON object: defaults).

    `{{ params.NAME }}` in the command becomes the environment variable of that parameter, see script_text; in env
    it becomes its text.
    """

    def __init__(self, runner: ProcessRunner) -> None:
        self._runner = runner

    async def run(self, job: Job) -> Outcome:
        """Raises Rejected, StartFailed."""
        job.check_settings(SETTINGS)
        command = job.config.get("command", "")
        if not command.strip():
            raise Rejected("command is empty")
        if "\0" in command:
            raise Rejected("command contains NUL")
        command = _filled(job, command)
        user = _user(job.config.get("run_as", ""))
        env = job.environment({**job.json_object("env"), **_user_environment(user)})
        options = _options(user, job.config.get("umask", ""), job.config.get("work_dir", ""))
        options.update(limits=limits_of(job), nice=niceness_of(job))
        script: Optional[Path] = None
        try:
            interpreter = job.config.get("interpreter", "") or "sh"
            inline = INLINE.get(Path(interpreter).name)
            if command.startswith("#!") or inline is None or len(command.encode()) > MAX_INLINE:
                script = _write_script(job, command, user)
                argv = [str(script)] if command.startswith("#!") else [_find(interpreter), str(script)]
            else:
                argv = [_find(interpreter), inline, command]
            outcome = await self._runner.run(job, argv, env=env, **options)
        finally:
            if script is not None:
                script.unlink()
        return outcome


def _filled(job: Job, command: str) -> str:
    try:
        for one in placeholders(command):
            job.value(one)
        return fill_script(command, job.config.get("interpreter", ""))
    except SubstitutionError as error:
        raise Rejected(str(error)) from error


def _find(interpreter: str) -> str:
    found = shutil.which(interpreter)
    if found is None:
        raise StartFailed(f"interpreter {interpreter!r} is not installed on this host")
    return found


def _user(name: str) -> Optional[pwd.struct_passwd]:
    """The account to run as; None: the agent's own."""
    if not name:
        return None
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise Rejected(f"run_as: this host has no user {name!r}") from None
    if user.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise Rejected(f"run_as: the agent runs as {pwd.getpwuid(os.geteuid()).pw_name}, not as root")
    return user


def _user_environment(user: Optional[pwd.struct_passwd]) -> Dict[str, str]:
    if user is None:
        return {}
    return {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell}


def _options(user: Optional[pwd.struct_passwd], umask: str, work_dir: str) -> Dict[str, Any]:
    options: Dict[str, Any] = {}
    if work_dir:
        if not Path(work_dir).is_dir():
            raise StartFailed(f"work_dir {work_dir!r} is no directory on this host")
        options["cwd"] = work_dir
    elif user is not None:
        options["cwd"] = "/"
    if umask:
        try:
            options["umask"] = int(umask, 8)
        except ValueError:
            raise Rejected(f"umask {umask!r} is not an octal number") from None
    if user is not None:
        groups: List[int] = os.getgrouplist(user.pw_name, user.pw_gid)
        options.update(user=user.pw_uid, group=user.pw_gid, extra_groups=groups)
    return options


def _write_script(job: Job, text: str, user: Optional[pwd.struct_passwd]) -> Path:
    """A file that the account can run, and nobody else can read."""
    descriptor, name = tempfile.mkstemp(prefix="script-", dir=job.scripts if user is None else None)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o700)
        if user is not None:
            os.fchown(descriptor, user.pw_uid, user.pw_gid)
        file.write(text.encode())
    return Path(name)
