"""The supervisor of `manage.py run`: the library `supervisor`, in this process, with our programs and our console.

It starts the programs in order, restarts what dies, gives up when one keeps dying, and stops all in reverse order.
"""

import ctypes
import os
import shlex
import signal
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from supervisor import events, loggers, poller
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ProcessConfig, ProcessGroupConfig, ServerOptions, decode_wait_status
from supervisor.process import Subprocess
from supervisor.states import ProcessStates, SupervisorStates
from supervisor.supervisord import Supervisor

from .console import BOLD_RED, Console
from .programs import Program

STOP_SECONDS = (
    18.0  # after that whatever still runs is killed; a bridge with thousands of agents takes half of it
)
MAX_DEATHS = 5  # more within DEATHS_WINDOW, and all stops
DEATHS_WINDOW = 60.0  # seconds
START_RETRIES = 4  # of a program that ends before it has started
POLL_SECONDS = 0.2  # how soon a signal or the end of a program is noticed
LOG_BYTES = 10 * 1024 * 1024
LOG_BACKUPS = 3
PR_SET_PDEATHSIG = 1
TERMINATING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

libc = ctypes.CDLL(None, use_errno=True)


class QuickPoller(poller.Poller):
    """The library looks at signals and ended programs once a poll, and polls for a second."""

    def poll(self, timeout: float) -> Any:
        return super().poll(min(timeout, POLL_SECONDS))


class Options(ServerOptions):
    """What the library reads from a configuration file, as attributes."""

    nodaemon = True
    silent = True
    strip_ansi = False
    nocleanup = True
    first = True  # else the library closes descriptors that are not its own
    test = False
    serverurl = None
    server_configs = ()  # no remote control
    identifier = "quartzflow"
    loglevel = loggers.LevelsByName.CRIT
    minfds = 1024
    umask = 0o022

    def __init__(self, programs: Sequence[Program], logs: Path) -> None:
        super().__init__()
        self.poller = QuickPoller(self)
        self.endings: dict[int, str] = {}  # how each process ended that has not been asked for yet
        self.logger = loggers.getLogger(self.loglevel)
        self.process_group_configs = [
            ProcessGroupConfig(self, program.name, order, [self._process(program, order, logs)])
            for order, program in enumerate(programs)
        ]

    def _process(self, program: Program, order: int, logs: Path) -> ProcessConfig:
        return ProcessConfig(
            self,
            name=program.name,
            command=shlex.join(program.command),
            environment=program.environment,
            directory=str(program.directory),
            umask=program.umask,
            uid=None,
            priority=order,
            autostart=False,  # Run.start_next does, in order
            autorestart=True,
            startsecs=program.start_seconds,
            startretries=START_RETRIES,
            exitcodes=[],
            stopsignal=signal.SIGTERM,
            stopwaitsecs=program.stop_seconds,
            stopasgroup=False,
            killasgroup=True,
            redirect_stderr=True,
            stdout_logfile=str(logs / f"{program.name}.log"),
            stdout_logfile_maxbytes=LOG_BYTES,
            stdout_logfile_backups=LOG_BACKUPS,
            stdout_capture_maxbytes=0,
            stdout_events_enabled=True,
            stdout_syslog=False,
            stderr_logfile=None,
            stderr_logfile_maxbytes=0,
            stderr_logfile_backups=0,
            stderr_capture_maxbytes=0,
            stderr_events_enabled=False,
            stderr_syslog=False,
        )

    def setpgrp(self) -> None:
        """In the child, before it becomes the program: it is told when the supervisor is gone, however that ended."""
        super().setpgrp()
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    def waitpid(self) -> tuple[int | None, int | None]:
        """The library forgets which signal ended a process."""
        pid, status = super().waitpid()
        if pid and status is not None:
            self.endings[pid] = decode_wait_status(status)[1]
        return pid, status

    def write_pidfile(self) -> None:
        """The lock of the data directory says who runs."""

    def set_uid_or_exit(self) -> None:
        """Programs run as whoever called."""

    def set_rlimits_or_exit(self) -> None:
        """Limits stay those of whoever called."""

    def make_logger(self) -> None:
        """The console is our log."""


class Run(Supervisor):
    """One run: from the first program's start to the last one's end."""

    def __init__(self, programs: Sequence[Program], logs: Path, console: Console) -> None:
        super().__init__(Options(programs, logs))
        self.programs = {program.name: program for program in programs}
        self.console = console
        self.failure = ""  # why all was stopped, when nobody asked for it
        self._waiting = list(programs)
        self._deaths: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MAX_DEATHS + 1))
        self._stopped_at = 0.0  # monotonic; when stopping began

    def runforever(self) -> None:
        # The library forgets all subscriptions when it starts, so they are made here.
        events.subscribe(events.ProcessLogEvent, self._printed)
        events.subscribe(events.ProcessStateEvent, self._changed)
        super().runforever()

    def tick(self, now: float | None = None) -> None:
        """Called once a turn of the library's loop."""
        super().tick(now)
        if self.console.gone:
            self.stop()
        if self._stopped_at:
            if time.monotonic() > self._stopped_at + STOP_SECONDS:
                self._kill_all()
        else:
            self._start_next()

    def stop(self) -> None:
        """Begin to stop all programs, in reverse order."""
        if not self._stopped_at:
            self._stopped_at = time.monotonic()
            self.options.mood = SupervisorStates.SHUTDOWN

    def handle_signal(self) -> None:
        number = self.options.get_signal()
        if number not in TERMINATING:
            return
        if self._stopped_at:
            self.console.say("killing what still runs")
            self._stopped_at -= STOP_SECONDS
        else:
            self.console.say("stopping")
            self.stop()

    def _start_next(self) -> None:
        """Start programs in order; one whose predecessor is not ready waits for the next turn."""
        while self._waiting:
            program = self._waiting[0]
            before = list(self.programs.values())[: -len(self._waiting)]
            if before and not before[-1].ready():
                return
            del self._waiting[0]
            self._process(program.name).spawn()

    def _process(self, name: str) -> Subprocess:
        return self.process_groups[name].processes[name]

    def _printed(self, event: events.ProcessLogEvent) -> None:
        self.console.feed(event.process.config.name, event.data)

    def _changed(self, event: events.ProcessStateEvent) -> None:
        """Tell of starts and deaths; stop all when one keeps dying."""
        process = event.process
        name = process.config.name
        if isinstance(event, events.ProcessStateRunningEvent):
            self.console.say(f"{name} runs (process {process.pid})")
        elif isinstance(event, events.ProcessStateStoppedEvent):
            self.options.endings.pop(process.pid, None)
            self.console.flush(name)
            self.console.say(f"{name} stopped")
        elif isinstance(event, events.ProcessStateExitedEvent | events.ProcessStateBackoffEvent):
            self.console.flush(name)
            # One that could not be started has no process that has ended.
            self._died(name, self.options.endings.pop(process.pid, process.spawnerr or ""))
        elif isinstance(event, events.ProcessStateFatalEvent):
            self._give_up(name)

    def _died(self, name: str, reason: str) -> None:
        if self._stopped_at:
            return
        deaths = self._deaths[name]
        deaths.append(time.monotonic())
        self.console.say(f"{name} ended unexpectedly ({reason}); starting it again", BOLD_RED)
        if len(deaths) > MAX_DEATHS and deaths[-1] - deaths[0] < DEATHS_WINDOW:
            self._give_up(name)

    def _give_up(self, name: str) -> None:
        if self._stopped_at:
            return
        lines = "".join(f"\n    {line}" for line in self.console.last(name)) or "\n    (it printed nothing)"
        self.failure = f"{name} keeps dying, so everything stops. The last it said:{lines}"
        self.stop()

    def _kill_all(self) -> None:
        for name in self.programs:
            process = self._process(name)
            if process.pid and process.state != ProcessStates.STOPPED:
                os.killpg(process.pid, signal.SIGKILL)


def run(programs: Sequence[Program], logs: Path, console: Console) -> str:
    """Run the programs until a signal comes or one keeps dying; returns why they had to stop, "" when asked to."""
    supervisor = Run(programs, logs, console)
    with suppress(asyncore.ExitNow):
        supervisor.main()
    return supervisor.failure
