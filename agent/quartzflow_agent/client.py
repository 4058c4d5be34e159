"""The link to the server: some bridge, again and again, one at a time."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Callable, List, Optional, Protocol, Sequence

from quartzflow_agent.backoff import Backoff
from quartzflow_agent.clock import ServerClock, monotonic
from quartzflow_agent.config import ConfigError, Endpoint
from quartzflow_agent.connection import ConnectError, Connection, connect
from quartzflow_agent.events import Event, Lost, Refused, Registered, WentAway
from quartzflow_agent.logs import event
from quartzflow_agent.protocol import agent_pb2, task_pb2
from quartzflow_agent.protocol.constants import CLOSE_GO_AWAY, CLOSE_REFUSED, CLOSE_REVOKED
from quartzflow_agent.session import AgentSession, Vitals
from quartzflow_agent.trust import Trust

log = logging.getLogger(__name__)

# A session that lasted so long, in seconds, was a good one: the next failure is the first again.
STEADY = 30.0
# Refusals that only a person can lift; asking more often would only fill the server's log.
HOPELESS = frozenset(
    {"bad_credential", "bad_token", "revoked", "pending_approval", "protocol_version", "invalid"}
)


class LinkHandler(Protocol):
    """Who is told what happens on the link. Calls never overlap."""

    async def registered(self, response: agent_pb2.RegisterResponse) -> None:
        """The server let us in. Raises whatever makes the session useless; it is then closed."""
        ...

    async def received(self, events: List[Event]) -> None:
        """What the server sent, in order."""
        ...

    def lost(self, reason: str) -> None:
        """The session that was registered is over."""
        ...


class Link:
    """Keeps a session with one of several bridges. Sending without a session does nothing."""

    def __init__(
        self,
        *,
        endpoints: Sequence[Endpoint],
        trust: Trust,
        clock: ServerClock,
        request: Callable[[], agent_pb2.RegisterRequest],
        vitals: Callable[[], Vitals],
        handler: LinkHandler,
        backoff: Optional[Backoff] = None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """endpoints: tried in this order. request, vitals: asked at each connection and PING.

        failed: told whenever `problem` has changed.
        """
        self._endpoints = list(endpoints)
        self._offered: List[Endpoint] = []  # by the server, tried first
        self._trust = trust
        self._clock = clock
        self._request = request
        self._vitals = vitals
        self._handler = handler
        self._backoff = backoff or Backoff()
        self._failed = failed
        self._connection: Optional[Connection] = None
        self._registered = False
        self.since = 0.0  # monotonic; of the session
        self.endpoint = ""  # of the session, or of the last try
        self.problem = ""  # why there is no session

    @property
    def ready(self) -> bool:
        """Whether there is a session to send on."""
        return self._registered

    # --- sending ---

    @property
    def _session(self) -> Optional[AgentSession]:
        return self._connection.session if self._connection is not None and self._registered else None

    def gather(self, say: Callable[[AgentSession], None]) -> bool:
        """Say something with the next thing that is sent; False when there is no session."""
        session = self._session
        if session is None:
            return False
        say(session)
        return True

    def flush(self) -> None:
        """Send what was gathered."""
        if self._connection is not None and self._registered:
            self._connection.flush()

    def send(self, say: Callable[[AgentSession], None]) -> bool:
        """Say something now; False when there is no session."""
        said = self.gather(say)
        self.flush()
        return said

    def progress(self, progress: task_pb2.TaskProgress) -> bool:
        """Report that an execution runs, or what it has written."""
        return self.send(lambda session: session.progress(progress))

    async def send_log(self, chunks: List[agent_pb2.LogChunk]) -> None:
        """Send a full log over a stream of its own."""
        if self._connection is not None and self._registered:
            await self._connection.send_log(chunks)

    # --- connecting ---

    async def run(self) -> None:
        """Connect, serve, connect again, until cancelled; then say goodbye."""
        while True:
            pause: Optional[float] = None
            for endpoint in [*self._offered, *self._endpoints]:
                pause = await self._try(endpoint)
                if pause is not None:
                    break
            if pause is None:
                pause = self._backoff.next()
            log.info(event("reconnecting", seconds=f"{pause:.1f}"))
            await asyncio.sleep(pause)

    async def _try(self, endpoint: Endpoint) -> Optional[float]:
        """Connect to this bridge and stay while it lasts. Seconds to pause; None: try the next one at once."""
        self.endpoint = str(endpoint)
        session = AgentSession(self._request(), self._vitals, self._clock.add_sample)
        self._clock.new_connection()
        try:
            connection = await connect(endpoint, self._trust, session)
        except ConnectError as error:
            self._fail(str(error))
            return None
        self._connection = connection
        try:
            return await self._serve(connection)
        finally:
            if self._registered:
                self._registered = False
                self._handler.lost(self.problem)
            self._connection = None
            await connection.finish()

    async def _serve(self, connection: Connection) -> Optional[float]:
        while True:
            ordinary: List[Event] = []
            for item in await connection.next_events():
                if not isinstance(item, (Registered, Refused, WentAway, Lost)):
                    ordinary.append(item)
                    continue
                await self._deliver(ordinary)
                ordinary = []
                if isinstance(item, Registered):
                    self._welcome(item.response)
                    await self._handler.registered(item.response)
                    connection.flush()
                elif isinstance(item, Refused):
                    self._fail(f"refused ({item.code}): {item.message}")
                    return self._backoff.longest() if item.code in HOPELESS else None
                elif isinstance(item, WentAway):
                    return await self._move(connection, item)
                else:
                    self._fail(item.reason)
                    return self._pause(item)
            await self._deliver(ordinary)

    def _pause(self, lost: Lost) -> Optional[float]:
        """After a session that has ended like this."""
        # The answer that refuses us may be lost; the close behind it repeats its code.
        refused = lost.code == CLOSE_REFUSED and lost.reason.partition(":")[0] in HOPELESS
        if refused or lost.code == CLOSE_REVOKED:
            return self._backoff.longest()
        if not self._registered:
            return None
        if monotonic() - self.since >= STEADY:
            self._backoff.reset()
        return self._backoff.next()

    async def _deliver(self, batch: List[Event]) -> None:
        if batch:
            await self._handler.received(batch)

    def _welcome(self, response: agent_pb2.RegisterResponse) -> None:
        self._registered = True
        self.since = monotonic()
        self.problem = ""
        self._offered = []
        log.info(
            event(
                "connected",
                server=self.endpoint,
                bridge=response.bridge_id,
                client=response.client_id,
                group=response.group,
            )
        )

    async def _move(self, connection: Connection, away: WentAway) -> float:
        """The bridge stops: leave, and turn to the others it names, not all agents at once."""
        self._fail(f"the bridge stops: {away.reason}" if away.reason else "the bridge stops")
        offered: List[Endpoint] = []
        for text in away.endpoints:
            try:
                offered.append(Endpoint.parse(text))
            except ConfigError as error:
                log.warning(event("bad_endpoint", error=error))
        self._offered = offered
        await connection.finish(CLOSE_GO_AWAY, "as told")
        self._backoff.reset()
        return random.uniform(0, away.delay) if away.delay > 0 else 0.0  # noqa: S311  no secret

    def _fail(self, reason: str) -> None:
        changed = reason != self.problem
        self.problem = reason
        if changed:
            self._failed()
        log.warning(
            event("disconnected" if self._registered else "unreachable", server=self.endpoint, reason=reason)
        )
