"""Where events come from: the ends of executions, firings that did not happen, hosts that are silent.

Ends are the hot path (a thousand a second): a process asks its own memory whether any rule is about them.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from groups_app.choices import ClientApproval, ClientStatus
from groups_app.models import Client
from quartzflow.execution_status import TERMINAL, ExecutionStatus

from ..choices import ExecutionType, FailureReason
from ..kick import Kicker
from ..models import Execution, MissedFiring
from .choices import CURED_BY_SUCCESS, OF_ENDS, AlertState, Kind
from .models import Alert, AlertEvent, AlertRule

EVALUATE = "executions_app.alerts.evaluate"
REFRESH = 2.0  # seconds that a process believes what it knows of the rules
LONGEST_OFFLINE = timedelta(days=7)  # who has been silent for longer is not looked at
AT_ONCE = 1000

kick = Kicker(EVALUATE, pause=0.2)


@dataclass
class _Known:
    """The kinds of the enabled rules, with the least threshold of each."""

    kinds: dict[str, int] = field(default_factory=dict)
    fresh_until: float = float("-inf")  # time.monotonic()


_known = _Known()
_lock = threading.Lock()


def kinds() -> dict[str, int]:
    """Kind → the least threshold of the enabled rules of this kind; at most REFRESH seconds old."""
    global _known
    if time.monotonic() >= _known.fresh_until:
        found: dict[str, int] = {}
        for kind, threshold in AlertRule.objects.filter(is_enabled=True).values_list("kind", "threshold"):
            found[kind] = min(found.get(kind, threshold), threshold)
        with _lock:
            _known = _Known(found, time.monotonic() + REFRESH)
    return _known.kinds


def forget() -> None:
    """Read the rules anew when somebody asks next."""
    global _known
    with _lock:
        _known = _Known()


def assume(found: dict[str, int]) -> None:
    """For tests: believe these kinds, unread, until `forget`."""
    global _known
    with _lock:
        _known = _Known(found, float("inf"))


def note_ends(pks: Iterable[int]) -> None:
    """Note what rules are about among these executions that may have ended, in the caller's transaction."""
    wanted = kinds()
    if not OF_ENDS & wanted.keys():
        return
    rows = Execution.objects.filter(pk__in=list(pks), status__in=TERMINAL).order_by().values(
        "pk", "task_id", "client_id", "status", "failure_reason", "scheduled_time", "delay_ms", "start_time",
        "end_time", "execution_type",
    )  # fmt: skip
    ends = list(rows)
    events = [event for row in ends for event in _events_of(row, wanted)]
    good = {row["task_id"]: row for row in ends if row["status"] == ExecutionStatus.SUCCESS}
    if good:
        events += [
            _event(Kind.RECOVERED, good[task_id]) for task_id in _with_open_alerts(good) if task_id in good
        ]
    note(events)


def _events_of(row: Any, wanted: dict[str, int]) -> Iterable[AlertEvent]:
    failed = {ExecutionStatus.FAILURE: Kind.FAILURE, ExecutionStatus.TIMEOUT: Kind.TIMEOUT}.get(row["status"])
    if failed:
        reason = row["failure_reason"]
        if reason == FailureReason.NO_ONLINE_CLIENT and Kind.NO_ONLINE_CLIENT in wanted:
            yield _event(Kind.NO_ONLINE_CLIENT, row)
        if failed in wanted:
            yield _event(failed, row)
        if Kind.CONSECUTIVE in wanted:
            yield _event(Kind.CONSECUTIVE, row)
    # A replay runs for times that are long over.
    if Kind.LATE_START in wanted and row["start_time"] and row["execution_type"] != ExecutionType.REPLAY:
        due = row["scheduled_time"] + timedelta(milliseconds=row["delay_ms"])
        late = (row["start_time"] - due).total_seconds()
        if late >= wanted[Kind.LATE_START]:
            yield _event(Kind.LATE_START, row, late)


def _event(kind: Kind, row: Any, seconds: float = 0) -> AlertEvent:
    return AlertEvent(
        name=f"{kind}:{row['pk']}",
        kind=kind,
        task_id=row["task_id"],
        client_id=row["client_id"],
        execution=row["pk"],
        seconds=seconds,
        reason=row["failure_reason"],
        at=row["end_time"] or timezone.now(),
    )


def _with_open_alerts(task_ids: Iterable[int]) -> set[int | None]:
    """Those of the tasks whose success is news: something is open, or will be when its event is evaluated."""
    ids = list(task_ids)
    alerts = Alert.objects.filter(task_id__in=ids, kind__in=CURED_BY_SUCCESS).exclude(
        state=AlertState.RESOLVED
    )
    events = AlertEvent.objects.filter(handled=False, task_id__in=ids, kind__in=CURED_BY_SUCCESS)
    return {
        *alerts.order_by().values_list("task_id", flat=True),
        *events.order_by().values_list("task_id", flat=True),
    }


def note_missed(found: Iterable[MissedFiring]) -> None:
    """Note firings that did not happen, in the caller's transaction."""
    if Kind.MISSED_FIRING not in kinds():
        return
    note(
        AlertEvent(
            name=f"{Kind.MISSED_FIRING}:{one.task_id}:{one.first_time.timestamp():.0f}",
            kind=Kind.MISSED_FIRING,
            task_id=one.task_id,
            at=one.last_time,
        )
        for one in found
    )


def note_offline(now: datetime | None = None) -> None:
    """Look for hosts that have been silent for longer than a rule allows, and end the alerts of those that are back."""
    now = now or timezone.now()
    back = Client.objects.filter(status=ClientStatus.ONLINE).values("client_id")
    Alert.objects.filter(kind=Kind.AGENT_OFFLINE, client_id__in=back).exclude(
        state=AlertState.RESOLVED
    ).update(state=AlertState.RESOLVED, resolved_at=now)
    wanted = kinds()
    if Kind.AGENT_OFFLINE not in wanted:
        return
    # One event of an absence for each rule's patience: rules of longer patience ask the same host again later.
    thresholds = AlertRule.objects.filter(is_enabled=True, kind=Kind.AGENT_OFFLINE).values_list(
        "threshold", flat=True
    )
    for threshold in sorted(set(thresholds)):
        silent = Client.objects.filter(
            Q(last_heartbeat__lte=now - timedelta(seconds=threshold))
            & Q(last_heartbeat__gt=now - LONGEST_OFFLINE),
            status=ClientStatus.OFFLINE,
            approval=ClientApproval.APPROVED,
        )
        rows = silent.order_by().values_list("client_id", "last_heartbeat")
        names = {
            f"{Kind.AGENT_OFFLINE}:{threshold}:{host}:{at.timestamp():.0f}": (host, at)
            for host, at in rows
            if at
        }
        known = set(AlertEvent.objects.filter(name__in=list(names)).values_list("name", flat=True))
        note(
            AlertEvent(
                name=name,
                kind=Kind.AGENT_OFFLINE,
                client_id=host,
                seconds=threshold,
                at=at + timedelta(seconds=threshold),
            )
            for name, (host, at) in names.items()
            if name not in known
        )


def note(events: Iterable[AlertEvent]) -> None:
    """Store events, each once, and ask a worker to look at them after the commit."""
    rows = list(events)
    if rows:
        AlertEvent.objects.bulk_create(rows, ignore_conflicts=True, batch_size=AT_ONCE)
        transaction.on_commit(kick)
