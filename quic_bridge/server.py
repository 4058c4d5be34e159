"""The thin shell between UDP, aioquic and the sessions: it moves bytes and keeps time, and decides nothing."""

import asyncio
import socket
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog
from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, encode_quic_version_negotiation, pull_quic_header
from quartzflow_agent.protocol.constants import (
    ALPN_AGENT,
    ALPN_LEGACY,
    CLOSE_INTERNAL,
    CLOSE_OK,
    CLOSE_PROTOCOL,
    IDLE_TIMEOUT,
)
from quartzflow_agent.protocol.text import cut_utf8

from . import tuning
from .admission import Admission
from .closing import Close
from .inputs import Input
from .legacy_session import LegacySession
from .limits import Limits
from .session import CONTROL_STREAM, Facts, Session
from .steering import Steering
from .udp import Address, UdpSocket

log = structlog.get_logger(__name__)

CONNECTION_ID = 8  # bytes
REASON = 256  # bytes of a reason on the wire
TURN = 0.02  # seconds of sending in one turn of the loop, before what has arrived is read


class Handler(Protocol):
    """Whoever gives the sessions their meaning."""

    def received(self, connection: "Connection", item: Input) -> None:
        """The agent said something."""

    def closed(self, connection: "Connection", close: Close) -> None:
        """The session is over, by either side; called once, whether the agent had registered or not."""


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


class Connection:
    """One QUIC connection and its session."""

    __slots__ = ("__weakref__", "_cids", "_dirty", "_quic", "_server", "_timer", "_timer_at", "ip", "session")

    def __init__(self, server: "Server", quic: QuicConnection, session: Session, ip: str) -> None:
        self.session: Session | LegacySession = session
        self.ip = ip
        self._server = server
        self._quic: QuicConnection | None = quic  # None once the connection has ended
        self._cids = {quic.original_destination_connection_id, quic.host_cid}
        self._dirty = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        tuning.tune(quic)

    @property
    def agent(self) -> Session:
        """The session of an agent; what only agents say is answered on it. Raises TypeError for a quic-flow client."""
        if not isinstance(self.session, Session):
            raise TypeError("not an agent's session")
        return self.session

    def admit(self, client_id: str, config_version: int, *, group: str, credential: str) -> bool:
        """Let the agent in (`Session.accept`); False when the connection has ended meanwhile."""
        if self._quic is None or self.session.closing is not None:
            return False
        self.session.accept(client_id, config_version, group=group, credential=credential)
        self._server.registered()
        self.wake()
        return True

    def wake(self) -> None:
        """Send what the session has, once this turn of the loop is over."""
        if not self._dirty and self._quic is not None:
            self._dirty = True
            self._server.flush_soon(self)

    def received(self, data: bytes, address: Address, now: float) -> None:
        """A datagram for this connection."""
        if self._quic is None:
            return
        try:
            self._quic.receive_datagram(data, address, now=now)
            self._process_events(now)
        except Exception:
            # Whatever a peer's packets do to us stays within its connection.
            log.exception("connection failed", client=self.session.client_id, ip=self.ip)
            self.session.close(CLOSE_INTERNAL, "internal error")
        self.wake()

    def transmit(self, now: float) -> None:
        """Send what is pending, close when the session wants to, and arm the timer."""
        self._dirty = False
        quic, session = self._quic, self.session
        if quic is None:
            return
        if quic.get_peer_address() is None:
            session.close(CLOSE_PROTOCOL, "no valid packet")
            self._end()
            return
        self._handle_timer(quic, now)
        end = tuning.close_of(quic)
        if end is not None:
            session.close(CLOSE_OK, end.reason_phrase or "closed by the agent")
            self._send(quic, now)  # the alert, when it was aioquic that found a fault
            self._end()
            return
        self._write(quic, session, now)
        self._send(quic, now)
        if session.closing is not None:
            reason, _ = cut_utf8(session.closing.reason, REASON)
            quic.close(session.closing.code, reason_phrase=reason)
            self._send(quic, now)
            self._end()
            return
        self._arm(quic)

    def _write(self, quic: QuicConnection, session: Session | LegacySession, now: float) -> None:
        if isinstance(session, LegacySession):
            for stream_id, data, end in session.take_writes():
                quic.send_stream_data(stream_id, data, end)
        elif output := session.take_output():
            quic.send_stream_data(CONTROL_STREAM, output)
            tuning.acknowledge_now(quic, now)
            session.check_backlog(tuning.unacknowledged(quic, CONTROL_STREAM))

    def _process_events(self, now: float) -> None:
        assert self._quic is not None  # noqa: S101  only called on a live connection
        while (event := self._quic.next_event()) is not None:
            match event:
                case events.StreamDataReceived():
                    for item in self.session.receive(event.stream_id, event.data, event.end_stream, now):
                        self._server.handler.received(self, item)
                    # A quic-flow client's session ends its streams itself, behind the answer.
                    if (
                        event.end_stream
                        and event.stream_id % 4 == 0
                        and self.session.closing is None
                        and isinstance(self.session, Session)
                    ):
                        self._quic.send_stream_data(event.stream_id, b"", end_stream=True)
                case events.ConnectionIdIssued():
                    self._cids.add(event.connection_id)
                    self._server.routes[event.connection_id] = self
                case events.ConnectionIdRetired():
                    self._cids.discard(event.connection_id)
                    self._server.routes.pop(event.connection_id, None)
                case events.ProtocolNegotiated(alpn_protocol=protocol):
                    if protocol == ALPN_LEGACY:
                        self.session = self._server.legacy_session(self.session)
                case events.HandshakeCompleted():
                    tuning.tune(self._quic, agent=isinstance(self.session, Session))
                case events.StreamReset():
                    self.session.reset(event.stream_id)
                case events.StopSendingReceived():
                    self.session.stop_sending(event.stream_id)

    def _send(self, quic: QuicConnection, now: float) -> None:
        for data, address in quic.datagrams_to_send(now=now):
            self._server.socket.send(data, address)

    def _arm(self, quic: QuicConnection) -> None:
        # Deadlines mostly move on. An armed timer that rings too early looks again, which is cheaper than
        # cancelling and arming one with every datagram.
        due = quic.get_timer()
        if due is None or (self._timer is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._server.loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        quic = self._quic
        if quic is None:
            return
        due = quic.get_timer()
        if due is None or due > max(self._timer_at, self._server.loop.time()):
            self._arm(quic)
        else:
            # Thousands may be due at once: they have their turn among all who have something to send.
            self.wake()

    def _handle_timer(self, quic: QuicConnection, now: float) -> None:
        due = quic.get_timer()
        if due is None or due > now:
            return
        try:
            quic.handle_timer(now=now)
            self._process_events(now)
        except Exception:
            log.exception("connection failed", client=self.session.client_id, ip=self.ip)
            self.session.close(CLOSE_INTERNAL, "internal error")

    def _end(self) -> None:
        # Packets that still arrive would be ignored by aioquic too: there is nothing to wait for.
        quic, close = self._quic, self.session.closing
        if quic is None or close is None:
            return
        self._quic = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._server.ended(self, self._cids, close)
        tuning.dismantle(quic)

    def abort(self) -> None:
        """Forget the connection without a word to the peer: it cannot even be closed any more."""
        self.session.close(CLOSE_INTERNAL, "internal error")
        self._end()


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
