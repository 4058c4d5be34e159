"""What agents report, folded into a few bulk statements and one transaction (design: the way of one firing, step 5).

The caller acknowledges after `ingest` has returned, which is after the commit. Every report may come twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.constants import ERROR_LIMIT
from quartzflow_agent.protocol.text import tail_utf8
from quartzflow_agent.schedule import retry_delay

from quartzflow.bulk import update_from_values
from quartzflow.execution_status import LIVE, TERMINAL, ExecutionStatus
from quartzflow.metrics import metrics
from tasks_app.choices import TaskStatus
from tasks_app.models import Task

from .alone import count_late, insert_local, moment
from .choices import SERVER_GUESSES, ExecutionType, FailureReason
from .endings import after_end
from .events import publish_executions, publisher
from .instructions import send_cancels
from .models import Attempt, Execution, ExecutionLog
from .outputs import save_outputs

log = structlog.get_logger(__name__)

_LIVE_SQL = f"t.status IN ({', '.join(str(s.value) for s in sorted(LIVE))})"
_GUESSES_SQL = ", ".join(f"'{reason.value}'" for reason in sorted(SERVER_GUESSES))
# A result ends what is live, and corrects an end that was only the server's guess. A cancel is one, too, until the
# agent has told what became of it: it may have come when all was over. Told twice, its moment is the same.
_OPEN_SQL = (
    f"({_LIVE_SQL} OR (t.status = {ExecutionStatus.FAILURE.value} AND t.failure_reason IN ({_GUESSES_SQL}))"
    f" OR (t.status = {ExecutionStatus.CANCELLED.value} AND t.end_time <> v.end_time"
    " AND v.retry_count >= t.retry_count))"
)
_END_SQL = f"{_OPEN_SQL} AND t.retry_count = v.retry_count"
# The agent tries its own firings again by itself: each further attempt's end takes the place of the one before.
_LOCAL_END_SQL = f"({_OPEN_SQL} OR (t.local AND v.retry_count > t.retry_count))"


@dataclass(frozen=True)
class Accepted:
    """The agent has stored the instruction of this attempt."""

    client_id: str
    execution_id: str
    attempt: int = 0


@dataclass(frozen=True)
class Rejected:
    """The agent refuses the instruction; `reason` is one of FailureReason, `error` is for people."""

    client_id: str
    execution_id: str
    reason: str
    error: str = ""
    attempt: int = 0


@dataclass(frozen=True)
class Progress:
    client_id: str
    message: task_pb2.TaskProgress

    @property
    def execution_id(self) -> str:
        return self.message.execution_id


@dataclass(frozen=True)
class Result:
    client_id: str
    message: task_pb2.TaskResult

    @property
    def execution_id(self) -> str:
        return self.message.execution_id


Report = Accepted | Rejected | Progress | Result


@dataclass
class IngestOutcome:
    """committed: ids of results that are in the database, to be acknowledged; refused: id → why it never will be."""

    committed: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass
class _Known:
    """An execution's row as the batch found it."""

    pk: int
    task_id: int
    client_id: str
    status: int
    retry_count: int
    max_retries: int
    retry_interval: int
    retry_max_interval: int
    local: bool
    failure_reason: str
    execution_type: int
    scheduled_time: datetime
    delay_ms: int

    @property
    def due(self) -> datetime:
        """When it was to begin."""
        return self.scheduled_time + timedelta(milliseconds=self.delay_ms)


def ingest(reports: Sequence[Report]) -> IngestOutcome:
    """Write a batch of reports. Database errors come through: nothing is written then, and the batch may come again.

    1. Read the rows; a client's word counts only for executions of its own.
    2. Insert the rows of firings that agents made by themselves while they were alone; count those that are too old
       to be kept.
    3. Acceptances, starts, ends and retries: one bulk statement each, guarded by the allowed moves.
    4. Outputs.
    5. After commit, events.
    """
    outcome = IngestOutcome()
    with transaction.atomic():
        known = _read({report.execution_id for report in reports})
        fresh = [r for r in reports if isinstance(r, Result) and r.execution_id not in known]
        late = count_late((r.client_id, r.message) for r in fresh)
        known |= _read(insert_local((r.client_id, r.message) for r in fresh if r.execution_id not in late))
        mine: list[Report] = []
        for report in reports:
            row = known.get(report.execution_id)
            if report.execution_id in late:
                continue  # told once more, or too late to be a row; acknowledged all the same
            if row is None or row.client_id != report.client_id:
                outcome.refused[report.execution_id] = "unknown execution"
                if isinstance(report, Result):
                    log.warning("report refused", client=report.client_id, execution=report.execution_id)
            else:
                mine.append(report)
        changed = _accept([r for r in mine if isinstance(r, Accepted)])
        started = _start([r for r in mine if isinstance(r, Progress)])
        changed |= started
        results = {r.execution_id: r for r in mine if isinstance(r, Result)}
        changed |= _reject([r for r in mine if isinstance(r, Rejected)])
        ended = _end(list(results.values()), known)
        changed |= ended
        grown = _save_outputs(mine, list(results.values()), known, started)
        after_end(changed)
        outcome.committed = set(results) | late
        unwanted = [
            (r.client_id, r.execution_id, known[r.execution_id].failure_reason)
            for r in mine
            if isinstance(r, Progress) and known[r.execution_id].status == ExecutionStatus.CANCELLED
        ]
        transaction.on_commit(lambda: _publish(changed, grown))
        transaction.on_commit(lambda: _measure(mine, known, started, ended))
        if unwanted:  # the agent never heard of it
            transaction.on_commit(lambda: send_cancels(unwanted))
    return outcome


def _publish(changed: set[int], grown: list[tuple[int, int, str]]) -> None:
    publish_executions(changed)
    for pk, offset, text in grown:
        publisher.output(pk, offset, text)


def _measure(mine: list[Report], known: dict[str, _Known], started: set[int], ended: set[int]) -> None:
    """How late scheduled executions began, and how many ended how, for the graphs."""
    late = []
    for report in mine:
        row = known[report.execution_id]
        if isinstance(report, Progress) and row.pk in started:
            if row.execution_type == ExecutionType.SCHEDULED and report.message.attempt == 0:
                late.append(report.message.started_at / 1000 - row.due.timestamp())
        elif isinstance(report, Result) and row.pk in ended:
            status = task_pb2.ExecutionStatus.Name(report.message.status)
            metrics.count("executions_ended", label=status.lower())
    metrics.observe("start_lateness_seconds", [max(seconds, 0.0) for seconds in late])


def _read(ids: set[str]) -> dict[str, _Known]:
    columns = (
        "pk", "task_id", "client_id", "status", "retry_count", "max_retries", "retry_interval", "retry_max_interval",
        "local", "failure_reason", "execution_type", "scheduled_time", "delay_ms",
    )  # fmt: skip
    rows = Execution.objects.filter(execution_id__in=ids).values_list("execution_id", *columns)
    return {name: _Known(*values) for name, *values in rows}


def _accept(reports: list[Accepted]) -> set[int]:
    now = timezone.now()
    update_from_values(
        Execution,
        key=("execution_id", "retry_count"),
        columns=("accepted_at", "next_retry_at"),
        rows=[(name, attempt, now, None) for name, attempt in {(r.execution_id, r.attempt) for r in reports}],
        where=f"{_LIVE_SQL} AND t.accepted_at IS NULL",
    )
    return set()  # no page shows it


def _start(reports: list[Progress]) -> set[int]:
    starts = {
        r.execution_id: r.message
        for r in reports
        if r.message.status == task_pb2.RUNNING and r.message.started_at > 0
    }
    changed = update_from_values(
        Execution,
        key=("execution_id", "retry_count"),
        columns=("status", "start_time", "next_retry_at"),
        rows=[(n, m.attempt, ExecutionStatus.RUNNING, moment(m.started_at), None) for n, m in starts.items()],
        # Only the first of an attempt's reports changes anything.
        where=f"{_LIVE_SQL} AND (t.status = {ExecutionStatus.PENDING.value} OR t.start_time IS NULL"
        " OR t.start_time <> v.start_time)",
        returning=("id",),
    )
    return {pk for (pk,) in changed}


def _reject(reports: list[Rejected]) -> set[int]:
    now = timezone.now()
    valid = set(FailureReason.values)
    changed = update_from_values(
        Execution,
        key=("execution_id", "retry_count"),
        columns=("status", "failure_reason", "end_time"),
        rows=[
            (*key, ExecutionStatus.FAILURE, r.reason if r.reason in valid else FailureReason.REJECTED, now)
            for key, r in {(r.execution_id, r.attempt): r for r in reports}.items()
        ],
        where=_LIVE_SQL,
        returning=("id", "execution_id"),
    )
    errors = {r.execution_id: tail_utf8(r.error, ERROR_LIMIT)[0] for r in reports}
    logs = [ExecutionLog(execution_id=pk, error_msg=errors[name]) for pk, name in changed]
    ExecutionLog.objects.bulk_create(
        logs, update_conflicts=True, update_fields=["error_msg"], unique_fields=["execution"]
    )
    return {pk for pk, _ in changed}


def _end(results: list[Result], known: dict[str, _Known]) -> set[int]:
    """Ends, but for those that are tried again: they stay RUNNING until their next attempt."""
    ends, local_ends, retries, attempts = [], [], [], []
    stopped = _stopped(known[r.execution_id] for r in results if r.message.status != task_pb2.SUCCESS)
    valid = set(FailureReason.values)
    now = timezone.now()
    grace = timedelta(seconds=settings.QF_PENDING_GRACE)
    for report in results:
        m, row = report.message, known[report.execution_id]
        try:
            status = ExecutionStatus.from_wire(m.status)
        except ValueError:
            status = ExecutionStatus.FAILURE
        if status not in TERMINAL:
            log.warning(
                "result without an end", client=report.client_id, execution=m.execution_id, status=m.status
            )
            status = ExecutionStatus.FAILURE
        started, ended = moment(m.started_at), moment(m.finished_at) or now
        duration = max(0, min(m.finished_at - m.started_at, 2**31 - 1)) if started else None
        exit_code = m.exit_code if m.has_exit_code else None
        reason = m.failure_reason if m.failure_reason in valid else ""
        if not reason and status != ExecutionStatus.SUCCESS:
            reason = {
                ExecutionStatus.TIMEOUT: FailureReason.TIMEOUT,
                ExecutionStatus.CANCELLED: FailureReason.CANCELLED_BY_USER,
            }.get(status, FailureReason.EXIT_CODE)
        attempts.append(
            Attempt(
                execution_id=row.pk, number=m.attempt, status=status, start_time=started, end_time=ended,
                exit_code=exit_code, failure_reason=reason, error_msg=tail_utf8(m.error, ERROR_LIMIT)[0],
            )
        )  # fmt: skip
        again = (
            status in (ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT)
            and reason not in (FailureReason.REJECTED, FailureReason.EXPIRED)
            and m.attempt < row.max_retries
            and row.status in LIVE
            and row.pk not in stopped
        )
        end = (m.execution_id, m.attempt, status, started, ended, duration, exit_code, reason, None)
        if row.local or m.local:
            local_ends.append((*end, True))  # whoever fired it retries it
        elif again:
            wait = retry_delay(row.retry_interval, m.attempt, row.retry_max_interval)
            retries.append((m.execution_id, m.attempt, now + timedelta(seconds=wait)))
        else:
            ends.append(end)
    columns = (
        "status", "start_time", "end_time", "duration", "exit_code", "failure_reason", "next_retry_at",
    )  # fmt: skip
    changed = update_from_values(
        Execution,
        key=("execution_id", "retry_count"),
        columns=columns,
        rows=ends,
        where=_END_SQL,
        returning=("id",),
    )
    changed += update_from_values(
        Execution,
        key=("execution_id",),
        columns=("retry_count", *columns, "local"),
        rows=local_ends,
        where=_LOCAL_END_SQL,
        returning=("id",),
    )
    # Attempt n has failed; the row moves on to attempt n + 1, once: the condition is on the old count.
    for name, attempt, when in retries:
        moved = Execution.objects.filter(
            execution_id=name, retry_count=attempt, status__in=LIVE, next_retry_at=None
        ).update(
            retry_count=attempt + 1,
            next_retry_at=when,
            accepted_at=None,
            status=ExecutionStatus.RUNNING,
            expires_at=when + grace,
        )
        if moved:
            changed.append((known[name].pk,))
    Attempt.objects.bulk_create(attempts, ignore_conflicts=True)
    return {pk for (pk,) in changed}


def _stopped(rows: Iterable[_Known]) -> set[int]:
    """Of these, scheduled executions whose task is disabled by now: they are not tried again."""
    scheduled = {
        row.pk: row.task_id
        for row in rows
        if row.execution_type == ExecutionType.SCHEDULED and row.retry_count < row.max_retries
    }
    if not scheduled:
        return set()
    disabled = set(
        Task.objects.filter(pk__in=set(scheduled.values()), status=TaskStatus.DISABLED).values_list(
            "pk", flat=True
        )
    )
    return {pk for pk, task_id in scheduled.items() if task_id in disabled}


def _save_outputs(
    mine: list[Report], results: list[Result], known: dict[str, _Known], started: set[int]
) -> list[tuple[int, int, str]]:
    """Those of the attempt that the row is at; a late copy of an earlier one's is left out."""

    def current(report: Progress | Result) -> bool:
        row, attempt = known[report.execution_id], report.message.attempt
        later = isinstance(report, Result) and row.local and attempt > row.retry_count
        return attempt == row.retry_count or later

    seen = [(known[r.execution_id].pk, r.message) for r in mine if isinstance(r, Progress) and current(r)]
    return save_outputs(
        [(pk, m) for pk, m in seen if m.output],
        [(known[r.execution_id].pk, r.message) for r in results if current(r)],
        {pk for pk, m in seen if m.attempt and pk in started},
    )
