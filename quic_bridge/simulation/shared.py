"""What the simulated agents of one process share, as one of them sees it."""

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from ..timers import Timers
from ..udp import Address, UdpSocket
from .options import Options, Stats


@dataclass(frozen=True)
class Endpoint:
    address: Address
    configuration: QuicConfiguration


class Fleet(Protocol):
    """What an agent shares with the others of its process."""

    options: Options
    stats: Stats
    loop: asyncio.AbstractEventLoop
    random: Random
    timers: Timers
    endpoints: list[Endpoint]
    routes: dict[bytes, Any]

    def socket_for(self, number: int) -> UdpSocket:
        """The one that the agent of this number sends from."""

    def flush_soon(self, agent: Any) -> None:
        """Let it `transmit` in this turn of the loop."""

    def forget(self, agent: Any, quic: QuicConnection) -> None:
        """Its connection has ended."""

    def applied(self, version: int) -> None:
        """It holds this configuration version now."""
