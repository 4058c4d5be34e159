"""What the tables still have open: sent again, or ended when it can no longer happen."""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from quartzflow_agent.protocol import task_pb2

from groups_app.choices import ClientApproval, ClientStatus
from groups_app.models import Client
from quartzflow.declared_settings import LONGEST_QUEUE, LOST_GRACE
from quartzflow.execution_status import LIVE, ExecutionStatus

from .choices import ExecutionType, FailureReason
from .endings import after_end
from .events import publish_executions
from .instructions import instruction, load_tasks
from .models import Execution
from .placement import end_strays

log = structlog.get_logger(__name__)


def pending_for_bridge(bridge_id: str, created_before: datetime) -> list[tuple[str, task_pb2.TaskExecution]]:
    """What the bridge's clients should have accepted by now but have not, and attempts that are due: the sweep.

    Rows of disabled or deleted tasks are not sent; they expire. Those of hosts that have left the task's groups end.
    """
    now = timezone.now()
    online = Client.objects.filter(
        bridge_id=bridge_id, status=ClientStatus.ONLINE, approval=ClientApproval.APPROVED
    ).values("client_id")
    horizon = now + timedelta(seconds=settings.QF_DISPATCH_LOOKAHEAD)
    rows = list(
        Execution.objects.filter(
            status__in=LIVE, hold="", accepted_at=None, client_id__in=online, created_at__lt=created_before
        )
        .exclude(status=ExecutionStatus.RUNNING, next_retry_at=None)
        .exclude(next_retry_at__gt=horizon)
        .order_by("scheduled_time")[:5000]
    )
    tasks = load_tasks({row.task_id for row in rows})
    strays = end_strays(rows, tasks)
    return [
        (row.client_id, instruction(row, tasks[row.task_id]))
        for row in rows
        if row.task_id in tasks
        and row.pk not in strays
        and (tasks[row.task_id].task.is_enabled or row.execution_type != ExecutionType.SCHEDULED)
    ]


def expire_overdue(now: datetime | None = None) -> int:
    """End what can no longer happen, as the server's guess; the agent's own record wins over it later.

    What no agent accepted in time, at first or between attempts → FAILURE expired; live ones whose agent is silent
    beyond timeout and grace → FAILURE agent_lost. Returns how many ended.
    """
    now = now or timezone.now()
    grace = timedelta(seconds=settings.QF_PENDING_GRACE)
    expired = list(
        Execution.objects.filter(status__in=LIVE, accepted_at=None, expires_at__lt=now)
        .exclude(status=ExecutionStatus.RUNNING, next_retry_at=None)
        .values_list("pk", flat=True)[:5000]
    )
    # Both: one that makes up for a missed time has its whole grace from when it was made.
    overdue = Execution.objects.filter(
        status__in=LIVE, scheduled_time__lt=now - grace, created_at__lt=now - grace
    )
    waiting = overdue.filter(status=ExecutionStatus.PENDING).exclude(accepted_at=None)
    # One that an online agent holds may queue behind the one before; one of an agent that is gone may not.
    offline = Client.objects.filter(status=ClientStatus.OFFLINE).values("client_id")
    silent = [
        *waiting.filter(client_id__in=offline)[:5000],
        *overdue.filter(status=ExecutionStatus.RUNNING, next_retry_at=None)[:5000],
    ]
    lost = [
        e.pk
        for e in silent
        if (e.start_time or max(e.scheduled_time + timedelta(milliseconds=e.delay_ms), e.created_at))
        + timedelta(seconds=e.timeout + LOST_GRACE.value)
        < now
    ]
    # Nor for ever: an agent whose store was set aside knows nothing of what it once took.
    longest = now - timedelta(seconds=LONGEST_QUEUE.value)
    lost += waiting.filter(scheduled_time__lt=longest, created_at__lt=longest).values_list("pk", flat=True)[
        :5000
    ]
    with transaction.atomic():
        for pks, reason in ((expired, FailureReason.EXPIRED), (lost, FailureReason.AGENT_LOST)):
            Execution.objects.filter(pk__in=pks, status__in=LIVE).update(
                status=ExecutionStatus.FAILURE, failure_reason=reason, end_time=now, next_retry_at=None
            )
        after_end([*expired, *lost])
    if expired or lost:
        log.warning("executions given up", expired=len(expired), agent_lost=len(lost))
        publish_executions([*expired, *lost])
    return len(expired) + len(lost)
