"""service_check: do these services and processes run?"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any, List

import psutil

from quartzflow_agent.plugins.base import Param, ParamError, Plugin, PluginFailed

UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,254}")
SYSTEMCTL_TIMEOUT = 30  # seconds


class ServiceCheck(Plugin):
    """Fails when a systemd unit is not active, or too few processes of a name run."""

    description = "Fails when a systemd unit is not active, or a process does not run."
    params = (
        Param("units", list, "systemd units that must be active.", default=[]),
        Param("processes", list, "Names of processes that must run.", default=[]),
        Param("min_count", int, "At least so many of each process.", default=1, low=1),
        Param(
            "restart",
            bool,
            "Restart a unit that is not active; fail only if that does not help.",
            default=False,
        ),
    )

    def run(self, **params: Any) -> None:
        """Raises PluginFailed, ParamError."""
        if not params["units"] and not params["processes"]:
            raise ParamError("units, processes: name at least one")
        for unit in params["units"]:
            if not UNIT.fullmatch(unit):
                raise ParamError(f"units: {unit!r} is no unit's name")
        problems = [_unit_problem(unit, params["restart"]) for unit in params["units"]]
        problems += _process_problems(params["processes"], params["min_count"])
        found = [problem for problem in problems if problem]
        if found:
            raise PluginFailed("\n".join(found))


def _unit_problem(unit: str, restart: bool) -> str:
    state = _systemctl("is-active", unit)
    print(f"{unit}: {state}")  # noqa: T201
    if state == "active":
        return ""
    if not restart:
        return f"{unit} is {state}"
    answer = _systemctl("restart", unit)
    after = _systemctl("is-active", unit)
    print(f"{unit}: restarted, {after}")  # noqa: T201
    return "" if after == "active" else f"{unit} was {state}, and is {after} after a restart: {answer or '-'}"


def _systemctl(verb: str, unit: str) -> str:
    """What it answers."""
    program = shutil.which("systemctl")
    if program is None:
        raise PluginFailed("this host has no systemd")
    try:
        done = subprocess.run(
            [program, verb, "--", unit],
            capture_output=True,
            text=True,
            timeout=SYSTEMCTL_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PluginFailed(f"systemctl {verb} {unit}: no answer within {SYSTEMCTL_TIMEOUT} s") from error
    return done.stdout.strip() or done.stderr.strip()


def _process_problems(names: List[str], least: int) -> List[str]:
    if not names:
        return []
    running = [process.info["name"] for process in psutil.process_iter(["name", "status"]) if _alive(process)]
    problems: List[str] = []
    for name in names:
        # The kernel keeps 15 characters of a name; psutil has the rest only for processes it may look into.
        count = sum(found in (name, name[:15]) for found in running)
        print(f"{name}: {count} running")  # noqa: T201
        if count < least:
            problems.append(f"{name}: {count} running, {least} wanted")
    return problems


def _alive(process: psutil.Process) -> bool:
    return bool(process.info["status"] != psutil.STATUS_ZOMBIE)
