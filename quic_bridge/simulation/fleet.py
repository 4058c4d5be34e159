"""All simulated agents of one process: sockets, the ramp-up, what they count together."""

import asyncio
import random
import socket
import time
from typing import TYPE_CHECKING

from quartzflow_agent import quic_tuning

from .. import tuning, udp
from ..timers import Timers
from ..udp import Address, UdpSocket
from .agent import SimulatedAgent
from .options import Options, Stats
from .shared import Endpoint

if TYPE_CHECKING:
    from aioquic.quic.connection import QuicConnection

AGENTS_PER_SOCKET = 50  # a bridge tells connections apart by their ids, not by their ports
RAMP = 0.02  # seconds between two handfuls of new connections
CONFIG_VERSIONS = 8  # whose times of arrival are kept


class Fleet:
    """Runs in the current event loop."""

    def __init__(self, options: Options) -> None:
        """Raises OSError when an endpoint cannot be resolved, ValueError when the authority cannot be read."""
        self.options = options
        self.loop = asyncio.get_running_loop()
        self.stats = Stats()
        self.random = random.Random(options.seed)  # noqa: S311  no secret
        self.routes: dict[bytes, SimulatedAgent] = {}
        self.endpoints = [_endpoint(host, port, options.ca) for host, port in options.endpoints]
        self.agents: list[SimulatedAgent] = []
        self._family = socket.AF_INET6 if len(self.endpoints[0].address) == 4 else socket.AF_INET
        self._sockets: list[UdpSocket] = []
        self._applied: dict[int, list[float]] = {}
        self.timers = Timers(self.loop)
        self._dirty: list[SimulatedAgent] = []
        self._scheduled = False
        self._freezer = tuning.Freezer()

    async def ramp_up(self) -> None:
        """Begin all connections, `rate` of them a second."""
        begun, started = 0, self.loop.time()
        while begun < self.options.count:
            due = min(int((self.loop.time() - started) * self.options.rate) + 1, self.options.count)
            for number in range(begun, due):
                name = f"{self.options.prefix}-{self.options.first + number:05d}"
                agent = SimulatedAgent(self, name, number)
                self.agents.append(agent)
                agent.connect()
                self._freezer.connected(self.loop.time())
            begun = due
            self._freezer.settle(self.loop.time())
            await asyncio.sleep(RAMP)

    def drop_all(self) -> None:
        """Every agent loses its connection now."""
        for agent in self.agents:
            agent.drop()

    async def stop(self) -> None:
        """Say goodbye for all, and free the sockets."""
        # In one go: agents that are busy connecting anew would otherwise take the loop's time in between.
        for agent in self.agents:
            agent.stop()
        for sock in self._sockets:
            sock.close()

    def applied_at(self, version: int) -> list[float]:
        """When agents have applied this configuration version, or a later one: Unix times, seconds."""
        return [moment for at, moments in self._applied.items() if at >= version for moment in moments]

    # --- For the agents ---

    def socket_for(self, number: int) -> UdpSocket:
        while len(self._sockets) <= number // AGENTS_PER_SOCKET:
            self.new_socket()
        return self._sockets[number // AGENTS_PER_SOCKET]

    def new_socket(self) -> UdpSocket:
        """A socket on a free port, whose datagrams find their agent."""
        host = "::" if self._family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104  replies alone are read
        sock = UdpSocket(udp.bind(host, 0), self._datagram_received, self._flush)
        self._sockets.append(sock)
        return sock

    def flush_soon(self, agent: SimulatedAgent) -> None:
        self._dirty.append(agent)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)

    def forget(self, agent: SimulatedAgent, quic: "QuicConnection") -> None:
        for cid in tuning.host_ids(quic):
            self.routes.pop(cid, None)

    def applied(self, version: int) -> None:
        self.stats.configs += 1
        if version not in self._applied and len(self._applied) >= CONFIG_VERSIONS:
            del self._applied[min(self._applied)]
        self._applied.setdefault(version, []).append(time.time())

    def _flush(self) -> None:
        self._scheduled = False
        dirty, self._dirty = self._dirty, []
        now = self.loop.time()
        for agent in dirty:
            agent.transmit(now)

    def _datagram_received(self, data: bytes, address: Address) -> None:
        if len(data) < 7:
            return
        cid = data[6 : 6 + data[5]] if data[0] & 0x80 else data[1:9]
        agent = self.routes.get(cid)
        if agent is not None:
            agent.received(data, address, self.loop.time())


def _endpoint(host: str, port: int, ca: bytes | None) -> Endpoint:
    configuration = quic_tuning.configuration()
    configuration.server_name = host
    configuration.connection_id_length = 8
    if ca is not None:
        configuration.load_verify_locations(cadata=ca)
    address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4]
    return Endpoint(address, configuration)
