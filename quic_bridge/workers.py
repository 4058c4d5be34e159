"""The parent of several bridge processes: it opens their sockets, starts them, and starts again what dies.

The sockets outlive a worker: the others keep their places in the kernel's order, and the next one takes over the port.
"""

import errno
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from .steering import bind_consecutive, bind_shared

log = structlog.get_logger(__name__)

LOOK = 0.1  # seconds between two looks at the workers
DEATHS, WITHIN = 5, 60.0  # more deaths within so many seconds end it all
STOP = 15.0  # seconds that workers have for ending

# (worker, descriptor of its socket) → command
Command = Callable[[int, int], list[str]]


class WorkersFailedError(Exception):
    """The workers die again and again."""


def open_sockets(host: str, port: int, workers: int) -> list[socket.socket]:
    """One socket for each worker: on one port, or, where the kernel refuses, on consecutive ones. Raises OSError."""
    try:
        return bind_shared(host, port, workers)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        sockets = bind_consecutive(host, port, workers)
        log.warning(
            "this kernel does not share a port by connection ids; each worker has its own",
            ports=[sock.getsockname()[1] for sock in sockets],
            error=str(error),
        )
        return sockets


class Workers:
    """Runs one process for each socket until `stop`."""

    def __init__(self, sockets: Sequence[socket.socket], command: Command) -> None:
        self._sockets = sockets
        self._command = command
        self._processes: list[subprocess.Popen[bytes]] = []
        self._deaths: deque[float] = deque(maxlen=DEATHS + 1)
        self._stopping = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises WorkersFailedError when the workers die too often."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        try:
            self._processes = [self._start(worker) for worker in range(len(self._sockets))]
            while not self._stopping:
                time.sleep(LOOK)
                self.look()
        finally:
            self._end()

    def stop(self, *_: object) -> None:
        self._stopping = True

    def look(self) -> None:
        """Start again what has died."""
        for worker, process in enumerate(self._processes):
            code = process.poll()
            if code is None or self._stopping:
                continue
            log.error("worker ended unexpectedly; starting it again", worker=worker, code=code)
            self._deaths.append(time.monotonic())
            if len(self._deaths) > DEATHS and self._deaths[-1] - self._deaths[0] < WITHIN:
                raise WorkersFailedError(f"workers have died {len(self._deaths)} times within {WITHIN:.0f} s")
            self._close_stdin(process)
            self._processes[worker] = self._start(worker)

    def _start(self, worker: int) -> "subprocess.Popen[bytes]":
        descriptor = self._sockets[worker].fileno()
        # Its standard input ends when we do, however we do: then it stops as well.
        process = subprocess.Popen(
            self._command(worker, descriptor), pass_fds=[descriptor], stdin=subprocess.PIPE
        )
        log.info("worker started", worker=worker, process=process.pid)
        return process

    def _end(self) -> None:
        # Tell all, wait with a limit, kill who is left.
        for process in self._processes:
            process.terminate()
        until = time.monotonic() + STOP
        for worker, process in enumerate(self._processes):
            try:
                process.wait(max(until - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                log.error("worker killed: it did not stop", worker=worker)
                process.kill()
                process.wait()
            self._close_stdin(process)
        for sock in self._sockets:
            sock.close()

    @staticmethod
    def _close_stdin(process: "subprocess.Popen[bytes]") -> None:
        if process.stdin is not None:
            process.stdin.close()
