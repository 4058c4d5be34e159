"""disk_check: is there room left?"""

from __future__ import annotations

import os
from typing import Any, List

from quartzflow_agent.plugins.base import Param, Plugin, PluginFailed


class DiskCheck(Plugin):
    """Fails when a file system is fuller than it should be."""

    description = "Fails when a file system is fuller than a limit, by bytes or by inodes."
    params = (
        Param("paths", list, "Any path on each file system to look at.", default=["/"]),
        Param("max_percent", float, "Fullest allowed, percent.", default=90.0, low=0, high=100),
        Param("min_free_mb", int, "Least free space allowed, MiB.", default=0, low=0),
    )

    def run(self, **params: Any) -> None:
        """Raises PluginFailed."""
        problems: List[str] = []
        for path in params["paths"]:
            try:
                found = os.statvfs(path)
            except OSError as error:
                problems.append(f"{path}: {error.strerror}")
                continue
            # As df has it: what is reserved for root counts neither as used nor as free.
            used = found.f_blocks - found.f_bfree
            usable = used + found.f_bavail
            percent = 100 * used / usable if usable else 0.0
            free_mb = found.f_bavail * found.f_frsize // 2**20
            inodes = 100 * (1 - found.f_favail / found.f_files) if found.f_files else 0.0
            print(f"{path}: {percent:.1f} % used, {free_mb} MiB free, {inodes:.1f} % of inodes used")  # noqa: T201
            if percent > params["max_percent"] or inodes > params["max_percent"]:
                problems.append(
                    f"{path}: {max(percent, inodes):.1f} % used, {params['max_percent']:g} % allowed"
                )
            if free_mb < params["min_free_mb"]:
                problems.append(f"{path}: {free_mb} MiB free, {params['min_free_mb']} MiB wanted")
        if problems:
            raise PluginFailed("\n".join(problems))
