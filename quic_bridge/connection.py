"""One QUIC connection and its session: bytes and time go in and out, and nothing is decided here."""

from typing import Protocol

import structlog
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from quartzflow_agent.protocol.constants import ALPN_LEGACY, CLOSE_INTERNAL, CLOSE_OK, CLOSE_PROTOCOL
from quartzflow_agent.protocol.text import cut_utf8

from . import tuning
from .closing import Close
from .inputs import Input
from .legacy_session import LegacySession
from .session import CONTROL_STREAM, Session
from .timers import FINE, Timers
from .udp import Address, UdpSocket

log = structlog.get_logger(__name__)

REASON = 256  # bytes of a reason on the wire


class Handler(Protocol):
    """Whoever gives the sessions their meaning."""

    def received(self, connection: "Connection", item: Input) -> None:
        """The agent said something."""

    def closed(self, connection: "Connection", close: Close) -> None:
        """The session is over, by either side; called once, whether the agent had registered or not."""


class Keeper(Protocol):
    """What a connection needs of whoever keeps it: the server."""

    handler: Handler
    routes: dict[bytes, "Connection"]
    timers: Timers
    socket: UdpSocket

    def flush_soon(self, connection: "Connection") -> None:
        """Let it `transmit` in this turn of the loop."""

    def registered(self) -> None:
        """Another connection is there to stay."""

    def legacy_session(self, session: Session | LegacySession) -> LegacySession:
        """What takes the place of a fresh session."""

    def ended(self, connection: "Connection", cids: set[bytes], close: Close) -> None:
        """Forget it, with the ids by which it was known."""


class Connection:
    """One QUIC connection and its session."""

    __slots__ = ("__weakref__", "_cids", "_dirty", "_due", "_keeper", "_quic", "ip", "session", "slot")

    def __init__(self, keeper: Keeper, quic: QuicConnection, session: Session, ip: str) -> None:
        self.session: Session | LegacySession = session
        self.ip = ip
        self._keeper = keeper
        self._quic: QuicConnection | None = quic  # None once the connection has ended
        self._cids = {quic.original_destination_connection_id, quic.host_cid}
        self._dirty = False
        self._due = False  # the timer has rung, and nothing was received since
        self.slot = 0  # `Timers`
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
        self._keeper.registered()
        self.wake()
        return True

    def wake(self) -> None:
        """Send what the session has, once this turn of the loop is over."""
        if not self._dirty and self._quic is not None:
            self._dirty = True
            self._keeper.flush_soon(self)

    def received(self, data: bytes, address: Address, now: float) -> None:
        """A datagram for this connection."""
        if self._quic is None:
            return
        self._due = False
        try:
            self._quic.receive_datagram(data, address, now=now)
            self._process_events(now)
        except Exception:
            # Whatever a peer's packets do to us stays within its connection.
            log.exception("connection failed", client=self.session.client_id, ip=self.ip)
            self.session.close(CLOSE_INTERNAL, "internal error")
        if self.session.has_output or not tuning.can_wait(self._quic, now):
            self.wake()
        elif not self._dirty:
            due = tuning.timer_after_receipt(self._quic) if self.slot else tuning.timer(self._quic)
            self._keeper.timers.arm(self, due)

    def ring(self, now: float) -> None:
        """A timer of the connection may be due."""
        quic = self._quic
        if quic is None:
            return
        due = tuning.timer(quic)
        if due > now:
            self._keeper.timers.arm(self, due)
        else:
            # Thousands may be due at once: they have their turn among all who have something to send.
            self._due = True
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
        self._keeper.timers.arm(self, tuning.timer(quic))

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
                        self._keeper.handler.received(self, item)
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
                    self._keeper.routes[event.connection_id] = self
                case events.ConnectionIdRetired():
                    self._cids.discard(event.connection_id)
                    self._keeper.routes.pop(event.connection_id, None)
                case events.ProtocolNegotiated(alpn_protocol=protocol):
                    if protocol == ALPN_LEGACY:
                        self.session = self._keeper.legacy_session(self.session)
                case events.HandshakeCompleted():
                    tuning.tune(self._quic, agent=isinstance(self.session, Session))
                case events.StreamReset():
                    self.session.reset(event.stream_id)
                case events.StopSendingReceived():
                    self.session.stop_sending(event.stream_id)

    def _send(self, quic: QuicConnection, now: float) -> None:
        for data, address in quic.datagrams_to_send(now=now):
            self._keeper.socket.send(data, address)

    def _handle_timer(self, quic: QuicConnection, now: float) -> None:
        if not self._due and (now < self.slot * FINE or tuning.timer(quic) > now):
            return
        self._due = False
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
        self._keeper.timers.disarm(self)
        self._keeper.ended(self, self._cids, close)
        tuning.dismantle(quic)

    def abort(self) -> None:
        """Forget the connection without a word to the peer: it cannot even be closed any more."""
        self.session.close(CLOSE_INTERNAL, "internal error")
        self._end()
