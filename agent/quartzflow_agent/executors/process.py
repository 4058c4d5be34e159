"""Processes in groups of their own: started without stalling the loop, ended without leaving anybody behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

import psutil

from quartzflow_agent.executors.base import Job, Outcome, StartFailed
from quartzflow_agent.executors.limits import CPU, limited
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


@dataclass
class Survey:
    """The processes of this host at one moment, as far as they concern an agent."""

    marked: Dict[str, List[psutil.Process]]  # execution id → those that carry its mark
    children: Dict[int, List[psutil.Process]]  # pid → those that it has started

    def relatives(self, pids: Iterable[int], execution_ids: Iterable[str]) -> List[psutil.Process]:
        """Who carries the mark of an execution, and who descends from them or from these pids: some clear their
        environment (`env -i`, `sudo`)."""
        found = {process.pid: process for name in execution_ids for process in self.marked.get(name, ())}
        look = [*pids, *found]
        while look:
            for process in self.children.get(look.pop(), ()):
                if process.pid not in found:
                    found[process.pid] = process
                    look.append(process.pid)
        return list(found.values())


def survey(home: Path) -> Survey:
    """Look at all processes. home: of the agent whose mark counts."""
    found = Survey({}, {})
    for process in psutil.process_iter(["ppid"]):
        found.children.setdefault(process.info["ppid"], []).append(process)
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or somebody else's
        execution_id = environment.get(EXECUTION)
        if execution_id and environment.get(AGENT) == str(home):
            found.marked.setdefault(execution_id, []).append(process)
    return found


class Marked:
    """Finds the processes of executions; looks once for all who ask at about the same time."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = asyncio.Lock()
        self._next: Optional[asyncio.Future[Survey]] = None

    async def find(self, pids: Iterable[int], execution_ids: Iterable[str]) -> List[psutil.Process]:
        """The processes of these executions, or below these, wherever they have gone."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._look())
        found = await asyncio.shield(self._next)
        return found.relatives(pids, execution_ids)

    async def _look(self) -> Survey:
        async with self._lock:
            self._next = None  # who asks from now on wants a later look
            return await asyncio.get_running_loop().run_in_executor(None, survey, self._home)


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

    async def run(
        self,
        job: Job,
        argv: Sequence[str],
        *,
        env: Dict[str, str],
        limits: Optional[Mapping[str, int]] = None,
        nice: int = 0,
        **options: Any,
    ) -> Outcome:
        """Run a command to its end or until it is told to stop.

        limits, nice: what the task itself asks for, beside the host's. options: as for subprocess.Popen.
        Raises StartFailed.
        """
        loop = asyncio.get_running_loop()
        limits = dict(limits or {})
        own = limits.get(CPU, 0)
        cpu = limits[CPU] = min(filter(None, (own, self._cpu_seconds)), default=0)
        if not cpu:
            del limits[CPU]
        async with self._starting:
            # Let others have their turn between two starts, too.
            await asyncio.sleep(0)
            try:
                transport, protocol = await loop.subprocess_exec(
                    lambda: _Process(job.output),
                    *limited(argv, limits, nice),
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
        problem = ""
        if cpu and code == 128 + signal.SIGXCPU:
            whose = "limits" if cpu == own else "this host's policy"
            problem = f"{whose}, {CPU}: {cpu} s are used up"
        return Outcome(exit_code=code, error=problem, stopped=stopped)

    async def _wait(self, job: Job, pid: int, protocol: _Process) -> bool:
        """Until it has ended; True when it had to be ended."""
        if not await job.stop.or_done(protocol.exited):
            return False
        await self.stop([pid], [job.instruction.execution_id])
        await protocol.exited
        return True

    async def stop(self, groups: Sequence[int], execution_ids: Sequence[str]) -> None:
        """End process groups, and whoever has left them but carries an execution's mark or descends from them: TERM,
        5 s, KILL.

        groups: by their leaders.
        """
        found = await self._marked.find(groups, execution_ids)
        strays = [process for process in found if _group(process) not in groups]
        _signal(groups, strays, signal.SIGTERM)
        deadline = time.monotonic() + TERM_GRACE
        # Most of them are not our children: nothing tells when they end.
        while time.monotonic() < deadline and (any(map(_alive, groups)) or any(map(_runs, strays))):  # noqa: ASYNC110
            await asyncio.sleep(POLL)
        # Once more: whom they started while we looked is marked, or their child, too.
        again = await self._marked.find([process.pid for process in found if _runs(process)], execution_ids)
        _signal(groups, [*strays, *again], signal.SIGKILL)


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
