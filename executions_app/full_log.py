"""The whole output of an execution, fetched from the agent that keeps it.

It comes in windows: the next is asked for once the one before has been passed on. So neither the agent, nor the
bridge, nor the channel layer, nor this process ever holds more of it than a window, however slowly it is read.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import structlog
from channels.db import database_sync_to_async
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from django.conf import settings
from django.utils.translation import gettext_lazy as _
from redis.exceptions import RedisError

from groups_app.selectors import bridges_of
from quartzflow import bridges
from quartzflow.errors import Code, Conflict, NotFound, QuartzError

from .models import Execution

log = structlog.get_logger(__name__)

WINDOW = 1024 * 1024  # bytes
ANSWER_TIMEOUT = 10.0  # seconds until the agent's next chunk must have come
ATTEMPTS = 3  # for each window but the first: chunks may be dropped on the way


class AgentOffline(Conflict):
    """The host that keeps the log is offline."""

    code = Code.AGENT_OFFLINE
    default_message = _("The host that keeps the log is offline.")


class LogGone(NotFound):
    """The host has no such log, or no longer."""

    code = Code.LOG_GONE
    default_message = _("The host has no log of this execution (any more).")


class NoAnswer(QuartzError):
    """The host did not answer in time."""

    code = Code.NO_ANSWER
    http_status = 504
    default_message = _("The host did not answer in time. Try again.")


class LogTooLarge(QuartzError):
    """More than may be fetched at once."""

    code = Code.LOG_TOO_LARGE
    http_status = 413
    default_message = _(
        "The log is too large to be fetched at once: ask for parts of it with offset and limit."
    )


@dataclass(frozen=True)
class _Piece:
    """A window's data, and the size of the whole log in bytes."""

    data: bytes
    total: int


class FullLog:
    """`open`, then `size`, `total` and `stream`. Offsets and sizes are in bytes."""

    def __init__(self, execution: Execution, offset: int = 0, limit: int = 0) -> None:
        """`limit` 0: to the end."""
        self.execution = execution
        self.offset = offset
        self.limit = limit
        self.total = 0  # of the whole log, when it was opened
        self.size = 0  # of what `stream` yields
        self._first = b""
        self._layer = get_channel_layer()
        self._channel = ""

    async def open(self) -> None:
        """Fetch the beginning. Raises AgentOffline, LogGone, NoAnswer, LogTooLarge."""
        if not self.execution.client_id:
            raise LogGone
        self._channel = await self._layer.new_channel()
        wanted = min(self.limit or WINDOW, WINDOW)
        piece = await self._window(self.offset, wanted)
        self.total = piece.total
        rest = max(piece.total - self.offset, 0)
        self.size = min(rest, self.limit) if self.limit else rest
        if self.size > settings.QF_LOG_FETCH_LIMIT:
            raise LogTooLarge
        self._first = piece.data

    async def stream(self) -> AsyncIterator[bytes]:
        """The log, `size` bytes. Raises as `open` does when it breaks off: the response is then cut short."""
        first, self._first = self._first, b""
        sent = len(first)
        if first:
            yield first
        del first
        while sent < self.size:
            piece = await self._patient_window(self.offset + sent, min(WINDOW, self.size - sent))
            if not piece.data:
                raise LogGone
            sent += len(piece.data)
            yield piece.data

    async def _patient_window(self, offset: int, limit: int) -> _Piece:
        for attempt in range(1, ATTEMPTS):
            try:
                return await self._window(offset, limit)
            except NoAnswer:
                log.warning(
                    "log window asked for again", execution=self.execution.execution_id, attempt=attempt
                )
        return await self._window(offset, limit)

    async def _window(self, offset: int, limit: int) -> _Piece:
        client_id = self.execution.client_id
        holders = await database_sync_to_async(bridges_of)([client_id])
        if client_id not in holders:
            raise AgentOffline
        request: bridges.LogFetch = {
            "type": "log_fetch",
            "client_id": client_id,
            "execution_id": self.execution.execution_id,
            "request_id": uuid.uuid4().hex,
            "offset": offset,
            "limit": limit,
            "reply": self._channel,
        }
        try:
            await self._layer.send(bridges.channel_name(holders[client_id]), request)
            return await self._collect(request["request_id"], offset)
        except (ChannelFull, RedisError, OSError) as error:
            log.warning("log not fetched", execution=self.execution.execution_id, error=str(error))
            raise NoAnswer from error

    async def _collect(self, request_id: str, offset: int) -> _Piece:
        found = bytearray()
        while True:
            chunk = await self._receive()
            if chunk["request_id"] != request_id:
                continue  # late, of a window that was given up
            if chunk["error"]:
                raise _ERRORS.get(chunk["error"], LogGone)
            if chunk["offset"] != offset + len(found):
                raise NoAnswer  # one was dropped on the way
            found += chunk["data"]
            if chunk["last"]:
                return _Piece(bytes(found), chunk["total"])

    async def _receive(self) -> bridges.LogChunk:
        receiving = asyncio.ensure_future(self._layer.receive(self._channel))
        try:
            await asyncio.wait([receiving], timeout=ANSWER_TIMEOUT)
            if not receiving.done():
                raise NoAnswer
            return cast(bridges.LogChunk, receiving.result())
        finally:
            # Until it has ended: redis' client may take a cancellation for a lost connection.
            while not receiving.done():
                receiving.cancel()
                await asyncio.wait([receiving], timeout=0.2)


# What a bridge says by itself; anything else comes from the agent.
_ERRORS: dict[str, type[QuartzError]] = {"offline": AgentOffline, "timeout": NoAnswer, "busy": NoAnswer}
