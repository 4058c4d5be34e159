"""Keeping the agents' configuration in step with the server's (FR-2.1 to 2.3)."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.framing import FramingError

from .commands import CHUNK
from .connection import Connection
from .domain import PushPlan, Unavailable
from .facts import Facts
from .parts import Part, encode_push
from .registry import Registry
from .writer import Writer

log = structlog.get_logger(__name__)

PUSH_TIMEOUT = 5.0  # seconds until a push that is not acknowledged is sent again
PUSH_REPEATS = 3  # then the failure is recorded


@dataclass(slots=True)
class _Push:
    version: int
    sent_at: float  # of the part that is not acknowledged
    repeats: int = 0
    error: str = "not acknowledged"


class Configs:
    """Pushes what changed to those whom it concerns. Methods that ask the database raise Unavailable."""

    def __init__(self, facts: Facts, registry: Registry, writer: Writer) -> None:
        self._facts = facts
        self._registry = registry
        self._writer = writer
        self._pushes: dict[Connection, _Push] = {}
        self._applied: dict[str, int] = {}

    async def sync(self) -> None:
        """Bring every agent in step that the newest changes concern.

        1. Who has not been looked at since the newest version? An agent that has not pulled yet will get it by that.
        2. What each of them lacks; those that lack the same share a push.
        3. Encode each push once and send it; without an ACK it is repeated (`repeat`).
        """
        domain, facts = self._writer.domain, self._facts
        facts.config_version = await self._writer.call(domain.current_version)
        behind: dict[str, Connection] = {}
        held: dict[str, int] = {}
        for connection in self._registry:
            session = connection.session
            if session.expected is not None and session.looked != facts.config_version:
                behind[session.client_id] = connection
                held[session.client_id] = (
                    session.looked if session.applied >= session.expected else session.applied
                )
        if not behind:
            return
        plan: PushPlan = await self._writer.call(domain.plan_pushes, held)
        facts.config_version = plan.version
        for push, client_ids in plan.pushes:
            await self._send(push, [behind.pop(client_id) for client_id in client_ids])
        for connection in behind.values():
            # Nothing concerns it; it may have pulled a newer version meanwhile.
            connection.session.looked = max(plan.version, connection.session.looked)

    async def _send(self, push: task_pb2.TaskConfigPush, connections: Sequence[Connection]) -> None:
        for in_parts in (True, False):
            able = [connection for connection in connections if connection.agent.in_parts == in_parts]
            if not able:
                continue
            try:
                parts = encode_push(push, in_parts=in_parts)
            except FramingError as error:
                for connection in able:
                    connection.session.expected = connection.session.looked = push.version
                self.too_large([connection.session.client_id for connection in able], push.version, error)
            else:
                await self._send_parts(push.version, parts, able)

    async def _send_parts(
        self, version: int, parts: Sequence[Part], connections: Sequence[Connection]
    ) -> None:
        now = time.monotonic()
        for number, connection in enumerate(connections, 1):
            if connection.session.closing is None:
                connection.agent.push(version, parts)
                self._pushes[connection] = _Push(version, now)
                connection.wake()
            if number % CHUNK == 0:
                await self._registry.turn()
        size = sum(len(part.frame) for part in parts)
        log.info(
            "configuration pushed", version=version, agents=len(connections), bytes=size, parts=len(parts)
        )

    async def repeat(self) -> None:
        """Send again what was not acknowledged in time; record what was not after all."""
        now = time.monotonic()
        failed: dict[tuple[int, str], list[str]] = {}
        for connection, push in list(self._pushes.items()):
            if now - push.sent_at < PUSH_TIMEOUT:
                continue
            if push.repeats < PUSH_REPEATS:
                push.repeats += 1
                push.sent_at = now
                connection.agent.push_again()
                connection.wake()
            else:
                del self._pushes[connection]
                failed.setdefault((push.version, push.error), []).append(connection.session.client_id)
        for (version, reason), client_ids in failed.items():
            log.warning(
                "push failed", version=version, reason=reason, agents=len(client_ids), first=client_ids[0]
            )
            await self._writer.call(self._writer.domain.push_failed, client_ids, version, reason)

    def taken(self, connection: Connection) -> None:
        """The agent has got a part, and the next one was sent."""
        push = self._pushes.get(connection)
        if push is not None:
            push.sent_at, push.repeats = time.monotonic(), 0

    def applied(self, connection: Connection, version: int) -> None:
        """The agent has put a version in force."""
        push = self._pushes.get(connection)
        if push is not None and push.version <= version:
            del self._pushes[connection]
        self._applied[connection.session.client_id] = version

    def refused(self, connection: Connection, version: int, error: str) -> None:
        """The agent could not put a version in force; a push comes again after its time."""
        log.warning(
            "configuration refused", client=connection.session.client_id, version=version, error=error
        )
        push = self._pushes.get(connection)
        if push is not None and push.version == version:
            push.error = error[:200].replace("\0", "")  # PostgreSQL stores no NUL in text

    async def save_applied(self) -> None:
        """Record which versions have been acknowledged, in bulk. What is lost here, heartbeats say again."""
        applied, self._applied = self._applied, {}
        if applied:
            await self._writer.call(self._writer.domain.push_applied, list(applied.items()))

    def too_large(self, client_ids: Sequence[str], version: int, error: FramingError) -> None:
        """Record that a configuration does not fit into a frame."""
        log.error("configuration too large", version=version, error=str(error), first=client_ids[0])
        failed = self._writer.domain.push_failed
        self._writer.call(failed, client_ids, version, "configuration too large").add_done_callback(
            _log_failure
        )

    def forget(self, connection: Connection) -> None:
        """The session is over."""
        self._pushes.pop(connection, None)


def _log_failure(future: "asyncio.Future[Any]") -> None:
    error = future.exception()
    if isinstance(error, Unavailable):
        log.warning("push failure not recorded", error=str(error))
    elif error is not None:
        log.error("push failure not recorded", exc_info=error)
