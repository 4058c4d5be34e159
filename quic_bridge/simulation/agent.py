"""One simulated agent: the real agent's session and back-off, on a socket that it shares with others.

It keeps results until they are acknowledged and its credential for as long as the process lives; it stores nothing.
"""

import asyncio
import math
import time
from collections.abc import Sequence

from aioquic.quic import events as quic_events
from aioquic.quic.connection import QuicConnection
from quartzflow_agent import __version__, events, quic_tuning
from quartzflow_agent.backoff import Backoff
from quartzflow_agent.events import AttemptKey, Event
from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol.constants import CLOSE_OK, FEATURES, PROTOCOL_VERSION
from quartzflow_agent.session import AgentSession, Vitals

from .. import tuning
from ..udp import Address, UdpSocket
from .shared import Fleet

CONTROL_STREAM = 0
HANDSHAKE_TIMEOUT = 5.0  # seconds
STEADY = 30.0  # seconds after which a session counts as a good one
REPEAT_AFTER = 15_000  # ms until a result that is not acknowledged is sent again, with a PONG
REMEMBERED = 2000  # instructions, to know a copy by


class SimulatedAgent:
    """Connects, and connects again whenever that ends, until `stop`."""

    __slots__ = (
        "_backoff",
        "_credential",
        "_dirty",
        "_ended",
        "_flap",
        "_fleet",
        "_patience",
        "_pulling",
        "_quic",
        "_retry",
        "_running",
        "_seen",
        "_session",
        "_since",
        "_socket",
        "_turn",
        "_unacknowledged",
        "address",
        "client_id",
        "slot",
        "version",
    )  # fmt: skip

    def __init__(self, fleet: Fleet, client_id: str, number: int) -> None:
        self.client_id = client_id
        self.version = 0  # of the configuration that it holds
        self.address: Address = None
        self._fleet = fleet
        self._turn = number  # which endpoint comes next
        self._socket: UdpSocket = fleet.socket_for(number)
        self._credential = ""
        self._backoff = Backoff(draw=fleet.random.uniform)
        self._quic: QuicConnection | None = None
        self._session: AgentSession | None = None
        self._dirty = False
        self._ended = False
        self._since = 0.0
        self._pulling = False
        self.slot = 0  # `Timers`
        self._patience: asyncio.TimerHandle | None = None  # for the handshake
        self._retry: asyncio.TimerHandle | None = None
        self._flap: asyncio.TimerHandle | None = None
        self._running: dict[AttemptKey, tuple[task_pb2.TaskExecution, asyncio.TimerHandle]] = {}
        self._unacknowledged: dict[AttemptKey, task_pb2.TaskResult] = {}
        self._seen: dict[AttemptKey, None] = {}

    # --- Life ---

    @property
    def registered(self) -> bool:
        return self._since > 0

    def connect(self) -> None:
        """Begin a connection to the next endpoint."""
        self._retry = None
        fleet, loop = self._fleet, self._fleet.loop
        endpoint = fleet.endpoints[self._turn % len(fleet.endpoints)]
        self._turn += 1
        self.address = endpoint.address
        fleet.stats.connections += 1
        quic = self._quic = tuning.LeanConnection(configuration=endpoint.configuration)
        quic_tuning.tune(quic)
        fleet.routes[quic.host_cid] = self
        request = agent_pb2.RegisterRequest(
            client_id=self.client_id,
            credential=self._credential,
            enrollment_token="" if self._credential else fleet.options.token,
            protocol_version=PROTOCOL_VERSION,
            features=FEATURES,
            agent_version=__version__,
            hostname="simulated",
            labels={"simulated": "1"},
            config_version=self.version,
        )
        self._session = AgentSession(request, self._vitals, lambda server_time, sent, received: None)
        quic.connect(endpoint.address, now=loop.time())
        self._patience = loop.call_later(HANDSHAKE_TIMEOUT, self._overdue, quic)
        self.wake()

    def drop(self) -> None:
        """Lose the connection without a word, and come back as after any loss."""
        if self._quic is not None:
            self._disconnect("dropped")

    def stop(self) -> None:
        """Say goodbye; no further connection."""
        self._ended = True
        if self._retry is not None:
            self._retry.cancel()
        for _, timer in self._running.values():
            timer.cancel()
        quic = self._quic
        if quic is not None:
            quic.close(CLOSE_OK, reason_phrase="the simulation ends")
            self._send(quic, self._fleet.loop.time())
            self._disconnect("stopped")

    def move_to(self, sock: UdpSocket) -> None:
        """Go on from another local port, as behind a NAT that has forgotten us."""
        self._socket = sock

    def _vitals(self) -> Vitals:
        return Vitals(self.version, len(self._running), len(self._unacknowledged))

    def _overdue(self, quic: QuicConnection) -> None:
        self._patience = None
        if self._quic is quic:
            self._disconnect("handshake timeout")

    def _disconnect(self, reason: str, pause: float | None = None) -> None:
        """Forget the connection and come back after `pause` seconds; None: as the back-off says."""
        quic, fleet = self._quic, self._fleet
        if quic is None:
            return
        fleet.stats.lost[reason] += 1
        if self.registered:
            fleet.stats.online -= 1
            if fleet.loop.time() - self._since >= STEADY:
                self._backoff.reset()
        self._since = 0.0
        self._pulling = False
        for timer in (self._patience, self._flap):
            if timer is not None:
                timer.cancel()
        self._patience = self._flap = None
        fleet.timers.disarm(self)
        self._quic = self._session = None
        fleet.forget(self, quic)
        tuning.dismantle(quic)
        if not self._ended:
            self._retry = fleet.loop.call_later(
                self._backoff.next() if pause is None else pause, self.connect
            )

    # --- Bytes and time ---

    def wake(self) -> None:
        """Send what there is, once this turn of the loop is over."""
        if not self._dirty:
            self._dirty = True
            self._fleet.flush_soon(self)

    def received(self, data: bytes, address: Address, now: float) -> None:
        quic = self._quic
        if quic is not None:
            quic.receive_datagram(data, address, now=now)
            self._process(quic, now)
            session = self._session
            if session is not None and not session.has_output and tuning.can_wait(quic, now):
                self._arm(quic, session)
            else:
                self.wake()

    def transmit(self, now: float) -> None:
        self._dirty = False
        quic, session = self._quic, self._session
        if quic is None or session is None:
            return
        end = tuning.close_of(quic)
        if end is not None:
            self._disconnect(end.reason_phrase or f"closed with code {end.error_code}")
            return
        output = session.data_to_send()
        if output:
            quic.send_stream_data(CONTROL_STREAM, output)
        self._send(quic, now)
        self._arm(quic, session)

    def _send(self, quic: QuicConnection, now: float) -> None:
        for data, address in quic.datagrams_to_send(now=now):
            self._socket.send(data, address)

    def _arm(self, quic: QuicConnection, session: AgentSession) -> None:
        self._fleet.timers.arm(self, min(tuning.timer(quic), session.timer() or math.inf))

    def ring(self, now: float) -> None:
        """A timer of the connection or of the session may be due."""
        quic, session = self._quic, self._session
        if quic is None or session is None:
            return
        if tuning.timer(quic) <= now:
            quic.handle_timer(now=now)
            self._process(quic, now)
        due = session.timer()
        if due is not None and due <= now:
            self._handle(session.handle_timer(now))
        self.transmit(now)

    def _process(self, quic: QuicConnection, now: float) -> None:
        session = self._session
        while session is not None and (event := quic.next_event()) is not None:
            match event:
                case quic_events.StreamDataReceived(stream_id=0):
                    self._handle(session.receive_data(event.data, now))
                case quic_events.HandshakeCompleted():
                    quic_tuning.tune(quic)
                    if self._patience is not None:
                        self._patience.cancel()
                        self._patience = None
                    session.start(now)
                case quic_events.ConnectionIdIssued():
                    self._fleet.routes[event.connection_id] = self
                case quic_events.ConnectionIdRetired():
                    self._fleet.routes.pop(event.connection_id, None)
            if self._quic is not quic:
                return

    # --- What the bridge says ---

    def _handle(self, found: Sequence[Event]) -> None:
        for item in found:
            session, stats = self._session, self._fleet.stats
            if session is None:
                return
            match item:
                case events.Registered():
                    self._welcome(session, item.response)
                case events.Refused():
                    stats.refused += 1
                    self._disconnect(f"refused ({item.code})")
                case events.Pong():
                    stats.pongs += 1
                    if item.config_version == self.version or self._pulling:
                        self._pulling = False  # not answered by the next one: asked again
                    else:
                        self._pull(session)
                    self._repeat(session)
                case events.ConfigReceived():
                    self._pulling = False
                    self.version = item.config.version
                    session.applied(item.msg_id, self.version)
                    self._fleet.applied(self.version)
                case events.Instructed():
                    session.accept(item.msg_id)
                    self._instruct(item.instruction)
                case events.CancelRequested():
                    session.accept(item.msg_id)
                    self._cancel(item.execution_ids)
                case events.ResultsAcknowledged():
                    self._acknowledged(item.keys)
                case events.ResultRefused():
                    stats.results_refused += 1
                    self._forget_result(item.key)
                case events.WentAway():
                    self._disconnect("went away", self._fleet.random.uniform(0, max(item.delay, 0.1)))
                case events.Lost():
                    self._disconnect(item.reason)

    def _welcome(self, session: AgentSession, response: agent_pb2.RegisterResponse) -> None:
        fleet = self._fleet
        fleet.stats.registrations += 1
        fleet.stats.online += 1
        self._since = fleet.loop.time()
        self._credential = response.credential or self._credential
        if response.config_version != self.version or not self.version:
            self._pull(session)
        for result in self._unacknowledged.values():
            session.result(result)
        if fleet.options.flap:
            self._flap = fleet.loop.call_later(fleet.random.expovariate(fleet.options.flap / 60), self.drop)

    def _pull(self, session: AgentSession) -> None:
        self._pulling = True
        session.pull_config(self.version)

    def _repeat(self, session: AgentSession) -> None:
        old = messages.now_ms() - REPEAT_AFTER
        for result in self._unacknowledged.values():
            if result.finished_at < old:
                session.result(result)

    # --- Executions ---

    def _instruct(self, instruction: task_pb2.TaskExecution) -> None:
        fleet, key = self._fleet, (instruction.execution_id, instruction.attempt)
        fleet.stats.instructions += 1
        fleet.stats.last_instruction = time.time()
        if key in self._seen:
            fleet.stats.duplicates += 1
            return
        self._seen[key] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        wait = (instruction.scheduled_time + instruction.delay_ms - messages.now_ms()) / 1000
        if wait > 0:
            self._running[key] = (instruction, fleet.loop.call_later(wait, self._start, instruction))
        else:
            self._start(instruction)

    def _start(self, instruction: task_pb2.TaskExecution) -> None:
        key, started = (instruction.execution_id, instruction.attempt), messages.now_ms()
        if self._session is not None and self.registered:
            self._session.progress(
                task_pb2.TaskProgress(
                    execution_id=instruction.execution_id,
                    task_id=instruction.task_id,
                    status=task_pb2.RUNNING,
                    started_at=started,
                    attempt=instruction.attempt,
                )
            )
            self.wake()
        exec_ms = self._fleet.options.exec_ms
        if exec_ms:
            timer = self._fleet.loop.call_later(exec_ms / 1000, self._finish, instruction, started)
            self._running[key] = (instruction, timer)
        else:
            self._finish(instruction, started)

    def _finish(self, instruction: task_pb2.TaskExecution, started: int, cancelled: bool = False) -> None:
        fleet, key = self._fleet, (instruction.execution_id, instruction.attempt)
        self._running.pop(key, None)
        failed = not cancelled and fleet.random.random() < fleet.options.fail_rate
        fleet.stats.executed += 1
        fleet.stats.failed += failed
        fleet.stats.cancelled += cancelled
        fleet.stats.unacknowledged += 1
        result = task_pb2.TaskResult(
            execution_id=instruction.execution_id,
            task_id=instruction.task_id,
            status=task_pb2.CANCELLED if cancelled else task_pb2.FAILURE if failed else task_pb2.SUCCESS,
            started_at=started,
            finished_at=messages.now_ms(),
            exit_code=1 if failed else 0,
            has_exit_code=not cancelled,
            output=f"{self.client_id} has run {instruction.execution_id}\n",
            failure_reason="exit_code" if failed else "",
            scheduled_time=instruction.scheduled_time,
            run_id=instruction.run_id,
            attempt=instruction.attempt,
            retry_count=instruction.attempt,
            task_name=instruction.task_name,
        )
        self._unacknowledged[key] = result
        if self._session is not None and self.registered:
            self._session.result(result)
            self.wake()

    def _cancel(self, execution_ids: Sequence[str]) -> None:
        for key, (instruction, timer) in list(self._running.items()):
            if key[0] in execution_ids:
                timer.cancel()
                self._finish(instruction, messages.now_ms(), cancelled=True)

    def _acknowledged(self, keys: Sequence[AttemptKey]) -> None:
        now, stats = messages.now_ms(), self._fleet.stats
        for key in keys:
            result = self._forget_result(key)
            if result is not None:
                stats.acknowledged += 1
                stats.ack_ms.append(now - result.finished_at)

    def _forget_result(self, key: AttemptKey) -> task_pb2.TaskResult | None:
        result = self._unacknowledged.pop(key, None)
        self._fleet.stats.unacknowledged -= result is not None
        return result
