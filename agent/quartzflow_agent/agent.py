"""The agent: everything put together, from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from contextlib import suppress
from typing import Any, Callable, List, Sequence, Tuple, TypeVar

from quartzflow_agent import __version__, status
from quartzflow_agent.client import Link
from quartzflow_agent.clock import ServerClock
from quartzflow_agent.config import AgentConfig
from quartzflow_agent.engine import Engine
from quartzflow_agent.executors import ProcessRunner, executors
from quartzflow_agent.handler import Handler
from quartzflow_agent.held import ALIVE_UNTIL
from quartzflow_agent.local import LocalScheduler
from quartzflow_agent.lock import Lock
from quartzflow_agent.logs import event
from quartzflow_agent.paths import Home
from quartzflow_agent.policy import Guarded, load_policy
from quartzflow_agent.protocol import agent_pb2, task_pb2
from quartzflow_agent.registration import read_admission, register_request
from quartzflow_agent.reporting import Reporter
from quartzflow_agent.retention import Trimmed, delete_before, trim_logs
from quartzflow_agent.session import Vitals
from quartzflow_agent.store import executions as records
from quartzflow_agent.store import outbox, statistics, tasks
from quartzflow_agent.store.database import StoreError, set_meta
from quartzflow_agent.store.records import utc_day
from quartzflow_agent.store.rescue import heal
from quartzflow_agent.store.thread import StoreThread
from quartzflow_agent.systemd import notify, stay_watched, watchdog_interval
from quartzflow_agent.trust import Trust
from quartzflow_agent.views import Views, iso

log = logging.getLogger(__name__)

# After its start the agent waits so long for a server before it fires by itself.
START_GRACE = 10.0  # seconds
NOTED = 30.0  # seconds between two notes that the agent lives
UPKEEP = 3600.0  # seconds between two looks for what has become too old
FLUSH = 2.0  # seconds that the last results get to be acknowledged
DAY = 86_400_000  # ms
# The logs are looked at once a share of what they may take was written since the last look.
CROWD = 20

T = TypeVar("T")


class Agent:
    """One agent in one home. `run` once."""

    def __init__(self, home: Home, config: AgentConfig) -> None:
        """Take the home's lock and open its store.

        Needs a running loop. Raises AlreadyRunning, ConfigError, StoreError, OSError.
        """
        read_admission(home)  # fail now rather than at the first connection
        policy = load_policy(home)
        home.create()
        self._lock = Lock(home.lock)
        self._home = home
        self._config = config
        self._clock = ServerClock()
        self._stop = asyncio.Event()
        self._crowded = asyncio.Event()
        self._written = 0  # bytes of output since the logs were looked at
        self._started = time.time()
        _heal(home)
        self._store = StoreThread(home.store)
        self._views = Views(home, config.client_id)
        self._reporter = Reporter(
            store=self._store,
            clock=self._clock,
            link=lambda: self._link,
            home=home,
            client_id=config.client_id,
            changed=self._views.touch,
        )
        processes = ProcessRunner(home.root, policy.cpu_seconds)
        self._engine = Engine(
            store=self._store,
            clock=self._clock,
            reports=self._reporter,
            listener=self,
            executors={kind: Guarded(item, policy) for kind, item in executors(processes).items()},
            processes=processes,
            home=home,
            log_limit=min(config.log_limit, policy.output_bytes or config.log_limit),
            most=policy.max_concurrent,
        )
        self._local = LocalScheduler(
            store=self._store, clock=self._clock, engine=self._engine, client_id=config.client_id
        )
        self._handler = Handler(
            store=self._store,
            clock=self._clock,
            engine=self._engine,
            reporter=self._reporter,
            local=self._local,
            link=lambda: self._link,
            home=home,
            changed=self.save_status,
        )
        self._link = Link(
            endpoints=config.servers,
            trust=Trust(config.ca_file, config.ca_sha256),
            clock=self._clock,
            request=self._request,
            vitals=self._vitals,
            handler=self._handler,
            failed=self.save_status,
        )

    def stop(self) -> None:
        """Begin to stop; the second time, do not wait for what runs."""
        if self._stop.is_set():
            self._engine.hurry()
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop`. Raises whatever broke a part of the agent: it does not go on half alive."""
        log.info(event("starting", version=__version__, client=self._config.client_id, home=self._home.root))
        self._handler.config_version = await self._store.call(tasks.version)
        await self._engine.recover()
        for day in await self._store.call(records.days):
            self._views.touch(day)
        link = asyncio.ensure_future(self._link.run())
        sides: "List[asyncio.Future[None]]" = [
            asyncio.ensure_future(work)
            for work in (
                self._engine.timeline.run(),
                self._reporter.run(),
                self._local.run(),
                self._views.run(),
                self._keep_up(),
                self._stay_noted(),
            )
        ]
        watched = watchdog_interval()
        if watched:
            sides.append(asyncio.ensure_future(stay_watched(watched)))
        sides += [link, self._engine.failure]
        notify("READY=1")
        stop: "asyncio.Future[Any]" = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([stop, *sides], return_when=asyncio.FIRST_COMPLETED)
        broken = next((side for side in sides if side.done()), None)
        await self._shut_down(link, sides)
        if broken is not None:
            broken.result()
            raise RuntimeError("a part of the agent has ended by itself")

    async def _shut_down(self, link: "asyncio.Future[None]", sides: "Sequence[asyncio.Future[None]]") -> None:
        log.info(event("stopping", running=self._engine.running))
        notify("STOPPING=1")
        # Nothing new, then an end to what runs.
        await self._engine.stop(self._config.stop_timeout)
        # The last results, while somebody listens.
        await self._reporter.drain(FLUSH)
        with suppress(StoreError):  # then it counts from the last note
            await self._note()
        # Goodbye.
        for side in sides:
            side.cancel()
        await asyncio.wait(sides)
        await self._views.flush()
        await self._store.close()
        self._home.status.unlink(missing_ok=True)
        self._lock.release()
        log.info(event("stopped"))

    # --- Listener ---

    def started(self, day: str) -> None:
        """A record of this day has changed."""
        self._views.touch(day)

    def ended(self, result: task_pb2.TaskResult, day: str) -> None:
        """An attempt is over."""
        self._views.touch(day)
        self._local.ended(result.task_id, result.finished_at)
        self._written += min(result.output_size, self._config.log_limit)
        if self._written > self._config.logs_limit // CROWD:
            self._crowded.set()

    # --- what the link asks ---

    def _request(self) -> agent_pb2.RegisterRequest:
        credential, token = read_admission(self._home)
        request = register_request(self._config, credential=credential, enrollment_token=token)
        request.config_version = self._handler.config_version
        request.unacknowledged = self._reporter.unacknowledged
        return request

    def _vitals(self) -> Vitals:
        return Vitals(self._handler.config_version, self._engine.running, self._reporter.unacknowledged)

    # --- upkeep ---

    async def _keep_up(self) -> None:
        await asyncio.sleep(START_GRACE)
        if not self._link.ready:
            self._local.set_active(True, "no connection")
            self.save_status()
        while True:
            self._written = 0
            self._crowded.clear()
            try:
                await self._forget()
                await self._make_room()
            except (OSError, StoreError) as error:
                log.error(event("upkeep_failed", error=error))
            await self._clock.wait(self._crowded, UPKEEP)

    async def _stay_noted(self) -> None:
        """Write down that the agent lives: the next one must know which firings it was not there for."""
        while True:
            try:
                await self._note()
            except StoreError as error:
                log.error(event("store_failed", about="alive", error=error))
            await asyncio.sleep(NOTED)

    async def _note(self) -> None:
        now = str(self._clock.server_ms())
        await self._store.call(lambda db: set_meta(db, ALIVE_UNTIL, now))

    async def _forget(self) -> None:
        """Delete what is older than the retention and known to the server (FR-5.1)."""
        oldest = utc_day(self._clock.server_ms() - self._config.retention_days * DAY)

        def delete(db: sqlite3.Connection) -> Tuple[int, List[str]]:
            count = records.delete_before(db, oldest)
            statistics.delete_before(db, oldest)
            return count, [*records.days(db), *statistics.days(db), *outbox.days(db)]

        count, kept = await self._store.call(delete)
        await self._aside(lambda: delete_before(self._home, oldest, set(kept)))
        log.info(event("forgotten", before=oldest, executions=count))

    async def _make_room(self) -> None:
        """Delete the oldest logs when all together take too much, but none that the server may still ask for."""
        kept = set(await self._store.call(records.not_settled))
        limit = self._config.logs_limit
        trimmed: Trimmed = await self._aside(lambda: trim_logs(self._home, kept, limit))
        if trimmed.files:
            log.info(event("logs_trimmed", files=trimmed.files, left=trimmed.left))
        if trimmed.left > limit:
            log.warning(event("logs_crowded", left=trimmed.left, limit=limit, needed=len(kept)))

    @staticmethod
    async def _aside(work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, work)

    def save_status(self) -> None:
        """For `quicflow agent status`."""
        now = status.Status(
            pid=os.getpid(),
            version=__version__,
            client_id=self._config.client_id,
            group=self._handler.group,
            started_at=iso(round(self._started * 1000)) or "",
            connected=self._link.ready,
            server=self._link.endpoint,
            problem=self._link.problem,
            scheduler_alive=self._handler.scheduler_alive and self._link.ready,
            local_firing=self._local.active,
            config_version=self._handler.config_version,
            running=self._engine.running,
            unacknowledged=self._reporter.unacknowledged,
            clock_offset_ms=self._clock.offset_ms,
            updated_at=iso(round(time.time() * 1000)) or "",
        )
        try:
            status.save(self._home, now)
        except OSError as error:
            log.error(event("status_failed", error=error))


def _heal(home: Home) -> None:
    rescue = heal(home)
    if rescue is None:
        return
    log.error(event("store_damaged", problem=rescue.problem, aside=rescue.aside))
    log.warning(
        event(
            "store_rebuilt",
            executions=rescue.executions,
            unsynced=rescue.unsynced,
            unreadable=",".join(rescue.unreadable) or "-",
        )
    )
