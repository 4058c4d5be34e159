"""The one thread that writes the store: what waits together is committed together."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional, TypeVar

from quartzflow_agent.store.database import StoreError, open_database

T = TypeVar("T")

# Operations in one transaction. An fsync costs as much as many of them, and a burst brings hundreds.
BATCH = 256


@dataclass
class _Job:
    """An operation, who waits for it, and what became of it."""

    operation: Callable[[sqlite3.Connection], Any]
    future: "asyncio.Future[Any]"
    result: Any = None
    error: Optional[Exception] = None

    def resolve(self) -> None:
        if self.future.cancelled():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class StoreThread:
    """Runs operations on the store, in order, for one event loop.

    Each operation is done whole or not at all, whatever happens to the others of its transaction.
    """

    def __init__(self, path: Path) -> None:
        """Open the store. Raises StoreError."""
        self._db = open_database(path)
        self._jobs: "queue.SimpleQueue[Optional[_Job]]" = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()

    async def call(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """The operation's result, once it is committed and on the disk.

        Raises StoreError when it could not be; any other exception of the operation comes out as it is.
        """
        future: "asyncio.Future[T]" = self._loop.create_future()
        self._jobs.put(_Job(operation, future))
        return await future

    async def close(self) -> None:
        """Finish what waits, and close the file. Idempotent."""
        if self._thread.is_alive():
            self._jobs.put(None)
            await self._loop.run_in_executor(None, self._thread.join)

    def _work(self) -> None:
        stopped = False
        while not stopped:
            batch: List[_Job] = []
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) == BATCH:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            stopped = job is None
            if batch:
                self._commit(batch)
                self._loop.call_soon_threadsafe(_resolve, batch)
        self._db.close()

    def _commit(self, batch: List[_Job]) -> None:
        begun = False
        try:
            self._db.execute("BEGIN IMMEDIATE")
            begun = True
            for job in batch:
                self._run(job)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            # Disk full or damaged: nothing of the batch is stored.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            for job in batch:
                job.result, job.error = None, StoreError(str(error))
            if begun and len(batch) > 1:
                # Each by itself: what only reads, or makes room, may well be possible.
                for job in batch:
                    job.error = None
                    self._commit([job])

    def _run(self, job: _Job) -> None:
        self._db.execute("SAVEPOINT job")
        try:
            job.result = job.operation(self._db)
        except sqlite3.OperationalError:
            raise  # the disk's fault, not the operation's
        except Exception as error:  # the caller's to handle: it gets it from `call`
            self._db.execute("ROLLBACK TO job")
            job.error = error
        self._db.execute("RELEASE job")


def _resolve(batch: List[_Job]) -> None:
    for job in batch:
        job.resolve()
