"""A UDP socket that reads all that has arrived in one turn of the loop, and handles as much of it as a turn may take.

asyncio's own transport makes one turn a datagram: what a connection has to say is then sent before its other
datagrams have been read. The kernel's buffer is emptied before anything is handled, for what it has no room for costs
a probe timeout; and what belongs to connections that exist is handled before handshakes, which can wait.
"""

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger(__name__)

DATAGRAM = 4096  # bytes; ours and our agents' are of 1,200 to 1,500
READ_AT_ONCE = 500  # datagrams in one turn
WAITING = 2000  # datagrams read and not handled; beyond, they stay in the kernel
TURN = 0.02  # seconds of handling, before timers and others have their turn
BEHIND = 50  # datagrams that wait: whoever writes a burst lets them go first
TURNS = 50  # for which it does so at most
AT_LEAST = 4  # datagrams of each kind handled in a turn, however long the others take
BUFFER = 8 * 1024 * 1024  # bytes asked of the kernel for each direction
QUEUE = 20_000  # datagrams that wait while the kernel takes no more; beyond, QUIC's loss recovery helps

Address = Any  # (host, port) or (host, port, flow, scope)


class UdpSocket:
    """Owns a bound, non-blocking socket; calls `received` for each datagram and `drained` after a turn's last."""

    def __init__(
        self,
        sock: socket.socket,
        received: Callable[[bytes, Address], None],
        drained: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._received = received
        self._drained = drained
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._short: deque[tuple[float, bytes, Address]] = deque()  # by when they were read
        self._long: deque[tuple[float, bytes, Address]] = deque()  # handshakes
        self._going_on = False
        self.dropped = 0  # datagrams that the queue had no room for
        self._loop.add_reader(sock, self._readable)

    @property
    def port(self) -> int:
        port: int = self._sock.getsockname()[1]
        return port

    def send(self, data: bytes, address: Address) -> None:
        """Send now, or as soon as the kernel takes it."""
        if self._queue:
            self._enqueue(data, address)
            return
        try:
            self._sock.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            self._enqueue(data, address)
            self._loop.add_writer(self._sock, self._writable)
        except OSError as error:
            # No route for the moment, a firewall's refusal: for QUIC a lost datagram, for the log one of many.
            log.debug("datagram not sent", address=address[0], error=str(error))

    def close(self) -> None:
        """Stop reading and close the socket; what is queued is lost. Idempotent."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            self._short.clear()
            self._long.clear()

    def _enqueue(self, data: bytes, address: Address) -> None:
        if len(self._queue) < QUEUE:
            self._queue.append((data, address))
        else:
            self.dropped += 1

    def delay(self, now: float) -> float:
        """Seconds that the oldest datagram has been waiting to be handled; `now` is the loop's time."""
        return max((now - queue[0][0] for queue in (self._short, self._long) if queue), default=0.0)

    async def turn(self) -> None:
        """Let the loop have its turn, and more of them while much has arrived that is not handled.

        A burst's answers must be read while it goes out: what is not acknowledged in time is sent again.
        """
        for _ in range(TURNS):
            await asyncio.sleep(0)
            if len(self._short) < BEHIND:
                break

    def _readable(self) -> None:
        now, room = self._loop.time(), WAITING - len(self._short) - len(self._long)
        for _ in range(min(READ_AT_ONCE, room)):
            try:
                data, address = self._sock.recvfrom(DATAGRAM)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                # An ICMP error about something sent before; nothing is wrong with the socket.
                log.debug("socket error", error=str(error))
                continue
            (self._long if data and data[0] & 0x80 else self._short).append((now, data, address))
        if not self._going_on:
            self._handle()

    def _handle(self) -> None:
        until = self._loop.time() + TURN
        self._going_on = False
        for queue in (self._short, self._long):
            owed = AT_LEAST
            while queue and (owed > 0 or self._loop.time() < until):
                _, data, address = queue.popleft()
                self._received(data, address)
                owed -= 1
        if self._short or self._long:
            self._going_on = True
            self._loop.call_soon(self._handle)
        self._drained()

    def _writable(self) -> None:
        while self._queue:
            data, address = self._queue[0]
            try:
                self._sock.sendto(data, address)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                log.debug("datagram not sent", address=address[0], error=str(error))
            self._queue.popleft()
        self._loop.remove_writer(self._sock)


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound UDP socket for UdpSocket; "::" serves IPv4 as well. Raises OSError naming host and port.

    shared: others that say so too may bind the same port."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError as error:
        sock.close()
        text = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise OSError(error.errno, f"cannot listen on {host} UDP port {port}: {text}") from error
    return sock
