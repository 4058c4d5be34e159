"""The network between agents and bridge: a UDP proxy for each host, whose wire can be cut and mended."""

import asyncio
import socket
import threading
from typing import Any

Address = tuple[Any, ...]


class Links:
    """One link for each host, in a thread of its own. What is sent over a cut one is lost, both ways."""

    def __init__(self, count: int, target: tuple[str, int]) -> None:
        """target: where the bridge listens."""
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._links = [_Link(target) for _ in range(count)]
        self.ports = [self._loop.run_until_complete(link.open(self._loop)) for link in self._links]
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()

    def cut(self, number: int) -> None:
        self._links[number].whole = False

    def mend(self, number: int) -> None:
        self._links[number].whole = True

    @property
    def lost(self) -> int:
        """Datagrams that were lost on cut links."""
        return sum(link.lost for link in self._links)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for link in self._links:
            link.close()
        self._loop.run_until_complete(asyncio.sleep(0))  # transports close in the next turn
        self._loop.close()


class _Link(asyncio.DatagramProtocol):
    """The host's end: what arrives here goes to the bridge from a socket of each sender's own."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.whole = True
        self.lost = 0
        self._target = target
        self._far: dict[Address, socket.socket] = {}

    async def open(self, loop: asyncio.AbstractEventLoop) -> int:
        """Returns the port for the host."""
        self._loop = loop
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if not self.whole:
            self.lost += 1
            return
        if addr not in self._far:
            far = self._far[addr] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            far.setblocking(False)
            far.connect(self._target)
            self._loop.add_reader(far, self._answered, far, addr)
        try:
            self._far[addr].send(data)
        except (ConnectionRefusedError, BlockingIOError):
            self.lost += 1  # no bridge at the moment, or too much at once

    def _answered(self, far: socket.socket, addr: Address) -> None:
        try:
            data = far.recv(65536)
        except (ConnectionRefusedError, BlockingIOError):
            return  # no bridge at the moment
        if self.whole:
            self._transport.sendto(data, addr)
        else:
            self.lost += 1

    def close(self) -> None:
        for far in self._far.values():
            far.close()
        self._transport.close()
