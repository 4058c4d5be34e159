"""The one thread of a bridge that talks to the database.

More writers per process add nothing and stall each other; what counts is to fold what arrives into few transactions.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from .connection import Connection
from .domain import Domain, IngestOutcome, Report, Result, Unavailable

log = structlog.get_logger(__name__)

GATHER = 0.01  # seconds of the loop's submissions that are handed to the thread at once
WINDOW = 0.05  # seconds; reports that come within it are written together
BATCH = 100  # reports that are written without waiting for the window's end
FOLD = 300  # reports written together when so many wait already: 0.26 ms of work for an execution instead of 0.43
CAPACITY = 50_000  # reports that wait; beyond, they are dropped unacknowledged and the agents send them again
RETRY = (0.5, 1.0, 2.0, 5.0)  # seconds between attempts while the database is unavailable


@dataclass(frozen=True, slots=True)
class Receipt:
    """Whom to answer once reports are committed."""

    connection: Connection
    msg_id: str
    sync: bool  # answer with an OFFLINE_SYNC_RESPONSE instead of an ACK


@dataclass(frozen=True, slots=True)
class Submission:
    """Reports of one message, in their order."""

    reports: Sequence[Report]
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    future: "asyncio.Future[Any]"
    behind: bool = False  # run it once the reports before it are written


class _Stop:
    pass


Committed = Callable[[Sequence[Submission], IngestOutcome], None]


class Writer:
    """Runs domain functions one after the other, and folds reports into batches for `ingest`.

    `ended` is done when the thread is; with an exception when it died.
    """

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._committed: Committed
        self._jobs: queue.SimpleQueue[_Call | list[Submission] | _Stop] = queue.SimpleQueue()
        self._gathered: list[Submission] = []
        self._thread = threading.Thread(target=self._main, name="bridge-writer", daemon=True)
        self._stopping = threading.Event()
        self._submitted = 0  # reports, counted by the loop
        self._handled = 0  # reports, counted by the thread
        self._dropped = 0

    # --- In the loop ---

    def start(self, committed: Committed) -> None:
        """Start the thread; `committed` is called in the loop after each batch's commit."""
        self._committed = committed
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Reports that are not written yet."""
        return self._submitted - self._handled

    def call(self, function: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """Run a domain function in the thread; its result, or its exception (Unavailable among them)."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(_Call(function, args, future))
        return future

    def call_behind(self, function: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """As `call`, but not before the reports that have been submitted already are written."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._hand_over()
        self._jobs.put(_Call(function, args, future, behind=True))
        return future

    def submit(self, reports: Sequence[Report], receipt: Receipt | None = None) -> None:
        """Write reports with the next batch. When too many wait already, they are dropped without an answer."""
        if self.waiting >= CAPACITY:
            self._dropped += len(reports)
            if self._dropped % 1000 < len(reports):
                log.error(
                    "reports dropped: the database does not keep up",
                    waiting=self.waiting,
                    dropped=self._dropped,
                )
            return
        self._submitted += len(reports)
        # Not one by one: each would wake the thread, which then takes the interpreter from the loop.
        if not self._gathered:
            self._loop.call_later(GATHER, self._hand_over)
        self._gathered.append(Submission(reports, receipt))
        if len(self._gathered) >= BATCH:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._gathered:
            self._jobs.put(self._gathered)
            self._gathered = []

    async def stop(self) -> None:
        """Write what is there, end the thread. Reports that cannot be written now stay with their agents."""
        self._stopping.set()
        self._hand_over()
        self._jobs.put(_Stop())
        await asyncio.wait([self.ended])

    # --- In the thread ---

    def _main(self) -> None:
        try:
            self._work()
            self.domain.close()
        except BaseException as error:
            self._tell(self._end, error)
        else:
            self._tell(self._end, None)

    def _work(self) -> None:
        batch: list[Submission] = []
        size, due = 0, 0.0
        while True:
            try:
                job = self._jobs.get(timeout=max(due - time.monotonic(), 0) if batch else None)
            except queue.Empty:
                job = None
            if isinstance(job, list):
                if not batch:
                    due = time.monotonic() + WINDOW - GATHER
                batch += job
                size += sum(len(submission.reports) for submission in job)
            elif isinstance(job, _Call) and not job.behind:
                self._run(job)
            stop = isinstance(job, _Stop)
            behind = isinstance(job, _Call) and job.behind
            if batch and (stop or behind or self._is_time(size, due)):
                self._write(batch, size)
                batch, size = [], 0
            if isinstance(job, _Call) and job.behind:
                self._run(job)
            if stop:
                return

    def _is_time(self, size: int, due: float) -> bool:
        """Whether to write `size` reports whose window ends at `due`; what waits already is taken along."""
        now = time.monotonic()
        late = size >= FOLD or now >= due + WINDOW
        return late or ((size >= BATCH or now >= due) and self._jobs.empty())

    def _run(self, call: _Call) -> None:
        try:
            with self.domain.guard():
                result = call.function(*call.args)
        except Exception as error:
            self._tell(_settle, call.future, None, error)
        else:
            self._tell(_settle, call.future, result, None)

    def _write(self, batch: list[Submission], size: int) -> None:
        outcome = IngestOutcome()
        for reports in _rounds(batch):
            self._ingest(reports, outcome)
        self._handled += size
        self._tell(self._committed, batch, outcome)

    def _ingest(self, reports: Sequence[Report], outcome: IngestOutcome) -> None:
        try:
            done = self._try_ingest(reports)
        except Exception as error:
            if len(reports) > 1:
                # One report that the database does not take must not hold up the others.
                self._ingest(reports[: len(reports) // 2], outcome)
                self._ingest(reports[len(reports) // 2 :], outcome)
            else:
                log.error("report not written", client=reports[0].client_id, exc_info=error)
            return
        if done is not None:
            outcome.committed |= done.committed
            outcome.refused |= done.refused

    def _try_ingest(self, reports: Sequence[Report]) -> IngestOutcome | None:
        """None when the database stayed unavailable until we had to stop."""
        attempt = 0
        while True:
            try:
                with self.domain.guard():
                    return self.domain.ingest(reports)
            except Unavailable as error:
                log.warning("reports wait for the database", reports=len(reports), error=str(error))
                if self._stopping.wait(RETRY[min(attempt, len(RETRY) - 1)]):
                    return None
                attempt += 1

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        self._loop.call_soon_threadsafe(function, *args)

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


def _rounds(batch: Sequence[Submission]) -> list[list[Report]]:
    """The batch's reports, split so that no execution has two results in one `ingest`, which takes the last only."""
    rounds: list[list[Report]] = [[]]
    results: dict[str, int] = {}
    for submission in batch:
        for report in submission.reports:
            number = results.get(report.execution_id, 0)
            if number == len(rounds):
                rounds.append([])
            rounds[number].append(report)
            if isinstance(report, Result):
                results[report.execution_id] = number + 1
    return rounds


def _settle(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.done():  # whoever asked has gone
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
