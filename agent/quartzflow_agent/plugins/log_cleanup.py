"""log_cleanup: delete files that are old enough."""

from __future__ import annotations

import fnmatch
import os
import stat
import time
from pathlib import Path
from typing import Any, Iterator, List

from quartzflow_agent.plugins.base import Param, ParamError, Plugin, PluginFailed


class LogCleanup(Plugin):
    """Deletes old files of a directory; never follows links, never leaves its file system."""

    description = "Deletes files of a directory that match a pattern and are older than some days."
    params = (
        Param("directory", str, "Absolute path; not the root directory.", required=True),
        Param("patterns", list, "File names to delete, with * and ?.", default=["*.log", "*.log.*"]),
        Param("older_than_days", float, "Since the last change, days.", default=7.0, low=0),
        Param("recursive", bool, "Its subdirectories, too.", default=False),
        Param("dry_run", bool, "Only say what would be deleted.", default=False),
    )

    def run(self, **params: Any) -> None:
        """Raises PluginFailed when something could not be deleted, ParamError for a directory that may not be."""
        directory = Path(params["directory"])
        if not directory.is_absolute() or directory.resolve() == Path("/"):
            raise ParamError("directory: must be an absolute path, and not the root directory")
        if not directory.is_dir():
            raise PluginFailed(f"{directory} is no directory")
        limit = time.time() - params["older_than_days"] * 86400
        count = size = 0
        problems: List[str] = []
        for path in _files(directory, params["recursive"], problems):
            try:
                found = path.lstat()
                if not stat.S_ISREG(found.st_mode) or found.st_mtime > limit:
                    continue
                if not any(fnmatch.fnmatch(path.name, pattern) for pattern in params["patterns"]):
                    continue
                if not params["dry_run"]:
                    path.unlink()
            except OSError as error:
                problems.append(f"{path}: {error.strerror}")
                continue
            count += 1
            size += found.st_size
            print(path)  # noqa: T201
        would = "would be deleted" if params["dry_run"] else "deleted"
        print(f"{count} files {would}, {size / 2**20:.1f} MiB")  # noqa: T201
        if problems:
            raise PluginFailed("\n".join(problems))


def _files(directory: Path, recursive: bool, problems: List[str]) -> Iterator[Path]:
    device = directory.stat().st_dev

    def on_error(error: OSError) -> None:
        problems.append(f"{error.filename}: {error.strerror}")

    for root, directories, names in os.walk(directory, onerror=on_error):
        directories[:] = [name for name in directories if recursive and _is_inside(Path(root, name), device)]
        for name in names:
            yield Path(root, name)


def _is_inside(path: Path, device: int) -> bool:
    """Whether it is a directory of this file system, and no link to one."""
    try:
        found = path.lstat()
    except OSError:
        return False  # gone meanwhile
    return stat.S_ISDIR(found.st_mode) and found.st_dev == device
