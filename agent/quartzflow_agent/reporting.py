"""What the server is told: results until it has them, and each day's statistics (FR-5.3, FR-5.4)."""

from __future__ import annotations

import asyncio
import logging
from typing import Callable, Iterable, List, Optional, Sequence

from quartzflow_agent.client import Link
from quartzflow_agent.clock import Clock
from quartzflow_agent.events import AttemptKey, SyncAnswered
from quartzflow_agent.executors.output import saved_output
from quartzflow_agent.logs import event
from quartzflow_agent.paths import Home
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import executions, outbox, statistics
from quartzflow_agent.store.database import StoreError, get_meta, set_meta
from quartzflow_agent.store.records import DayStats, Pending
from quartzflow_agent.store.thread import StoreThread

log = logging.getLogger(__name__)

BATCH_RECORDS = 200
BATCH_BYTES = 960 * 1024  # leaves room for the envelope within 1 MiB
ANSWER_TIMEOUT = 30.0  # seconds, for one batch
BATCH_PAUSE = 0.05  # seconds between two batches: days offline must not drown the server
SWEEP = 15.0  # seconds between two looks for results that got no answer
STATS_INTERVAL = 300.0  # seconds between two reports of a day that changes (FR-5.3)
LAST_SYNC = "last_sync_time"
MAX_INT32 = 2**31 - 1


class Reporter:
    """Sends results at once, and again until they are acknowledged."""

    def __init__(
        self,
        *,
        store: StoreThread,
        clock: Clock,
        link: Callable[[], Link],
        home: Home,
        client_id: str,
        changed: Callable[[str], None],
    ) -> None:
        """changed: told each day of which the server has got something."""
        self._store = store
        self._clock = clock
        self._link = link
        self._home = home
        self._client_id = client_id
        self._changed = changed
        self._wake = asyncio.Event()
        self._heard = asyncio.Event()  # the server has answered something, or never will
        self._answer: "Optional[asyncio.Future[bool]]" = None
        self._everything = False
        self._stats_at = 0.0
        self.unacknowledged = 0

    @property
    def ready(self) -> bool:
        """Whether there is a server to tell."""
        return self._link().ready

    def progress(self, progress: task_pb2.TaskProgress) -> None:
        """It runs, or has written something; the server learns of it now or with the result."""
        self._link().progress(progress)

    def result(self, result: task_pb2.TaskResult) -> bool:
        """It is over, and stored. Returns whether the result is on its way."""
        self.unacknowledged += 1
        return self._link().send(lambda session: session.result(result))

    def resend(self) -> None:
        """The server asked for something it should have had."""
        self._wake.set()

    def connected(self) -> None:
        """A new session: send everything that the server lacks, then the statistics."""
        self._everything = True
        self._stats_at = 0.0
        self._wake.set()

    def disconnected(self) -> None:
        """No answer will come."""
        self._heard.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(False)

    # --- what the server answers ---

    async def acknowledged(self, keys: Iterable[AttemptKey]) -> None:
        """The server has committed these results. Raises StoreError."""
        listed = list(keys)
        days, self.unacknowledged = await self._store.call(
            lambda db: (outbox.acknowledge(db, listed), outbox.count_pending(db))
        )
        self._heard.set()
        for day in days:
            self._changed(day)

    async def refused(self, key: AttemptKey, reason: str) -> None:
        """The server will never take this result. Raises StoreError."""
        log.warning(event("result_refused", execution=key[0], attempt=key[1], reason=reason))
        await self._store.call(lambda db: outbox.refuse(db, *key))
        self.unacknowledged = await self._store.call(outbox.count_pending)
        self._heard.set()

    async def synced(self, answer: SyncAnswered) -> None:
        """A batch was dealt with. Raises StoreError."""
        await self.acknowledged(answer.committed)
        for key in answer.refused:
            await self.refused(key, answer.message)
        log.info(
            event(
                "synced",
                sent=len(answer.sent),
                committed=len(answer.committed),
                refused=len(answer.refused),
                message=answer.message or "-",
            )
        )
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(True)

    async def stats_acknowledged(self, day: str, revision: int) -> None:
        """The server has a day's statistics. Raises StoreError."""
        await self._store.call(lambda db: statistics.mark_synced(db, day, revision))
        self._changed(day)

    async def records_wanted(self, day: str, task_ids: Sequence[str]) -> None:
        """The server counts fewer executions of that day: send it what it once had. Raises StoreError.

        The day's statistics follow once that is through; what cannot be supplied the server does not ask for twice.
        """
        count, self.unacknowledged = await self._store.call(
            lambda db: (outbox.reopen_day(db, day, task_ids), outbox.count_pending(db))
        )
        log.warning(event("records_wanted", day=day, tasks=len(task_ids), records=count))
        if count:
            self._changed(day)
        self._stats_at = 0.0
        self._wake.set()

    async def drain(self, seconds: float) -> None:
        """Wait until the server has everything, while there is one, for so long at most."""
        deadline = self._clock.monotonic() + seconds
        while self.ready and self.unacknowledged and self._clock.monotonic() < deadline:
            self._heard.clear()
            await self._clock.wait(self._heard, deadline - self._clock.monotonic())

    # --- what is sent again ---

    async def run(self) -> None:
        """Until cancelled."""
        self.unacknowledged = await self._store.call(outbox.count_pending)
        while True:
            await self._clock.wait(self._wake, SWEEP)
            self._wake.clear()
            if not self.ready:
                continue
            try:
                synced = await self._sync()
                if synced and self._clock.monotonic() >= self._stats_at and self.ready:
                    self._stats_at = self._clock.monotonic() + STATS_INTERVAL
                    await self._send_stats()
            except StoreError as error:
                log.error(event("store_failed", error=error))

    async def _sync(self) -> bool:
        """Send what the server lacks, batch by batch, each once; whether all of it was answered."""
        everything, self._everything = self._everything, False
        batch = await self._next_batch(0, everything)
        if not batch:
            return True
        while batch:
            if not await self._send_batch(batch):
                # The answer is late or lost; the next look comes back to these.
                self._everything = self._everything or everything
                return False
            await asyncio.sleep(BATCH_PAUSE)
            batch = await self._next_batch(batch[-1].row, everything)
        finished = str(self._clock.server_ms())
        await self._store.call(lambda db: set_meta(db, LAST_SYNC, finished))
        return True

    async def _next_batch(self, after: int, everything: bool) -> List[Pending]:
        due_at = 0 if everything else self._clock.server_ms()
        return await self._store.call(
            lambda db: outbox.pending(
                db, limit=BATCH_RECORDS, max_bytes=BATCH_BYTES, after=after, due_at=due_at
            )
        )

    async def _send_batch(self, batch: List[Pending]) -> bool:
        """Send and wait; whether an answer came."""
        rows, now = [item.row for item in batch], self._clock.server_ms()
        await self._store.call(lambda db: outbox.mark_sent(db, rows, now))
        last = int(await self._store.call(lambda db: get_meta(db, LAST_SYNC, "0")))
        records = [await self._complete(item.result) for item in batch]
        self._answer = asyncio.get_running_loop().create_future()
        if not self._link().send(lambda session: session.sync(records, last)):
            return False
        done, _ = await asyncio.wait([self._answer], timeout=ANSWER_TIMEOUT)
        return bool(done) and self._answer.result()

    async def _complete(self, result: task_pb2.TaskResult) -> task_pb2.TaskResult:
        """The server had it once and asks again: its output is in the log alone."""
        if result.output_size and not result.output:
            record = await self._store.call(lambda db: executions.get(db, result.execution_id))
            if record is not None and record.attempt == result.attempt:
                result.output = saved_output(self._home.log_file(record.log))[0]
        return result

    async def _send_stats(self) -> None:
        for day in await self._store.call(statistics.unsynced_days):
            await self._send_day(day)

    async def _send_day(self, day: str) -> None:
        stats, revision = await self._store.call(
            lambda db: (statistics.of_day(db, day), statistics.revision(db, day))
        )
        report = self._stats_report(day, stats)
        self._link().send(lambda session: session.daily_stats(report, revision))

    def _stats_report(self, day: str, stats: List[DayStats]) -> task_pb2.DailyStatsReport:
        return task_pb2.DailyStatsReport(
            client_id=self._client_id,
            date=day,
            report_time=self._clock.server_ms(),
            task_stats=[
                task_pb2.TaskStats(
                    task_id=item.task_id,
                    task_name=item.task_name,
                    success_count=item.success,
                    failure_count=item.failure,
                    timeout_count=item.timeout,
                    cancelled_count=item.cancelled,
                    total_duration_ms=item.total_ms,
                    max_duration_ms=min(item.max_ms, MAX_INT32),
                    min_duration_ms=min(item.min_ms, MAX_INT32),
                )
                for item in stats
            ],
        )
