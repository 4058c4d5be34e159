"""Processes in groups of their own: started without stalling the loop, ended without leaving anybody behind."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence

import psutil

from quartzflow_agent.executors.base import Job, Outcome, StartFailed
from quartzflow_agent.executors.output import Output

TERM_GRACE = 5.0  # seconds between TERM and KILL
DRAIN = 1.0  # seconds to read on after the end, when somebody in the background still holds the pipe
POLL = 0.05  # seconds
# A start takes about a millisecond of the loop; so many may happen in one turn of it.
SPAWNS = 4
# What processes carry in their environment, so that they are found wherever they go. Two agents on one host may have
# executions of the same name.
EXECUTION, AGENT = "QF_EXECUTION_ID", "QF_AGENT_HOME"


class _Process(asyncio.SubprocessProtocol):
    """Passes output on in order of arrival; tells the end of the process and of its pipes apart."""

    def __init__(self, output: Output) -> None:
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.drained: asyncio.Future[None] = loop.create_future()
        self._output = output
        self._open = {1, 2}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._output.feed(fd, data)

    def pipe_connection_lost(self, fd: int, exc: Optional[Exception]) -> None:
        self._open.discard(fd)
        if not self._open and not self.drained.done():
            self.drained.set_result(None)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)


class Marked:
    """Finds processes by the mark in their environment; looks once for all who ask at about the same time."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = asyncio.Lock()
        self._next: Optional[asyncio.Future[Dict[str, List[psutil.Process]]]] = None

    async def find(self, execution_ids: Iterable[str]) -> List[psutil.Process]:
        """The processes of these executions, wherever they have gone."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._look())
        found = await asyncio.shield(self._next)
        return [process for execution_id in execution_ids for process in found.get(execution_id, ())]

    async def _look(self) -> Dict[str, List[psutil.Process]]:
        async with self._lock:
            self._next = None  # who asks from now on wants a later look
            return await asyncio.get_running_loop().run_in_executor(None, marked_processes, self._home)


def marked_processes(home: Path) -> Dict[str, List[psutil.Process]]:
    """All processes that belong to some execution of the agent in this home, by its id."""
    found: Dict[str, List[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or somebody else's
        execution_id = environment.get(EXECUTION)
        if execution_id and environment.get(AGENT) == str(home):
            found.setdefault(execution_id, []).append(process)
    return found


class ProcessRunner:
    """Starts processes, few at a time, and ends them. One for the whole agent."""

    def __init__(self, home: Path, cpu_seconds: int = 0) -> None:
        """home: the agent's directory, which tells its processes from those of other agents.

        cpu_seconds: what each process may use; 0: no limit.
        """
        self._home = home
        self._cpu_seconds = cpu_seconds
        self._starting = asyncio.Semaphore(SPAWNS)
        self._marked = Marked(home)

    async def run(self, job: Job, argv: Sequence[str], *, env: Dict[str, str], **options: Any) -> Outcome:
        """Run a command to its end or until it is told to stop. options: as for subprocess.Popen.

        Raises StartFailed.
        """
        loop = asyncio.get_running_loop()
        async with self._starting:
            # Let others have their turn between two starts, too.
            await asyncio.sleep(0)
            try:
                transport, protocol = await loop.subprocess_exec(
                    lambda: _Process(job.output),
                    *limited(argv, self._cpu_seconds),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env={**env, AGENT: str(self._home), EXECUTION: job.instruction.execution_id},
                    start_new_session=True,
                    **options,
                )
            except (OSError, ValueError) as error:
                raise StartFailed(str(error)) from error
        pid = transport.get_pid()
        try:
            await job.on_process(pid)
            stopped = await self._wait(job, pid, protocol)
            await asyncio.wait([protocol.drained], timeout=DRAIN)
        finally:
            if transport.get_returncode() is None:
                _signal([pid], [], signal.SIGKILL)
            transport.close()
        code = transport.get_returncode()
        if code is None:
            raise RuntimeError(f"process {pid} ended without an exit code")
        # As shells have it: 128 + the signal's number.
        code = code if code >= 0 else 128 - code
        over = self._cpu_seconds and code == 128 + signal.SIGXCPU
        problem = f"this host's policy, cpu_seconds: {self._cpu_seconds} s are used up" if over else ""
        return Outcome(exit_code=code, error=problem, stopped=stopped)

    async def _wait(self, job: Job, pid: int, protocol: _Process) -> bool:
        """Until it has ended; True when it had to be ended."""
        if not await job.stop.or_done(protocol.exited):
            return False
        await self.stop([pid], [job.instruction.execution_id])
        await protocol.exited
        return True

    async def stop(self, groups: Sequence[int], execution_ids: Sequence[str]) -> None:
        """End process groups, and whoever has left them but carries an execution's mark: TERM, 5 s, KILL."""
        strays = [
            process for process in await self._marked.find(execution_ids) if _group(process) not in groups
        ]
        _signal(groups, strays, signal.SIGTERM)
        deadline = time.monotonic() + TERM_GRACE
        # Most of them are not our children: nothing tells when they end.
        while time.monotonic() < deadline and (any(map(_alive, groups)) or any(map(_runs, strays))):  # noqa: ASYNC110
            await asyncio.sleep(POLL)
        # Once more: whom they started while we looked is marked, too.
        _signal(groups, await self._marked.find(execution_ids), signal.SIGKILL)


def limited(argv: Sequence[str], cpu_seconds: int) -> Sequence[str]:
    """The command, which may use so much CPU time (0: any). A shell sets the limit and gives way to the command."""
    if not cpu_seconds:
        return argv
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard != resource.RLIM_INFINITY and hard <= cpu_seconds:
        return argv  # the system's own limit is tighter
    script = f'ulimit -S -t {cpu_seconds} && ulimit -H -t {cpu_seconds + 1} && exec "$@"'
    return ["/bin/sh", "-c", script, "sh", *argv]


def use_pidfd() -> None:
    """Before 3.12, Python waits for each child in a thread of its own, unless told so before the loop starts."""
    if sys.version_info < (3, 12) and hasattr(os, "pidfd_open"):
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return  # an old kernel
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())


def process_created(pid: int) -> Optional[float]:
    """When the process was started (Unix time), None when it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def _signal(groups: Iterable[int], processes: Iterable[psutil.Process], number: int) -> None:
    for group in groups:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            continue  # gone, or all of it has changed its user
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue


def _group(process: psutil.Process) -> int:
    try:
        return os.getpgid(process.pid)
    except OSError:
        return 0


def _alive(group: int) -> bool:
    """Whether anybody is left in the group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
