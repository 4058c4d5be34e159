"""One QUIC connection to a bridge: aioquic and asyncio around an AgentSession."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, List, Optional, Tuple

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events as quic_events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode

from quartzflow_agent import quic_tuning
from quartzflow_agent.clock import monotonic
from quartzflow_agent.config import Endpoint
from quartzflow_agent.events import Event, Lost
from quartzflow_agent.i18n import _
from quartzflow_agent.protocol import agent_pb2, messages
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.constants import CLOSE_OK
from quartzflow_agent.protocol.framing import encode
from quartzflow_agent.session import AgentSession
from quartzflow_agent.trust import Trust, TrustError

HANDSHAKE_TIMEOUT = 5.0  # seconds, for each address of a server
REFUSALS = 3  # "port unreachable" in a row: nobody is there any more
LOG_CHUNK = 128 * 1024  # bytes of a full log in one frame
LOG_PAUSE = 0.02  # seconds between two chunks, so that a log takes no more than ~6 MB/s


class ConnectError(Exception):
    """The server cannot be reached or trusted; the message says why."""


class Connection(QuicConnectionProtocol):
    """Moves bytes between the socket and the session, and keeps the session's time."""

    def __init__(self, quic: QuicConnection, session: AgentSession) -> None:
        super().__init__(quic)
        self.session = session
        self._handshake: asyncio.Future[None] = self._loop.create_future()
        self._events: List[Event] = []
        self._arrived = asyncio.Event()
        self._gone = asyncio.Event()
        self._refusals = 0
        self._session_timer: Optional[asyncio.TimerHandle] = None
        self._stream = 0

    async def handshake(self, addr: Any) -> None:
        """Agree on keys. Raises ConnectError."""
        self.connect(addr)
        await asyncio.wait([self._handshake], timeout=HANDSHAKE_TIMEOUT)
        if not self._handshake.done():
            raise ConnectError(
                _("no answer within {seconds} s: is the bridge running, and does UDP get through?").format(
                    seconds=int(HANDSHAKE_TIMEOUT)
                )
            )
        self._handshake.result()

    def begin(self) -> None:
        """Open the control stream and introduce ourselves."""
        self._stream = self._quic.get_next_available_stream_id()
        self.session.start(monotonic())
        self.flush()

    def flush(self) -> None:
        """Send what the session has, once this turn of the loop is over, and keep its timer."""
        data = self.session.data_to_send()
        if data and not self._gone.is_set():
            self._quic.send_stream_data(self._stream, data)
            self._transmit_soon()
        if self._session_timer is not None:
            self._session_timer.cancel()
            self._session_timer = None
        due = self.session.timer()
        if due is not None:
            self._session_timer = self._loop.call_later(max(due - monotonic(), 0), self._on_session_timer)

    async def next_events(self) -> List[Event]:
        """All that has happened since the last call; waits until something has. Ends with Lost."""
        await self._arrived.wait()
        self._arrived.clear()
        found, self._events = self._events, []
        return found

    async def send_log(self, chunks: List[agent_pb2.LogChunk]) -> None:
        """Send a full log over a stream of its own, not faster than everything else can bear."""
        stream = self._quic.get_next_available_stream_id()
        for number, chunk in enumerate(chunks):
            frame = encode(messages.data(pb.MESSAGE_TYPE_LOG_CHUNK, chunk, sender_id=self.session.client_id))
            if self._gone.is_set():
                return
            self._quic.send_stream_data(stream, frame, end_stream=number == len(chunks) - 1)
            self._transmit_soon()
            await asyncio.sleep(LOG_PAUSE)

    async def finish(self, code: int = CLOSE_OK, reason: str = "") -> None:
        """Send what is left, say goodbye and free the socket. Idempotent."""
        if not self._gone.is_set():
            self._gone.set()
            self.transmit()
            self.close(code, reason)
        for timer in (self._session_timer, self._timer, self._transmit_task):
            if timer is not None:
                timer.cancel()
        self._session_timer = self._timer = self._transmit_task = None
        # Not waiting for aioquic's draining period: a goodbye that is lost costs the bridge a timeout, us nothing.
        if self._transport is not None:
            self._transport.close()
        await asyncio.sleep(0)

    # --- from asyncio and aioquic ---

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        self._refusals = 0
        self._quic.receive_datagram(data, addr, now=self._loop.time())  # type: ignore[arg-type]
        self._process_events()
        # What a burst of datagrams makes us say goes out together.
        self._transmit_soon()

    def error_received(self, error: Exception) -> None:
        if not isinstance(error, ConnectionRefusedError):
            return  # no route for the moment; the heartbeat decides
        self._refusals += 1
        if not self._handshake.done():
            self._handshake.set_exception(ConnectError(_("nobody listens on that UDP port")))
        elif self._refusals >= REFUSALS:
            self._report([Lost("the bridge's port is closed")])
        else:
            self.session.ping(monotonic())
            self.flush()

    def quic_event_received(self, event: quic_events.QuicEvent) -> None:
        if isinstance(event, quic_events.StreamDataReceived):
            if event.stream_id == self._stream:
                self._report(self.session.receive_data(event.data, monotonic()))
                if event.end_stream:
                    self._report([Lost("the bridge ended the control stream")])
                self.flush()
        elif isinstance(event, quic_events.HandshakeCompleted):
            quic_tuning.tune(self._quic)
            if not self._handshake.done():
                self._handshake.set_result(None)
        elif isinstance(event, quic_events.ConnectionTerminated):
            self._on_terminated(event)

    def _on_terminated(self, event: quic_events.ConnectionTerminated) -> None:
        self._gone.set()
        reason = event.reason_phrase or _error_name(event.error_code)
        if not self._handshake.done():
            self._handshake.set_exception(ConnectError(reason))
        # Without a frame type it is the application's own close.
        self._report([Lost(reason, event.error_code if event.frame_type is None else -1)])

    def _on_session_timer(self) -> None:
        self._session_timer = None
        self._report(self.session.handle_timer(monotonic()))
        self.flush()

    def _report(self, found: List[Event]) -> None:
        if found:
            self._events += found
            self._arrived.set()


def _error_name(code: int) -> str:
    try:
        return QuicErrorCode(code).name.lower().replace("_", " ")
    except ValueError:
        return f"closed with code {code}"


async def resolve(endpoint: Endpoint) -> List[Tuple[int, Any]]:
    """The server's addresses: (family, address). Raises ConnectError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ConnectError(
            _('cannot resolve "{host}": {error}').format(host=endpoint.host, error=error.strerror or error)
        ) from error
    return [(int(family), address) for family, _type, _proto, _name, address in found]


async def connect(endpoint: Endpoint, trust: Trust, session: AgentSession) -> Connection:
    """Connect to the first address that answers, verify the server, and open the session.

    Raises ConnectError when no address does, or when the server is not to be trusted.
    """
    connection = await reach(endpoint, trust, session)
    connection.begin()
    return connection


async def reach(endpoint: Endpoint, trust: Trust, session: AgentSession) -> Connection:
    """As `connect`, but nothing is said yet. Raises ConnectError."""
    problem = ConnectError(_("it has no address"))
    for family, address in await resolve(endpoint):
        try:
            connection = await _open(family, address, endpoint, trust, session)
        except ConnectError as error:
            problem = error
            continue
        try:
            await connection.handshake(address)
            trust.check(quic_tuning.peer_certificates(connection._quic), endpoint.host)
        except (ConnectError, TrustError) as error:
            problem = ConnectError(str(error))
            await connection.finish()
            continue
        except BaseException:
            await connection.finish()
            raise
        return connection
    raise problem


async def _open(
    family: int, address: Any, endpoint: Endpoint, trust: Trust, session: AgentSession
) -> Connection:
    configuration = quic_tuning.configuration()
    configuration.server_name = endpoint.host
    trust.apply(configuration)
    quic = QuicConnection(configuration=configuration)
    quic_tuning.tune(quic)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    try:
        # Connected, so that "port unreachable" reaches us and nobody else's datagrams do.
        sock.connect(address)
        loop = asyncio.get_running_loop()
        _transport, connection = await loop.create_datagram_endpoint(
            lambda: Connection(quic, session), sock=sock
        )
    except OSError as error:
        sock.close()
        raise ConnectError(str(error.strerror or error)) from error
    return connection
