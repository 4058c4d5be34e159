"""The thin shell between UDP, aioquic and the sessions: it moves bytes and keeps time, and decides nothing."""

import asyncio
import socket
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog
from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.packet import QuicPacketType, encode_quic_version_negotiation, pull_quic_header
from quartzflow_agent.protocol.constants import (
    ALPN_AGENT,
    ALPN_LEGACY,
    IDLE_TIMEOUT,
)

from . import tuning
from .admission import Admission
from .closing import Close
from .connection import Connection, Handler
from .legacy_session import LegacySession
from .limits import Limits
from .session import Facts, Session
from .steering import Steering
from .timers import Timers
from .udp import Address, UdpSocket

log = structlog.get_logger(__name__)

CONNECTION_ID = 8  # bytes
REASON = 256  # bytes of a reason on the wire
TURN = 0.02  # seconds of sending in one turn of the loop, before what has arrived is read


def configuration(certificate: Path, key: Path, *, legacy: bool = False) -> QuicConfiguration:
    """A server's configuration; `legacy`: quic-flow clients may connect too.

    Raises OSError, or ValueError when the PEM files cannot be used.
    """
    config = QuicConfiguration(
        is_client=False,
        alpn_protocols=[ALPN_AGENT, ALPN_LEGACY] if legacy else [ALPN_AGENT],
        connection_id_length=CONNECTION_ID,
        idle_timeout=IDLE_TIMEOUT,
    )
    try:
        config.load_cert_chain(certificate, key)
    except (ValueError, TypeError) as error:  # TypeError: the key asks for a password
        raise ValueError(f"cannot use {certificate} and {key}: {error}") from error
    if config.certificate.public_key() != config.private_key.public_key():
        raise ValueError(f"{key} is not the key of {certificate}")
    return config


class Server:
    """All connections of one socket."""

    def __init__(
        self,
        sock: socket.socket,
        config: QuicConfiguration,
        facts: Facts,
        handler: Handler,
        limits: Limits,
        steering: Steering,
        lag: Callable[[float], float],
    ) -> None:
        """Takes a bound socket (`udp.bind`) and starts reading from it; set `accepting` to let agents in."""
        self.loop = asyncio.get_running_loop()
        self.handler = handler
        self.routes: dict[bytes, Connection] = {}
        self.connections: set[Connection] = set()
        self.accepting = False
        self._freezer = tuning.Freezer()
        self._config = config
        self._facts = facts
        self._limits = limits
        self._steering = steering
        self._admission = Admission(
            limits, self.loop.time(), lambda now: max(lag(now), self.socket.delay(now))
        )
        self.timers = Timers(self.loop)
        self._dirty: deque[Connection] = deque()
        self._scheduled = False
        self.socket = UdpSocket(sock, self._datagram_received, self._flush)

    def legacy_session(self, session: Session | LegacySession) -> LegacySession:
        """What takes the place of a fresh session once the client turns out to be a quic-flow client."""
        return LegacySession(session.session_id, self._facts, self._limits, self.loop.time())

    @property
    def port(self) -> int:
        return self.socket.port

    def registered(self) -> None:
        """One of the connections counts no longer among the unregistered."""
        self._admission.unregistered -= 1
        self._freezer.connected(self.loop.time())

    def flush_soon(self, connection: Connection) -> None:
        self._dirty.append(connection)
        self._schedule()

    def check(self) -> None:
        """Close sessions whose time is over; called about once a second."""
        now = self.loop.time()
        self._freezer.settle(now)
        for connection in self.connections:
            connection.session.check(now)
            if connection.session.closing is not None:
                connection.wake()

    def close_all(self, code: int, reason: str) -> None:
        """Accept nobody any more and close every session, at once."""
        self.accepting = False
        for connection in list(self.connections):
            connection.session.close(code, reason)
            self.transmit(connection, self.loop.time())

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self.socket.close()

    def ended(self, connection: Connection, cids: set[bytes], close: Close) -> None:
        """Only the connection's own ids are looked up: a scan of all routes took 17 ms with 10,000 connections."""
        for cid in cids:
            self.routes.pop(cid, None)
        self.connections.discard(connection)
        if not connection.session.client_id:
            self._admission.unregistered -= 1
        self.handler.closed(connection, close)

    def transmit(self, connection: Connection, now: float) -> None:
        """Let one connection send; what fails stays within it."""
        try:
            connection.transmit(now)
        except Exception:
            log.exception("connection failed", client=connection.session.client_id, ip=connection.ip)
            connection.abort()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        """Let connections send that want to, as many as a turn may take."""
        now = self.loop.time()
        until = now + TURN
        while self._dirty:
            self.transmit(self._dirty.popleft(), now)
            now = self.loop.time()
            if now >= until:
                break
        if self._dirty:
            self._schedule()

    def _datagram_received(self, data: bytes, address: Address) -> None:
        connection: Connection | None
        if data and not data[0] & 0x80:  # a short header: nothing to parse for finding the connection
            connection = self.routes.get(data[1 : 1 + CONNECTION_ID])
        else:
            connection = self._route_long(data, address)
        if connection is not None:
            connection.received(data, address, self.loop.time())

    def _route_long(self, data: bytes, address: Address) -> Connection | None:
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID)
        except ValueError:
            return None
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION:
            return None  # answering would let two servers keep each other busy for ever
        if header.version not in self._config.supported_versions:
            answer = encode_quic_version_negotiation(
                source_cid=header.destination_cid,
                destination_cid=header.source_cid,
                supported_versions=self._config.supported_versions,
            )
            self.socket.send(answer, address)
            return None
        connection = self.routes.get(header.destination_cid)
        if (
            connection is None
            and header.packet_type == QuicPacketType.INITIAL
            and len(data) >= SMALLEST_MAX_DATAGRAM_SIZE
            and self.accepting
        ):
            ip = address[0].removeprefix("::ffff:")
            if self._admission.admit(ip, self.loop.time()):
                connection = self._connect(header.destination_cid, ip)
        return connection

    def _connect(self, original_cid: bytes, ip: str) -> Connection:
        quic = tuning.SteeredConnection(
            configuration=self._config,
            original_destination_connection_id=original_cid,
            steering=self._steering,
        )
        session = Session(uuid.uuid4().hex, self._facts, self._limits, self.loop.time())
        connection = Connection(self, quic, session, ip)
        self.routes[original_cid] = self.routes[quic.host_cid] = connection
        self.connections.add(connection)
        return connection
