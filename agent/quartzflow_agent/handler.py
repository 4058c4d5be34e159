"""What the agent does with what the server sends."""

from __future__ import annotations

import asyncio
import logging
from itertools import groupby
from typing import Any, Awaitable, Callable, Dict, List, Sequence, Set, Type

from quartzflow_agent import events
from quartzflow_agent.client import Link
from quartzflow_agent.clock import Clock
from quartzflow_agent.engine import Engine
from quartzflow_agent.events import Event
from quartzflow_agent.local import SERVED_UNTIL, LocalScheduler
from quartzflow_agent.logs import event
from quartzflow_agent.logserver import log_chunks, log_error
from quartzflow_agent.paths import Home
from quartzflow_agent.protocol import agent_pb2
from quartzflow_agent.registration import keep_credential
from quartzflow_agent.reporting import Reporter
from quartzflow_agent.store import executions, tasks
from quartzflow_agent.store.database import StoreError, set_meta
from quartzflow_agent.store.thread import StoreThread

log = logging.getLogger(__name__)

PULL_PATIENCE = 30.0  # seconds until a configuration that has not come is asked for again


class Handler:
    """Implements LinkHandler: hands each kind of event to the part it concerns, in order of arrival.

    Nothing is acknowledged that is not stored: when the store fails, the server sends it again.
    """

    def __init__(
        self,
        *,
        store: StoreThread,
        clock: Clock,
        engine: Engine,
        reporter: Reporter,
        local: LocalScheduler,
        link: Callable[[], Link],
        home: Home,
        changed: Callable[[], None],
    ) -> None:
        """changed: told when the status has."""
        self._store = store
        self._clock = clock
        self._engine = engine
        self._reporter = reporter
        self._local = local
        self._link = link
        self._home = home
        self._changed = changed
        self._pull_again_at = 0.0  # monotonic; until then the answer to the last pull may come
        self._fresh = False  # the session's first configuration has not come yet
        self._work: "Set[asyncio.Task[None]]" = set()
        self.config_version = 0
        self.group = ""
        self.scheduler_alive = False
        self._by_type: Dict[Type[Any], Callable[[Sequence[Any]], Awaitable[None]]] = {
            events.Pong: self._on_pongs,
            events.ConfigReceived: self._on_configs,
            events.ConfigComing: self._on_coming,
            events.Instructed: self._on_instructions,
            events.CancelRequested: self._on_cancels,
            events.WatchChanged: self._on_watches,
            events.LogRequested: self._on_log_requests,
            events.ResultsAcknowledged: self._on_acknowledged,
            events.ResultRefused: self._on_refused,
            events.SyncAnswered: self._on_synced,
            events.StatsAcknowledged: self._on_stats,
            events.RecordsWanted: self._on_wanted,
        }

    async def registered(self, response: agent_pb2.RegisterResponse) -> None:
        """A session begins: say what runs, ask for the configuration; the rest follows that (FR-2.2).

        Raises OSError when a new credential cannot be stored.
        """
        keep_credential(self._home, response)
        self.group = response.group
        self._fresh = True
        self._local.registered()
        self._engine.report_running()
        self._pull()
        try:
            await self._on_scheduler(response.scheduler_alive)
        except StoreError as error:
            log.error(event("store_failed", about="register", error=error))
        self._changed()

    def lost(self, reason: str) -> None:
        """The session is over."""
        self._reporter.disconnected()
        if not self._engine.stopping:
            self._local.set_active(True, "no connection")
        self._changed()

    async def received(self, batch: List[Event]) -> None:
        """What the server sent, in order."""
        for kind, group in groupby(batch, type):
            try:
                await self._by_type[kind](list(group))
            except StoreError as error:
                log.error(event("store_failed", about=kind.__name__, error=error))
        self._link().flush()  # many acknowledgements in one frame

    def _pull(self) -> None:
        self._pull_again_at = self._clock.monotonic() + PULL_PATIENCE
        self._link().send(lambda session: session.pull_config(self.config_version))

    async def _on_scheduler(self, alive: bool) -> None:
        self.scheduler_alive = alive
        if alive:
            served = str(self._clock.server_ms())
            await self._store.call(lambda db: set_meta(db, SERVED_UNTIL, served))
        self._local.set_active(
            not alive, "the server's scheduler lives" if alive else "the server has no scheduler"
        )

    async def _on_pongs(self, pongs: Sequence[events.Pong]) -> None:
        pong = pongs[-1]
        self._engine.timeline.wake()  # the clock may have been corrected
        if pong.config_version != self.config_version and self._clock.monotonic() >= self._pull_again_at:
            self._pull()
        await self._on_scheduler(pong.scheduler_alive)
        self._changed()

    async def _on_configs(self, received: Sequence[events.ConfigReceived]) -> None:
        for item in received:
            await self._apply(item)

    async def _on_coming(self, received: Sequence[events.ConfigComing]) -> None:
        self._pull_again_at = self._clock.monotonic() + PULL_PATIENCE

    async def _apply(self, item: events.ConfigReceived) -> None:
        now = self._clock.server_ms()
        changes = await self._store.call(lambda db: tasks.apply(db, item.config, now))
        self.config_version = changes.version
        await self._engine.config_changed(changes)
        if changes.tasks or changes.removed:
            self._local.tasks_changed()
            log.info(
                event(
                    "configured",
                    version=changes.version,
                    changed=len(changes.tasks),
                    removed=len(changes.removed),
                )
            )
        self._pull_again_at = 0.0
        if item.msg_id:
            self._link().send(lambda session: session.applied(item.msg_id, changes.version))
        if self._fresh:
            self._fresh = False
            self._reporter.connected()

    async def _on_instructions(self, received: Sequence[events.Instructed]) -> None:
        if self._engine.stopping:
            return  # not acknowledged: the server sends it again, or elsewhere
        refusals = await self._engine.accept([item.instruction for item in received])
        for position, refusal in enumerate(refusals):
            msg_id = received[position].msg_id
            if refusal:
                log.warning(event("instruction_refused", reason=refusal))
                self._answer(msg_id, refusal)
            else:
                self._answer(msg_id)

    def _answer(self, msg_id: str, refusal: str = "") -> None:
        if refusal:
            self._link().send(lambda session: session.reject(msg_id, refusal))
        else:
            self._link().gather(lambda session: session.accept(msg_id))

    async def _on_cancels(self, received: Sequence[events.CancelRequested]) -> None:
        for item in received:
            self._engine.cancel(item.execution_ids, item.reason)
            self._answer(item.msg_id)

    async def _on_watches(self, received: Sequence[events.WatchChanged]) -> None:
        for item in received:
            self._engine.watch(item.execution_id, item.watching)

    async def _on_log_requests(self, received: Sequence[events.LogRequested]) -> None:
        for item in received:
            work = asyncio.ensure_future(self._send_log(item.request))
            self._work.add(work)
            work.add_done_callback(self._work.discard)

    async def _send_log(self, request: agent_pb2.LogFetch) -> None:
        try:
            record = await self._store.call(lambda db: executions.get(db, request.execution_id))
        except StoreError as error:
            await self._link().send_log([log_error(request, str(error))])
            return
        if record is None or not record.log:
            await self._link().send_log([log_error(request, "this host has no log of it (any more)")])
            return
        path = self._home.log_file(record.log)
        loop = asyncio.get_running_loop()
        await self._link().send_log(await loop.run_in_executor(None, log_chunks, request, path))

    async def _on_acknowledged(self, received: Sequence[events.ResultsAcknowledged]) -> None:
        await self._reporter.acknowledged([key for item in received for key in item.keys])
        self._changed()

    async def _on_refused(self, received: Sequence[events.ResultRefused]) -> None:
        for item in received:
            await self._reporter.refused(item.key, item.reason)

    async def _on_synced(self, received: Sequence[events.SyncAnswered]) -> None:
        for item in received:
            await self._reporter.synced(item)
        self._changed()

    async def _on_stats(self, received: Sequence[events.StatsAcknowledged]) -> None:
        for item in received:
            await self._reporter.stats_acknowledged(item.day, item.revision)

    async def _on_wanted(self, received: Sequence[events.RecordsWanted]) -> None:
        for item in received:
            await self._reporter.records_wanted(item.day, item.task_ids)
        self._changed()
