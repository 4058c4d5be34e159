"""Live and complete logs: passing on who watches, and the chunks of whole logs to whoever asked for them."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from quartzflow_agent.protocol import agent_pb2

from quartzflow.bridges import LogChunk

from .connection import Connection
from .legacy_session import LegacySession
from .registry import Registry

log = structlog.get_logger(__name__)

FETCHES = 1000  # log requests under way
FETCH_TIMEOUT = 60.0  # seconds between two chunks
WATCH_LASTS = 60.0  # seconds; whoever reads says so again three times as often
QUEUED = 256  # chunks that wait for the channel layer, all requests together


@dataclass(slots=True)
class _Fetch:
    connection: Connection
    reply: str  # channel of whoever asked
    heard_at: float


class Logs:
    """`chunks` holds what goes out to channels: (channel, chunk)."""

    def __init__(self, registry: Registry) -> None:
        self.chunks: asyncio.Queue[tuple[str, LogChunk]] = asyncio.Queue(QUEUED)
        self._registry = registry
        self._fetches: dict[str, _Fetch] = {}
        self._watches: dict[str, dict[str, float]] = {}  # client id → execution id → until when

    def watch(self, client_id: str, execution_id: str, watching: bool) -> None:
        """Somebody reads an execution's output now, or nobody does any more."""
        if watching:
            self._watches.setdefault(client_id, {})[execution_id] = time.monotonic() + WATCH_LASTS
        else:
            self._watches.get(client_id, {}).pop(execution_id, None)
        connection = self._registry.get(client_id)
        if connection is not None:
            connection.session.watch_log(execution_id, watching)
            connection.wake()

    def watch_again(self, connection: Connection) -> None:
        """A client has come, perhaps back: it has not heard what was said while it was away."""
        now = time.monotonic()
        for execution_id, until in self._watches.get(connection.session.client_id, {}).items():
            if now < until:
                connection.session.watch_log(execution_id, True)
        connection.wake()

    def fetch(self, client_id: str, reply: str, request: agent_pb2.LogFetch) -> None:
        """Ask an agent for a part of a whole log; the chunks go to the channel `reply`."""
        connection = self._registry.get(client_id)
        if connection is None:
            self._fail(reply, request.request_id, "offline")
        elif isinstance(connection.session, LegacySession):
            self._fail(reply, request.request_id, "no log")
        elif len(self._fetches) >= FETCHES:
            self._fail(reply, request.request_id, "busy")
        else:
            self._fetches[request.request_id] = _Fetch(connection, reply, time.monotonic())
            connection.session.fetch_log(request)
            connection.wake()

    def chunk(self, connection: Connection, message: agent_pb2.LogChunk) -> None:
        """Pass a chunk on, if this agent was asked for it."""
        fetch = self._fetches.get(message.request_id)
        if fetch is None or fetch.connection is not connection:
            return
        fetch.heard_at = time.monotonic()
        # After a chunk that could not be passed on, the others are of no use.
        if not self._pass_on(fetch.reply, message) or message.last or message.error:
            del self._fetches[message.request_id]

    def forget(self, connection: Connection) -> None:
        """The session is over."""
        self._give_up("offline", lambda fetch: fetch.connection is connection)

    def expire(self) -> None:
        """Give up requests that the agent does not answer."""
        now = time.monotonic()
        for client_id, watches in list(self._watches.items()):
            self._watches[client_id] = {name: until for name, until in watches.items() if now < until}
            if not self._watches[client_id]:
                del self._watches[client_id]
        limit = now - FETCH_TIMEOUT
        self._give_up("timeout", lambda fetch: fetch.heard_at <= limit)

    def _give_up(self, error: str, concerned: Callable[[_Fetch], bool]) -> None:
        for request_id, fetch in [item for item in self._fetches.items() if concerned(item[1])]:
            del self._fetches[request_id]
            self._fail(fetch.reply, request_id, error)

    def _fail(self, reply: str, request_id: str, error: str) -> None:
        self._pass_on(reply, agent_pb2.LogChunk(request_id=request_id, error=error, last=True))

    def _pass_on(self, reply: str, chunk: agent_pb2.LogChunk) -> bool:
        message = LogChunk(
            type="log.chunk",
            request_id=chunk.request_id,
            execution_id=chunk.execution_id,
            offset=chunk.offset,
            total=chunk.total,
            data=chunk.data,
            last=chunk.last,
            error=chunk.error,
        )
        try:
            self.chunks.put_nowait((reply, message))
        except asyncio.QueueFull:
            log.warning("log chunk dropped: the channel layer does not keep up", request=chunk.request_id)
            return False
        return True
