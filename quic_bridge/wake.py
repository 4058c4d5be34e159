"""The channel layer's two ends at a bridge: wake-ups come in, log chunks go out.

Wake-ups are hints. While redis is away nothing is lost but time: the sweep and the comparison of versions find
what they would have told.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog
from channels.exceptions import ChannelFull
from quartzflow_agent.protocol import agent_pb2
from redis.exceptions import RedisError

from quartzflow.bridges import BridgeMessage, channel_name, instructions_of

from .commands import Commands, read_instructions
from .logs import Logs

log = structlog.get_logger(__name__)

RETRY = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds between attempts to reach redis


class Wake:
    """Hands each wake-up to whom it concerns. `layer` is a channel layer."""

    def __init__(
        self, layer: Any, bridge_id: str, commands: Commands, logs: Logs, config_changed: asyncio.Event
    ) -> None:
        self._layer = layer
        self._channel = channel_name(bridge_id)
        self._commands = commands
        self._logs = logs
        self._config_changed = config_changed

    async def listen(self) -> None:
        """Take wake-ups until cancelled."""
        await self._keep_trying("listen", self._take)

    async def send_chunks(self) -> None:
        """Pass log chunks on until cancelled."""
        await self._keep_trying("send", self._send_chunk)

    async def close(self) -> None:
        """Close the connections to redis."""
        await self._layer.close_pools()

    async def _keep_trying(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await step()
            except (RedisError, OSError) as error:
                if failures == 0:
                    log.warning("channel layer not reachable", what=what, error=str(error))
                await asyncio.sleep(RETRY[min(failures, len(RETRY) - 1)])
                failures += 1
            else:
                if failures:
                    log.info("channel layer reached again", what=what, attempts=failures)
                failures = 0

    async def _take(self) -> None:
        message = cast(BridgeMessage, await self._layer.receive(self._channel))
        try:
            await self.deliver(message)
        except (KeyError, TypeError, ValueError):
            # A program of another version sent it; what it is about is in the tables.
            log.exception("unreadable wake-up", type=message.get("type"))

    async def deliver(self, message: BridgeMessage) -> None:
        """Act on one wake-up. Raises KeyError, TypeError or ValueError when it is not well-formed."""
        match message["type"]:
            case "dispatch":
                items = read_instructions(instructions_of(message))
                sent = await self._commands.dispatch(items)
                log.debug("dispatched", instructions=len(items), sent=sent)
            case "config":
                self._config_changed.set()
            case "cancel":
                await self._commands.cancel(message["items"])
            case "close":
                self._commands.close_client(message["client_id"], message["reason"])
            case "reconnect":
                self._commands.reconnect(message["client_id"], message["reason"])
            case "log_watch":
                self._logs.watch(message["client_id"], message["execution_id"], message["watching"])
            case "log_fetch":
                request = agent_pb2.LogFetch(
                    request_id=message["request_id"],
                    execution_id=message["execution_id"],
                    offset=message["offset"],
                    limit=message["limit"],
                )
                self._logs.fetch(message["client_id"], message["reply"], request)

    async def _send_chunk(self) -> None:
        channel, chunk = await self._logs.chunks.get()
        try:
            await self._layer.send(channel, chunk)
        except ChannelFull:
            log.warning("log chunk dropped: its reader does not keep up", channel=channel)
