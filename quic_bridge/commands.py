"""Instructions to agents: run, cancel, leave."""

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog
from google.protobuf.message import DecodeError
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.constants import CLOSE_REVOKED
from quartzflow_agent.protocol.framing import FramingError

from .legacy_session import LegacySession
from .metrics import INSTRUCTED
from .registry import Registry

log = structlog.get_logger(__name__)

REMEMBERED = 120.0  # seconds that a cancellation is remembered: longer than a wake-up is under way
CHUNK = 50  # agents written to before the loop gets its turn: ACKs must be read while a burst goes out


class Commands:
    """Writes to the registry's sessions. Who is not there gets nothing: another bridge or a sweep sees to that."""

    def __init__(
        self,
        registry: Registry,
        legacy_changed: asyncio.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`legacy_changed` is set when a quic-flow client has got something to wait for."""
        self._registry = registry
        self._clock = clock
        self._cancelled: dict[str, float] = {}  # execution id → when; oldest first
        self._legacy_changed = legacy_changed or asyncio.Event()

    async def dispatch(self, items: Iterable[tuple[str, task_pb2.TaskExecution]]) -> int:
        """Send instructions, all for one agent in one write. Returns how many found their agent.

        One whose cancellation has overtaken it (the host has moved, say) is not sent: it would run for good.
        """
        grouped: dict[str, list[task_pb2.TaskExecution]] = {}
        for client_id, instruction in items:
            if instruction.execution_id in self._cancelled:
                continue
            grouped.setdefault(client_id, []).append(instruction)
        sent = 0
        for number, (client_id, instructions) in enumerate(grouped.items(), 1):
            connection = self._registry.get(client_id)
            if connection is not None:
                for instruction in instructions:
                    try:
                        connection.session.execute(instruction)
                        sent += 1
                    except FramingError as error:
                        log.error(
                            "instruction too large", execution=instruction.execution_id, error=str(error)
                        )
                connection.wake()
                if isinstance(connection.session, LegacySession):
                    self._legacy_changed.set()
            if number % CHUNK == 0:
                await self._registry.turn()
        INSTRUCTED.inc(sent)
        return sent

    async def cancel(self, items: Iterable[tuple[str, str, str]]) -> None:
        """Stop executions: (client id, execution id, reason)."""
        grouped: dict[tuple[str, str], list[str]] = {}
        self._forget()
        now = self._clock()
        for client_id, execution_id, reason in items:
            self._cancelled.pop(execution_id, None)
            self._cancelled[execution_id] = now
            grouped.setdefault((client_id, reason), []).append(execution_id)
        for number, ((client_id, reason), execution_ids) in enumerate(grouped.items(), 1):
            connection = self._registry.get(client_id)
            if connection is not None:
                connection.session.cancel(execution_ids, reason)
                connection.wake()
            if number % CHUNK == 0:
                await self._registry.turn()

    def _forget(self) -> None:
        before = self._clock() - REMEMBERED
        while self._cancelled and self._cancelled[first := next(iter(self._cancelled))] <= before:
            del self._cancelled[first]

    def close_client(self, client_id: str, reason: str) -> None:
        """End a client's session now."""
        connection = self._registry.get(client_id)
        if connection is not None:
            connection.session.close(CLOSE_REVOKED, reason)
            connection.wake()

    def reconnect(self, client_id: str, reason: str) -> None:
        """Have a client register again, here or wherever it likes."""
        connection = self._registry.get(client_id)
        if connection is not None:
            connection.session.go_away(reason, (), 0)
            connection.wake()


def read_instructions(items: Iterable[tuple[str, bytes]]) -> list[tuple[str, task_pb2.TaskExecution]]:
    """The instructions of a wake-up; what cannot be read is left to the sweep, with a word in the log."""
    found: list[tuple[str, task_pb2.TaskExecution]] = []
    for client_id, data in items:
        try:
            found.append((client_id, task_pb2.TaskExecution.FromString(data)))
        except DecodeError:
            log.error("unreadable instruction in a wake-up", client=client_id)
    return found
