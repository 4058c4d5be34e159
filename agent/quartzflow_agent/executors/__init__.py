"""How tasks are run: Shell, HTTP, plugins."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Dict

from quartzflow_agent.executors.base import Executor, Job, Outcome, Rejected, StartFailed, Stop
from quartzflow_agent.executors.output import Output
from quartzflow_agent.executors.plugin import PluginExecutor
from quartzflow_agent.executors.process import ProcessRunner
from quartzflow_agent.executors.shell import ShellExecutor
from quartzflow_agent.protocol import task_pb2

__all__ = [
    "Executor",
    "Job",
    "Outcome",
    "Output",
    "ProcessRunner",
    "Rejected",
    "StartFailed",
    "Stop",
    "executors",
]


class HttpLater:
    """The HTTP executor, whose library takes 8 MB: loaded, beside the loop, with the first task that needs it."""

    async def run(self, job: Job) -> Outcome:
        """Raises Rejected."""
        loop = asyncio.get_running_loop()
        http = await loop.run_in_executor(None, import_module, "quartzflow_agent.executors.http")
        executor: Executor = http.HttpExecutor()
        return await executor.run(job)


def executors(runner: ProcessRunner) -> Dict[int, Executor]:
    """One executor for each ExecutorType of the wire."""
    return {
        int(task_pb2.SHELL): ShellExecutor(runner),
        int(task_pb2.HTTP): HttpLater(),
        int(task_pb2.PLUGIN): PluginExecutor(runner),
    }
