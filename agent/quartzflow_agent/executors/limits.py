"""What the system lets a process use: set by a shell, which then gives way to the command."""

from __future__ import annotations

import re
import resource
import shutil
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

from quartzflow_agent.executors.base import Job, Rejected

CPU = "cpu_seconds"
LOWEST_PRIORITY = 19


@dataclass(frozen=True)
class Limit:
    """One of them."""

    resource: int  # RLIMIT_…
    flags: Tuple[str, ...]  # of the shell's ulimit: the first one that this host's shell knows
    unit: int  # of ulimit's in one of ours
    bytes: int = 1  # of the system's in one of ours


LIMITS: Dict[str, Limit] = {
    CPU: Limit(resource.RLIMIT_CPU, ("t",), 1),
    "memory_mb": Limit(resource.RLIMIT_AS, ("v",), 1024, 2**20),
    "open_files": Limit(resource.RLIMIT_NOFILE, ("n",), 1),
    "processes": Limit(resource.RLIMIT_NPROC, ("u", "p"), 1),
    "file_mb": Limit(resource.RLIMIT_FSIZE, ("f",), 2048, 2**20),
}


def limits_of(job: Job) -> Dict[str, int]:
    """The setting `limits` of a Shell task. Raises Rejected."""
    found: Dict[str, int] = {}
    for name, text in job.json_object("limits").items():
        if name not in LIMITS:
            raise Rejected(f"limits: {name} is none of {', '.join(LIMITS)}")
        if not re.fullmatch(r"[1-9]\d{0,8}", text):
            raise Rejected(f"limits: {name} must be a whole number, 1 or more")
        found[name] = int(text)
    return found


def niceness_of(job: Job) -> int:
    """The setting `nice` of a Shell task: by how much others go first. Raises Rejected."""
    text = job.config.get("nice", "") or "0"
    if not re.fullmatch(r"\d{1,2}", text) or int(text) > LOWEST_PRIORITY:
        raise Rejected(f"nice must be a whole number from 0 to {LOWEST_PRIORITY}")
    return int(text)


def limited(argv: Sequence[str], limits: Mapping[str, int], nice: int = 0) -> Sequence[str]:
    """The command, within limits, each no higher than the system's own; it does not run where one cannot be set."""
    steps: List[str] = []
    for name, wanted in limits.items():
        limit = LIMITS[name]
        hard = resource.getrlimit(limit.resource)[1]
        if hard != resource.RLIM_INFINITY and hard <= wanted * limit.bytes:
            continue  # the system's own limit is tighter
        value = wanted * limit.unit
        if name == CPU:  # first a signal that says why, then one that nobody can ignore
            steps.append(f"ulimit -S -t {value} && ulimit -H -t {value + 1}")
        else:
            tries = [f"ulimit -{flag} {value}" for flag in limit.flags]
            steps.append(f"{{ {' 2>/dev/null || '.join(tries)}; }}")
    if not steps and not nice:
        return argv
    # By its path: the task's own environment may have a PATH without it.
    first = [shutil.which("nice") or "nice", "-n", str(nice)] if nice else []
    return ["/bin/sh", "-c", " && ".join([*steps, 'exec "$@"']), "sh", *first, *argv]
