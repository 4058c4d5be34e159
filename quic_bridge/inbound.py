"""What agents say, turned into calls of the domain, and what they are answered."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from quartzflow_agent.protocol import agent_pb2, task_pb2
from quartzflow_agent.protocol.constants import CLOSE_INTERNAL, CLOSE_SUPERSEDED
from quartzflow_agent.protocol.framing import FramingError

from . import inputs, metrics
from .closing import Close
from .configs import Configs
from .connection import Connection
from .domain import (
    Accepted,
    Heartbeat,
    IngestOutcome,
    Progress,
    RegisterInfo,
    RegisterOutcome,
    Rejected,
    Result,
    Unavailable,
)
from .legacy_session import LegacySession
from .logs import Logs
from .registry import Registry
from .writer import Receipt, Submission, Writer

log = structlog.get_logger(__name__)

MAX_REGISTERING = 1000  # registrations that wait for the database; further agents are told to come back later
MAX_SYNC_RECORDS = 2000  # in one OFFLINE_SYNC_REQUEST
INT32 = 2**31 - 1


class Inbound:
    """The server's handler: everything that sessions receive, and their end."""

    def __init__(
        self, bridge_id: str, registry: Registry, writer: Writer, configs: Configs, logs: Logs
    ) -> None:
        self._bridge_id = bridge_id
        self._registry = registry
        self._writer = writer
        self._configs = configs
        self._logs = logs
        self.legacy_changed = asyncio.Event()  # something about quic-flow clients: see `Legacy`
        self._registering = 0
        self._beats: dict[str, Heartbeat] = {}
        self._gone: dict[str, list[tuple[str, str]]] = {}
        self._handlers: dict[type, Callable[[Connection, Any], None]] = {
            inputs.RegisterReceived: self._register,
            inputs.HeartbeatReceived: self._heartbeat,
            inputs.PullReceived: self._pull,
            inputs.ProgressReceived: self._progress,
            inputs.ResultReceived: self._result,
            inputs.SyncReceived: self._sync,
            inputs.StatsReceived: self._stats,
            inputs.ExecutionsAnswered: self._answered,
            inputs.ConfigApplied: lambda connection, item: configs.applied(connection, item.version),
            inputs.PartTaken: lambda connection, _: configs.taken(connection),
            inputs.ConfigRefused: lambda connection, item: configs.refused(
                connection, item.version, item.error
            ),
            inputs.LegacyArrived: self._arrived,
            inputs.LegacyEnded: self._ended,
            inputs.ChunkReceived: lambda connection, item: logs.chunk(connection, item.message),
        }

    def received(self, connection: Connection, item: inputs.Input) -> None:
        metrics.MESSAGES.labels(type(item).__name__).inc()
        self._handlers[type(item)](connection, item)

    def closed(self, connection: Connection, close: Close) -> None:
        client_id, session_id = connection.session.client_id, connection.session.session_id
        metrics.CLOSED.labels(str(close.code)).inc()
        if close.limit:
            metrics.LIMITED.labels(close.limit).inc()
        self._configs.forget(connection)
        self._logs.forget(connection)
        # A heartbeat that is written after the end would bring the session back to life.
        beat = self._beats.get(client_id)
        if beat is not None and beat.session_id == session_id:
            del self._beats[client_id]
        if self._registry.remove(connection):
            self._gone.setdefault(close.reason, []).append((client_id, session_id))
        log.info("session closed", client=client_id, ip=connection.ip, code=close.code, reason=close.reason)

    async def save_heartbeats(self) -> None:
        """Write the newest heartbeat of each client, in bulk. Raises Unavailable; the next ones then say the same."""
        beats, self._beats = self._beats, {}
        if beats:
            newest = [self._up_to_date(beat) for beat in beats.values()]
            await self._writer.call(self._writer.domain.save_heartbeats, newest)

    def _up_to_date(self, beat: Heartbeat) -> Heartbeat:
        """With what has been acknowledged since: the PING's version would take back what is written of that."""
        connection = self._registry.get(beat.client_id)
        if connection is None or connection.session.applied == beat.config_version:
            return beat
        return replace(beat, config_version=connection.session.applied)

    async def save_gone(self) -> None:
        """Write the ends of sessions, in bulk. Raises Unavailable; they are kept for the next time."""
        while self._gone:
            reason, sessions = self._gone.popitem()
            try:
                await self._writer.call(self._writer.domain.mark_offline, sessions, reason)
            except Unavailable:
                self._gone.setdefault(reason, []).extend(sessions)
                raise

    def committed(self, batch: Sequence[Submission], outcome: IngestOutcome) -> None:
        """Answer what has been committed; called by the writer."""
        metrics.COMMITTED.inc(len(outcome.committed))
        done: dict[Connection, list[str]] = {}
        for submission in batch:
            receipt = submission.receipt
            if receipt is None:
                continue
            names = [report.execution_id for report in submission.reports]
            session = receipt.connection.agent
            if receipt.sync:
                kept = [name for name in names if name in outcome.committed]
                never = [name for name in names if name in outcome.refused and name not in outcome.committed]
                session.answer_sync(receipt.msg_id, kept, _shortfall(names, outcome), never)
            elif names[0] in outcome.committed:
                done.setdefault(receipt.connection, []).append(receipt.msg_id)
            elif names[0] in outcome.refused:
                session.reject(receipt.msg_id, outcome.refused[names[0]])
            receipt.connection.wake()
        for connection, msg_ids in done.items():
            connection.agent.acknowledge(msg_ids)

    # --- Registration ---

    def _register(self, connection: Connection, item: inputs.RegisterReceived) -> None:
        if self._registering >= MAX_REGISTERING:
            connection.session.refuse("busy", "too many agents are connecting at once; try again")
            return
        request = item.request
        info = RegisterInfo(
            client_id=request.client_id,
            bridge_id=self._bridge_id,
            session_id=connection.session.session_id,
            ip=connection.ip,
            credential=request.credential,
            enrollment_token=request.enrollment_token,
            protocol_version=request.protocol_version,
            agent_version=request.agent_version,
            hostname=request.hostname,
            os=request.os,
            arch=request.arch,
            labels=dict(request.labels),
            group=request.group,
        )
        self._await_admission(connection, request, self._writer.domain.register, info)

    def _arrived(self, connection: Connection, item: inputs.LegacyArrived) -> None:
        if self._registering >= MAX_REGISTERING:
            connection.session.refuse("busy", "too many clients are connecting at once; try again")
            return
        info = RegisterInfo(
            client_id=item.client_id,
            bridge_id=self._bridge_id,
            session_id=connection.session.session_id,
            ip=connection.ip,
        )
        request = agent_pb2.RegisterRequest(client_id=item.client_id)
        self._await_admission(connection, request, self._writer.domain.register_legacy, info)

    def _await_admission(
        self,
        connection: Connection,
        request: agent_pb2.RegisterRequest,
        register: Callable[[RegisterInfo], RegisterOutcome],
        info: RegisterInfo,
    ) -> None:
        self._registering += 1
        future = self._writer.call(register, info)
        future.add_done_callback(partial(self._registered, connection, request))

    def _registered(self, connection: Connection, request: agent_pb2.RegisterRequest, future: Any) -> None:
        self._registering -= 1
        session = connection.session
        try:
            outcome: RegisterOutcome = future.result()
        except Unavailable:
            session.refuse("busy", "the server's database is not available; try again")
        except Exception:
            log.exception("registration failed", client=request.client_id, ip=connection.ip)
            session.close(CLOSE_INTERNAL, "registration failed")
        else:
            if outcome.accepted:
                self._admit(connection, request, outcome)
            else:
                session.refuse(outcome.code, outcome.message)
        connection.wake()

    def _admit(
        self, connection: Connection, request: agent_pb2.RegisterRequest, outcome: RegisterOutcome
    ) -> None:
        session_id = connection.session.session_id
        if isinstance(connection.session, LegacySession):
            connection.session.approved = outcome.approved
        if not connection.admit(
            outcome.client_id, request.config_version, group=outcome.group, credential=outcome.credential
        ):
            self._gone.setdefault("gone before the answer", []).append((outcome.client_id, session_id))
            return
        older = self._registry.add(connection)
        self._logs.watch_again(connection)
        if older is not None:
            log.warning("newer session wins", client=outcome.client_id, ip=connection.ip, older_ip=older.ip)
            older.session.close(CLOSE_SUPERSEDED, f"this client id connected again from {connection.ip}")
            older.wake()

    # --- The rest ---

    def _heartbeat(self, connection: Connection, item: inputs.HeartbeatReceived) -> None:
        session, offset = connection.session, item.clock_offset
        self._beats[session.client_id] = Heartbeat(
            client_id=session.client_id,
            session_id=session.session_id,
            at=datetime.now(UTC),
            config_version=item.ping.config_version,
            running=item.ping.running,
            clock_offset_ms=None if offset is None else max(-INT32, min(offset, INT32)),
        )

    def _pull(self, connection: Connection, item: inputs.PullReceived) -> None:
        future = self._writer.call(self._writer.domain.config_delta, connection.session.client_id, item.since)
        future.add_done_callback(partial(self._pulled, connection, item))

    def _pulled(self, connection: Connection, item: inputs.PullReceived, future: Any) -> None:
        try:
            response: task_pb2.TaskConfigResponse = future.result()
            connection.agent.answer_pull(item.msg_id, response)
        except Unavailable as error:
            # Not answered: the next PONG makes the agent pull again.
            log.warning("pull waits for the database", client=connection.session.client_id, error=str(error))
        except FramingError as error:
            self._configs.too_large([connection.session.client_id], response.version, error)
        except Exception:
            log.exception("pull failed", client=connection.session.client_id)
            connection.session.close(CLOSE_INTERNAL, "configuration not available")
        connection.wake()

    def _progress(self, connection: Connection, item: inputs.ProgressReceived) -> None:
        self._writer.submit([Progress(connection.session.client_id, item.message)])

    def _result(self, connection: Connection, item: inputs.ResultReceived) -> None:
        receipt = Receipt(connection, item.msg_id, sync=False)
        self._writer.submit([Result(connection.session.client_id, item.message)], receipt)

    def _ended(self, connection: Connection, item: inputs.LegacyEnded) -> None:
        self._writer.submit([Result(connection.session.client_id, item.message)])
        self.legacy_changed.set()  # what had to wait for it may begin

    def _sync(self, connection: Connection, item: inputs.SyncReceived) -> None:
        client_id, records = connection.session.client_id, item.message.records
        if len(records) > MAX_SYNC_RECORDS:
            connection.agent.answer_sync(item.msg_id, (), f"more than {MAX_SYNC_RECORDS} records at once")
        elif records:
            receipt = Receipt(connection, item.msg_id, sync=True)
            self._writer.submit([Result(client_id, record) for record in records], receipt)
        else:
            connection.agent.answer_sync(item.msg_id, ())

    def _stats(self, connection: Connection, item: inputs.StatsReceived) -> None:
        domain, client_id = self._writer.domain, connection.session.client_id
        # What the agent counts it has reported before: the recount must have it, too.
        future = self._writer.call_behind(domain.ingest_daily_stats, client_id, item.message)
        future.add_done_callback(partial(self._stats_taken, connection, item.msg_id))

    def _stats_taken(self, connection: Connection, msg_id: str, future: Any) -> None:
        session = connection.agent
        try:
            wanted: list[str] = future.result()
            if wanted:
                session.want_records(msg_id, wanted)
            else:
                session.acknowledge([msg_id])
        except Unavailable as error:
            log.warning("statistics wait for the database", client=session.client_id, error=str(error))
        except Exception as error:
            log.warning("statistics not taken", client=session.client_id, error=str(error))
            session.reject(msg_id, "not readable")
        connection.wake()

    def _answered(self, connection: Connection, item: inputs.ExecutionsAnswered) -> None:
        client_id = connection.session.client_id
        metrics.ANSWERED.inc(len(item.executions))
        if item.error:
            # The reason is one word of the domain's list; what follows a colon is for people.
            reason, _, text = item.error.partition(":")
            self._writer.submit(
                [
                    Rejected(client_id, name, reason, text.strip(), attempt)
                    for name, attempt in item.executions
                ]
            )
        else:
            self._writer.submit([Accepted(client_id, name, attempt) for name, attempt in item.executions])


def _shortfall(names: Sequence[str], outcome: IngestOutcome) -> str:
    reasons = {outcome.refused.get(name, "not written") for name in names if name not in outcome.committed}
    return "; ".join(sorted(reasons))
