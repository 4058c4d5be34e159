"""One attempt, from its start to its end: time limit, reports on the way, verdict."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from typing import Awaitable, Callable, Optional, Tuple

from quartzflow_agent.clock import Clock
from quartzflow_agent.executors.base import Executor, Job, Outcome, Rejected, StartFailed, Stop
from quartzflow_agent.executors.output import Output
from quartzflow_agent.executors.process import TERM_GRACE
from quartzflow_agent.masking import secrets_of
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.constants import ERROR_LIMIT
from quartzflow_agent.protocol.text import tail_utf8
from quartzflow_agent.store.records import CANCELLED, FAILURE, SUCCESS, TIMEOUT, Ending

REPORT_INTERVAL = 10.0  # seconds between two pieces of output (PRD FR-4.2)
# seconds, while somebody looks: with the way through the server, it is there within one
WATCHED_INTERVAL = 0.6
# Whoever looks says so again three times as often: pages may vanish without a word, and one that closes must not stop
# what another one reads.
WATCH_LASTS = 60.0  # seconds
DEFAULT_TIMEOUT = 300  # seconds, when the instruction has none
# What an executor gets to end what it runs, before it is given up.
STOP_LIMIT = TERM_GRACE + 10.0  # seconds

TIMED_OUT = "timeout"
AGENT_STOPPED = "agent_restarted"


class Run:
    """Runs an instruction with an executor. `execute` once; the rest from outside while it does."""

    def __init__(
        self,
        instruction: task_pb2.TaskExecution,
        clock: Clock,
        report: Callable[[task_pb2.TaskProgress], None],
        on_process: Callable[[int], Awaitable[None]],
    ) -> None:
        self.instruction = instruction
        self.started_at = clock.server_ms()
        self._started = clock.monotonic()
        self.stop = Stop()
        self._clock = clock
        self._report = report
        self._on_process = on_process
        self._output: Optional[Output] = None
        self._watched_until = 0.0  # monotonic
        self._report_at = 0.0  # monotonic; when the next piece of output is due
        self._wake = asyncio.Event()

    def end(self, reason: str) -> None:
        """End it, for this reason; the first one counts."""
        self.stop.request(reason)
        self._wake.set()

    def watch(self, watched: bool) -> None:
        """Somebody looks at the output, and wants to see it now, or nobody does any more."""
        self._watched_until = self._clock.monotonic() + WATCH_LASTS if watched else 0.0
        if watched:
            self._report_at = 0.0
        self._wake.set()

    @property
    def _watched(self) -> bool:
        return self._clock.monotonic() < self._watched_until

    async def execute(self, executor: Executor, log: Path, log_limit: int, scripts: Path) -> Ending:
        """Run it to its end, whatever happens: nothing of what the executor raises gets out."""
        self._progress(0, "")
        try:
            output = self._output = Output(log, log_limit, secrets_of(self.instruction))
        except OSError as error:
            return self._failed("start_failed", f"the log cannot be written: {error}")
        job = Job(self.instruction, output, scripts, self._on_process, self.stop)
        try:
            outcome = await self._supervise(job, executor)
        except Rejected as error:
            outcome = Outcome(reason="rejected", error=str(error))
        except StartFailed as error:
            outcome = Outcome(reason="start_failed", error=str(error))
        except Exception:  # an executor's own error is this execution's failure
            outcome = Outcome(reason="executor_error", error=traceback.format_exc())
        finally:
            output.close()
        return self._ending(outcome, output)

    async def _supervise(self, job: Job, executor: Executor) -> Outcome:
        work = asyncio.ensure_future(executor.run(job))
        work.add_done_callback(lambda _: self._wake.set())
        now = self._clock.monotonic()
        limit = now + (self.instruction.timeout or DEFAULT_TIMEOUT)
        self._report_at = now + self._interval
        ending = False
        try:
            while not work.done():
                if self.stop.event.is_set() and not ending:
                    ending = True
                    limit = now + STOP_LIMIT
                await self._clock.wait(self._wake, min(self._report_at, limit) - now)
                self._wake.clear()
                now = self._clock.monotonic()
                if now >= self._report_at:
                    self._report_output(job.output)
                    self._report_at = now + self._interval
                if now >= limit and not work.done():
                    if ending:
                        raise RuntimeError("the executor did not end when it was told to")
                    self.stop.request(TIMED_OUT)
            return work.result()
        finally:
            work.cancel()

    @property
    def _interval(self) -> float:
        return WATCHED_INTERVAL if self._watched else REPORT_INTERVAL

    def _report_output(self, output: Output) -> None:
        while (increment := output.increment(self._watched)) is not None:
            self._progress(*increment)

    def _progress(self, offset: int, text: str) -> None:
        self._report(
            task_pb2.TaskProgress(
                execution_id=self.instruction.execution_id,
                task_id=self.instruction.task_id,
                status=task_pb2.RUNNING,
                started_at=self.started_at,
                output=text,
                output_offset=offset,
                attempt=self.instruction.attempt,
            )
        )

    def report_again(self) -> None:
        """Say once more that it runs, and what it has written: the server may have missed any of it."""
        self._progress(0, "")
        if self._output is not None:
            self._output.rewind()
        if self._watched:
            self.watch(True)  # nobody could say so while there was no connection
        self._report_at = 0.0
        self._wake.set()

    def _finished_at(self) -> int:
        # Not the server's clock: what is learned of it while this runs must not change how long it took.
        return self.started_at + round((self._clock.monotonic() - self._started) * 1000)

    def _failed(self, reason: str, error: str) -> Ending:
        return Ending(
            FAILURE,
            self._finished_at(),
            failure_reason=reason,
            error=tail_utf8(error, ERROR_LIMIT)[0],
        )

    def _ending(self, outcome: Outcome, output: Output) -> Ending:
        status, reason = _verdict(outcome, self.stop)
        error = output.masked(outcome.error or output.errors)
        if status == TIMEOUT:
            error = f"ended after its {self.instruction.timeout or DEFAULT_TIMEOUT} s were over\n{error}"
        if output.write_error:
            error = f"{error}\nthe log is incomplete: {output.write_error}"
        return Ending(
            status,
            self._finished_at(),
            exit_code=outcome.exit_code,
            failure_reason=reason,
            output=output.head,
            error=tail_utf8(error.strip(), ERROR_LIMIT)[0],
            output_size=output.size,
            truncated=output.truncated,
        )


def _verdict(outcome: Outcome, stop: Stop) -> Tuple[int, str]:
    """The status and the failure reason."""
    if outcome.stopped:
        if stop.reason == TIMED_OUT:
            return TIMEOUT, TIMED_OUT
        if stop.reason == AGENT_STOPPED:
            return FAILURE, AGENT_STOPPED
        return CANCELLED, stop.reason
    if outcome.exit_code == 0 or (outcome.exit_code is None and not outcome.reason):
        return SUCCESS, ""
    return FAILURE, outcome.reason or "exit_code"


def log_name(instruction: task_pb2.TaskExecution, day: str) -> str:
    """DATE/TASK_EXECUTION.log (PRD §3.2.5); later attempts have their number before the end."""
    attempt = f".{instruction.attempt}" if instruction.attempt else ""
    return f"{day}/{instruction.task_id}_{instruction.execution_id}{attempt}.log"


def refused(reason: str, error: str, now: int, status: int = FAILURE) -> Ending:
    """The end of what never ran. now: ms."""
    return Ending(status, now, failure_reason=reason, error=error)
