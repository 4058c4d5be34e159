"""Quic-flow clients know no schedule: the bridge holds their instructions and starts each at its time."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.framing import FramingError
from quartzflow_agent.protocol.messages import now_ms

from . import legacy_commands as commands
from .connection import Connection
from .domain import Rejected, Result
from .inbound import Inbound
from .legacy_session import LegacySession
from .registry import Registry
from .writer import Writer

log = structlog.get_logger(__name__)

LONGEST_WAIT = 1.0  # seconds between two looks, so that what sessions gave up is reported too


class Legacy:
    """Starts what is due on all quic-flow clients of the bridge. Raises Unavailable; the next step tries again."""

    def __init__(self, registry: Registry, writer: Writer, inbound: Inbound) -> None:
        self._registry = registry
        self._writer = writer
        self._inbound = inbound
        self._next = LONGEST_WAIT

    async def wait(self) -> None:
        """Until something is due, or has changed."""
        changed = self._inbound.legacy_changed
        with suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), self._next)
        changed.clear()

    async def step(self) -> None:
        """Start what is due.

        1. What cannot be run there, or not now, is ended without having been started.
        2. The database decides whether a start is (still) wanted, and marks it.
        3. The command goes out.
        """
        now = now_ms()
        self._next = LONGEST_WAIT
        starts: list[tuple[Connection, LegacySession, task_pb2.TaskExecution]] = []
        for connection in self._registry:
            session = connection.session
            if not isinstance(session, LegacySession) or session.closing is not None:
                continue
            for item in session.take_ended():
                self._inbound.received(connection, item)
                connection.wake()  # their streams end
            due, skipped = session.due(now)
            for instruction in skipped:
                self._skip(session, instruction)
            starts += [(connection, session, item) for item in due if self._is_possible(session, item)]
            upcoming = session.next_due(now)
            if upcoming is not None:
                self._next = min(self._next, (upcoming - now) / 1000)
        if not starts:
            return
        begin = self._writer.domain.begin_legacy
        names = [(session.client_id, item.execution_id, item.attempt) for _, session, item in starts]
        begun = await self._writer.call(begin, names, datetime.fromtimestamp(now / 1000, UTC))
        for connection, session, instruction in starts:
            if instruction.execution_id not in begun:
                session.drop(instruction.execution_id)
                continue
            session.start(instruction, now, asyncio.get_running_loop().time())
            connection.wake()

    def _is_possible(self, session: LegacySession, instruction: task_pb2.TaskExecution) -> bool:
        try:
            commands.check(instruction)
        except (commands.Unsupported, FramingError) as error:
            session.drop(instruction.execution_id)
            refusal = Rejected(
                session.client_id, instruction.execution_id, "rejected", str(error), instruction.attempt
            )
            self._writer.submit([refusal])
            return False
        return True

    def _skip(self, session: LegacySession, instruction: task_pb2.TaskExecution) -> None:
        session.drop(instruction.execution_id)
        result = commands.ended(instruction, 0, status=task_pb2.CANCELLED, failure_reason="concurrency")
        self._writer.submit([Result(session.client_id, result)])
