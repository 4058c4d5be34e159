"""A test run of a cached task: as the agent would run it, but on the terminal, and recorded nowhere."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Mapping

from quartzflow_agent.clock import ServerClock
from quartzflow_agent.executors import ProcessRunner, executors
from quartzflow_agent.executors.process import use_pidfd
from quartzflow_agent.paths import Home
from quartzflow_agent.policy import Guarded, load_policy
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.runner import Run
from quartzflow_agent.store.records import Ending

LOG_LIMIT = 1024 * 1024 * 1024  # bytes of output
LOOK = 0.1  # seconds between two looks for output
PIECE = 64 * 1024  # bytes


def instruction_for(config: task_pb2.TaskConfig, params: Mapping[str, str]) -> task_pb2.TaskExecution:
    """Run this task now."""
    now = round(time.time() * 1000)
    return task_pb2.TaskExecution(
        task_id=config.id,
        task_name=config.name,
        execution_id=f"test_{config.id}_{now}",
        executor_type=config.executor_type,
        executor_config=config.executor_config,
        timeout=config.timeout,
        params=params,
        scheduled_time=now,
        task_version=config.version,
        trigger="manual",
    )


def run(home: Home, instruction: task_pb2.TaskExecution) -> Ending:
    """Run it to its end, or until Ctrl-C; what it writes goes to stdout. Raises ConfigError, OSError."""
    use_pidfd()
    return asyncio.run(_run(home, instruction))


async def _run(home: Home, instruction: task_pb2.TaskExecution) -> Ending:
    policy = load_policy(home)
    executor = executors(ProcessRunner(home.root, policy.cpu_seconds))[int(instruction.executor_type)]
    attempt = Run(instruction, ServerClock(), lambda progress: None, _no_process)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, attempt.end, "cancelled_by_user")
    with tempfile.TemporaryDirectory(prefix="quicflow-") as directory:
        log, scripts = Path(directory, "log"), Path(directory)
        show = asyncio.ensure_future(_show(log))
        try:
            limit = policy.output_bytes or LOG_LIMIT
            ending = await attempt.execute(Guarded(executor, policy), log, limit, scripts)
        finally:
            show.cancel()
            await asyncio.wait([show])
        return ending


async def _no_process(pid: int) -> None:
    """Nothing has to find it again."""


async def _show(path: Path) -> None:
    """Copy what is written to the file to stdout, until cancelled; then the rest of it."""
    shown = 0
    try:
        while True:
            shown = _copy(path, shown)
            await asyncio.sleep(LOOK)
    finally:
        _copy(path, shown)


def _copy(path: Path, start: int) -> int:
    """Copy the file from this byte on to stdout; returns where it ends now."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return start  # not begun yet
    with file:
        file.seek(start)
        while True:
            data = file.read(PIECE)
            if not data:
                break
            sys.stdout.buffer.write(data)
            start += len(data)
    sys.stdout.flush()
    return start
