"""One bridge process: its parts put together, its periodic work, and how it starts and stops."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from aioquic.quic.configuration import QuicConfiguration
from quartzflow_agent.protocol.constants import CLOSE_GO_AWAY

from . import metrics
from .commands import CHUNK, Commands
from .configs import Configs
from .domain import Domain, Pulse, Unavailable
from .facts import Facts
from .inbound import Inbound
from .legacy import Legacy
from .legacy_session import LegacySession
from .limits import Limits
from .logs import Logs
from .registry import Registry
from .server import Server
from .steering import Steering
from .wake import Wake
from .writer import Writer

log = structlog.get_logger(__name__)

PULSE = 3.0  # seconds between two renewals of the lease (which lasts 10)
SWEEP = 2.0  # seconds between two looks for instructions that were not accepted
SWEEP_AGE = timedelta(seconds=2)  # younger ones are still on their way
COMPARE = 3.0  # seconds between two looks for a newer configuration, without a wake-up
HEARTBEATS = 3.0  # seconds between two bulk writes of heartbeats
PRESENCE = 0.1  # seconds between two bulk writes of ended sessions and acknowledged configurations
DRAIN = 5.0  # seconds that agents have for leaving when the bridge stops, at most
LEAVE = 1.0  # seconds that one of ours needs; each thousand of them need a second more
GO_AWAY_SPREAD = 1  # ms by which each agent's reconnect is spread, up to DRAIN


class Bridge:
    """Serves agents on one socket. `endpoint` (HOST:PORT) is what others may reach it by."""

    def __init__(
        self,
        *,
        bridge_id: str,
        endpoint: str,
        sock: socket.socket,
        config: QuicConfiguration,
        domain: Domain,
        layer: Any,
        limits: Limits | None = None,
        steering: Steering | None = None,
    ) -> None:
        self.bridge_id = bridge_id
        self.endpoint = endpoint
        self.facts = Facts(bridge_id)
        self.registry = Registry()
        self.writer = Writer(domain)
        self.configs = Configs(self.facts, self.registry, self.writer)
        self.logs = Logs(self.registry)
        self.inbound = Inbound(bridge_id, self.registry, self.writer, self.configs, self.logs)
        self.commands = Commands(self.registry, self.inbound.legacy_changed)
        self.legacy = Legacy(self.registry, self.writer, self.inbound)
        self.config_changed = asyncio.Event()
        self.wake = Wake(layer, bridge_id, self.commands, self.logs, self.config_changed)
        self.lag = metrics.LagGauge()
        self.server = Server(
            sock,
            config,
            self.facts,
            self.inbound,
            limits or Limits(),
            steering or Steering(0, 1),
            self.lag.now,
        )
        self.registry.turn = self.server.socket.turn
        self.port = self.server.port

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set.

        An error of any side task ends it too, and comes out: a bridge that is half alive would hold agents that
        nobody can reach. Raises Unavailable when the database cannot be reached at the start.
        """
        self.writer.start(self.inbound.committed)
        try:
            await self._announce()
            await self._serve(stop)
            await self._drain()
        finally:
            await self._end()

    # --- Life ---

    async def _announce(self) -> None:
        await self.writer.call(self.writer.domain.bridge_started, self.bridge_id, self.endpoint)
        await self._pulse()
        self.server.accepting = True
        log.info("bridge started", bridge=self.bridge_id, endpoint=self.endpoint, port=self.port)

    async def _serve(self, stop: asyncio.Event) -> None:
        side_tasks = [
            asyncio.create_task(work, name=name)
            for name, work in {
                "writer": self._watch_writer(),
                "wake-ups": self.wake.listen(),
                "log chunks": self.wake.send_chunks(),
                "pulse": _every(PULSE, self._pulse),
                "sweep": _every(SWEEP, self.sweep),
                "configurations": self._compare_configs(),
                "heartbeats": _every(HEARTBEATS, self.inbound.save_heartbeats),
                "presence": _every(PRESENCE, self._save_presence),
                "quic-flow clients": self._run_legacy(),
                "timeouts": _every(1.0, self._check),
                "loop lag": self.lag.watch(),
            }.items()
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *side_tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _end_tasks([stopped, *side_tasks])

    async def _drain(self) -> None:
        # Stop accepting.
        self.server.accepting = False
        # Send the agents elsewhere; what they still report meanwhile is taken.
        agents = len(self.registry)
        delay = min(agents * GO_AWAY_SPREAD, int(DRAIN * 1000))
        log.info("bridge stopping", bridge=self.bridge_id, agents=agents)
        for number, connection in enumerate(self.registry, 1):
            connection.session.go_away("the bridge is stopping", self.facts.endpoints, delay)
            connection.wake()
            if number % CHUNK == 0:
                await self.registry.turn()
        # Wait until they have left, with a limit: some are gone without our knowing it yet.
        with suppress(TimeoutError):
            await asyncio.wait_for(self.registry.empty.wait(), self._patience(agents))

    def _patience(self, agents: int) -> float:
        """Seconds. A few agents leave at once; one that is dead must not hold up everybody's Ctrl-C."""
        if any(isinstance(connection.session, LegacySession) for connection in self.registry):
            return DRAIN  # they keep nothing: what runs on them is to end here
        return min(LEAVE + agents / 1000, DRAIN)

    async def _end(self) -> None:
        # Close who is still there, write what has come, and give the lease back.
        self.server.close_all(CLOSE_GO_AWAY, "the bridge is stopping")
        try:
            if not self.writer.ended.done():
                await self.inbound.save_heartbeats()
                await self.inbound.save_gone()
                await self.configs.save_applied()
                await self.writer.call(self.writer.domain.bridge_stopped, self.bridge_id)
        except Unavailable as error:
            log.warning("bridge not signed off; its lease runs out instead", error=str(error))
        finally:
            await self.writer.stop()
            self.server.close()
            await self.wake.close()
            log.info("bridge stopped", bridge=self.bridge_id)

    # --- Periodic work ---

    async def sweep(self) -> None:
        """Send again what should have been accepted by now."""
        before = datetime.now(UTC) - SWEEP_AGE
        items = await self.writer.call(self.writer.domain.pending, self.bridge_id, before)
        if items:
            sent = await self.commands.dispatch(items)
            log.info("instructions sent by sweep", found=len(items), sent=sent)

    async def _watch_writer(self) -> None:
        await asyncio.shield(self.writer.ended)  # `_end` waits for it as well
        raise RuntimeError("the writer's thread has ended")

    async def _pulse(self) -> None:
        pulse: Pulse = await self.writer.call(self.writer.domain.pulse, self.bridge_id, self.endpoint)
        self.facts.scheduler_alive = pulse.scheduler_alive
        self.facts.endpoints = pulse.endpoints
        if pulse.config_version != self.facts.config_version:
            self.config_changed.set()

    async def _compare_configs(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.config_changed.wait(), COMPARE)
            self.config_changed.clear()
            await _tolerate(self.configs.sync)

    async def _run_legacy(self) -> None:
        while True:
            await self.legacy.wait()
            await _tolerate(self.legacy.step)

    async def _save_presence(self) -> None:
        await self.inbound.save_gone()
        await self.configs.save_applied()

    async def _check(self) -> None:
        metrics.CONNECTIONS.set(len(self.server.connections))
        metrics.AGENTS.set(len(self.registry))
        metrics.REPORTS_WAITING.set(self.writer.waiting)
        metrics.DATAGRAMS_DROPPED.set(self.server.socket.dropped)
        self.server.check()
        self.logs.expire()
        await self.configs.repeat()


async def _end_tasks(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: redis' client may take a cancellation for a lost connection."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.2)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("side task failed", task=task.get_name(), exc_info=error)


async def _every(seconds: float, step: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await _tolerate(step)


async def _tolerate(step: Callable[[], Awaitable[None]]) -> None:
    """Run a step; a database that is away for a while is waited for, everything else comes out."""
    try:
        await step()
    except Unavailable as error:
        log.warning("database not available", step=getattr(step, "__name__", str(step)), error=str(error))
