"""What must be true when all is over: each firing has one final record on the server, and it is the agent's own."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from quartzflow.execution_status import ExecutionStatus

from .hosts import Host, Record

Row = Mapping[str, Any]  # of the API
SUCCESS, CANCELLED = 3, 6  # statuses of the API
WIRE_TO_API = 1  # the store and the wire count from 0
# Ends that the server may give an execution, or its next attempt, that its agent never began.
SERVERS_OWN = {
    "expired",
    "agent_lost",
    "no_online_client",
    "push_failed",
    "task_disabled",
    "cancelled_by_user",
}


@dataclass(frozen=True)
class Firings:
    """When a task was due. Moments are Unix seconds."""

    task_id: int
    every: int  # seconds; on the minute's multiples of them
    first: float
    last: float
    pauses: list[tuple[float, float]]  # while it was disabled

    def times(self) -> list[int]:
        begin = -int(-self.first // self.every) * self.every
        return [
            moment
            for moment in range(begin, int(self.last) + 1, self.every)
            if not any(start <= moment <= end for start, end in self.pauses)
        ]


@dataclass
class Verdict:
    """The counts, and every divergence in words."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For people."""
        lines = [f"  {count:6} {name}" for name, count in sorted(self.counts.items())]
        return "\n".join([*lines, f"  {len(self.wrong):6} divergences", *self.wrong[:50]])


def judge(rows: Iterable[Row], hosts: Iterable[Host], firings: Iterable[Firings]) -> Verdict:
    """Compare the server's executions with the agents' stores, with what has really run, and with the schedules."""
    verdict = Verdict()
    hosts = list(hosts)
    by_host: dict[str, dict[str, Row]] = {}
    for row in rows:
        verdict.counts["executions on the server"] += 1
        known = by_host.setdefault(row["client_id"], {})
        if row["execution_id"] in known:
            verdict.wrong.append(f"twice on the server: {row['execution_id']}")
        if row["status"] < SUCCESS:
            verdict.wrong.append(f"not over: {_said(row)}")
        known[row["execution_id"]] = row
    for host in hosts:
        known = by_host.pop(host.client_id, {})
        _judge_host(verdict, known, host)
        _judge_firings(verdict, known, host, firings)
    _judge_nobody(verdict, by_host.pop("", {}), hosts)
    for client_id, left in by_host.items():
        verdict.wrong.append(f"{len(left)} executions of an unknown host {client_id}")
    return verdict


def _judge_host(verdict: Verdict, rows: dict[str, Row], host: Host) -> None:
    records, ledger = host.records(), host.ledger()
    for execution_id, record in records.items():
        verdict.counts["records of agents"] += 1
        row = rows.get(execution_id)
        problem = "not on the server" if row is None else _difference(row, record, verdict.counts)
        if problem:
            verdict.wrong.append(f"{execution_id}: {problem}: agent {record}, server {row and _said(row)}")
    for execution_id in rows.keys() - records.keys():
        reason = rows[execution_id]["failure_reason"]
        verdict.counts[f"never begun by the agent: {reason}"] += 1
        if reason not in SERVERS_OWN:
            verdict.wrong.append(f"not known to its agent: {_said(rows[execution_id])}")
    for attempt, times in ledger.items():
        verdict.counts["commands begun"] += 1
        if times > 1:
            verdict.wrong.append(f"ran {times} times: {attempt}")
    for execution_id, record in records.items():
        if record.exit_code == 0 and not ledger[f"{execution_id} {record.attempt}"]:
            verdict.wrong.append(f"a success that never ran: {record}")


def _judge_nobody(verdict: Verdict, rows: dict[str, Row], hosts: list[Host]) -> None:
    """Where the server saw no host, none may have run it."""
    ran = {(record.task_id, record.scheduled_at) for host in hosts for record in host.records().values()}
    for row in rows.values():
        verdict.counts["firings that found no host online"] += 1
        if (row["task_id"], _ms(row["scheduled_time"])) in ran:
            verdict.wrong.append(f"has run all the same: {_said(row)}")


def _judge_firings(verdict: Verdict, rows: dict[str, Row], host: Host, firings: Iterable[Firings]) -> None:
    """Nothing that was due is missing, unless its agent was dead then."""
    happened = {(row["task_id"], _ms(row["scheduled_time"])) for row in rows.values()}
    for due in firings:
        for moment in due.times():
            verdict.counts["firings due"] += 1
            if (due.task_id, moment * 1000) in happened:
                continue
            if host.was_dead(moment):
                verdict.counts["firings while their agent was dead"] += 1
            else:
                verdict.wrong.append(f"did not fire: task {due.task_id} at {moment} on {host.client_id}")


def _difference(row: Row, record: Record, counts: Counter[str]) -> str:
    """What the server has otherwise than the agent; "": nothing."""
    if record.status < SUCCESS - WIRE_TO_API:
        return "not over on the agent"
    if row["retry_count"] > record.attempt and row["failure_reason"] in SERVERS_OWN:
        counts["whose last retry never reached the agent"] += 1
        return ""
    theirs = (
        row["retry_count"],
        row["status"],
        row["exit_code"],
        row["failure_reason"],
        _ms(row["end_time"]),
    )
    ours = (
        record.attempt,
        record.status + WIRE_TO_API,
        record.exit_code,
        record.failure_reason,
        record.finished_at,
    )
    if theirs != ours:
        return f"differ: {theirs} and {ours}"
    if not record.synced:
        return "the agent does not know that the server has it"
    counts["equal on both sides"] += 1
    counts[f"equal on both sides: {ExecutionStatus(row['status']).name.lower()} {row['failure_reason']}"] += 1
    return ""


def _ms(moment: str | None) -> int | None:
    return None if moment is None else round(datetime.fromisoformat(moment).timestamp() * 1000)


def _said(row: Row) -> dict[str, Any]:
    names = (
        "execution_id",
        "status",
        "failure_reason",
        "exit_code",
        "retry_count",
        "local",
        "end_time",
        "client_id",
    )
    return {name: row[name] for name in names}
