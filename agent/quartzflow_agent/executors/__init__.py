"""How tasks are run: Shell, HTTP, plugins."""

from __future__ import annotations

from typing import Dict

from quartzflow_agent.executors.base import Executor, Job, Outcome, Rejected, StartFailed, Stop
from quartzflow_agent.executors.http import HttpExecutor
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


def executors(runner: ProcessRunner) -> Dict[int, Executor]:
    """One executor for each ExecutorType of the wire."""
    return {
        int(task_pb2.SHELL): ShellExecutor(runner),
        int(task_pb2.HTTP): HttpExecutor(),
        int(task_pb2.PLUGIN): PluginExecutor(runner),
    }
