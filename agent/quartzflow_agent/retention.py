"""What the agent forgets of its files: by age, and by how much room they take (FR-5.1)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Collection

from quartzflow_agent.paths import Home
from quartzflow_agent.store.rescue import LOG_FILE

BLOCK = 512  # bytes; the unit of st_blocks


def delete_before(home: Home, day: str, kept: Collection[str]) -> None:
    """Delete the files and logs of earlier days, except those of days to be kept. Raises OSError."""
    for directory in (home.executions, home.daily_stats, home.logs):
        for path in directory.glob("????-??-??*"):
            if path.name[:10] < day and path.name[:10] not in kept:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


@dataclass(frozen=True)
class Trimmed:
    """What `trim_logs` did."""

    files: int  # that were deleted
    left: int  # bytes that the logs still take


def trim_logs(home: Home, kept: Collection[str], limit: int) -> Trimmed:
    """Delete the oldest logs until all together take so many bytes at most.

    kept: TASK_EXECUTION of those that are to stay whatever room they take. Raises OSError.
    """
    found = []
    for path in home.logs.glob("????-??-??/*.log"):
        match, about = LOG_FILE.fullmatch(path.name), path.stat()
        found.append((about.st_mtime, about.st_blocks * BLOCK, path, match["execution"] if match else ""))
    left, files = sum(size for _, size, _, _ in found), 0
    for _, size, path, execution in sorted(found):
        if left <= limit:
            break
        if execution not in kept:
            path.unlink(missing_ok=True)
            left -= size
            files += 1
    return Trimmed(files, left)
