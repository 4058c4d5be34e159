"""How many executions may run at once, in the whole system and on one host; what is beyond waits in the table.

A row waits with hold "limit"; whatever ends an execution lets the next ones go, and a sweep does, too.
"""

from collections import Counter
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count
from django.utils import timezone

from quartzflow.declared_settings import MAX_RUNNING, MAX_RUNNING_PER_HOST
from quartzflow.execution_status import LIVE, ExecutionStatus

from .choices import Hold
from .instructions import send_out
from .locks import lock
from .models import Execution

MOST = 5000  # rows let go at a time


def are_set() -> bool:
    return bool(MAX_RUNNING.value or MAX_RUNNING_PER_HOST.value)


def let_go() -> list[Execution]:
    """Let the oldest waiting rows go as far as the limits allow, and send them out after commit; in a transaction."""
    waiting = Execution.objects.filter(status=ExecutionStatus.PENDING, hold=Hold.LIMIT)
    if not waiting.exists():
        return []
    lock("limits")
    running = Counter(
        dict(
            Execution.objects.filter(status__in=LIVE, hold="", next_retry_at=None)
            .order_by()
            .values_list("client_id")
            .annotate(count=Count("id"))
        )
    )
    free = MAX_RUNNING.value - running.total() if MAX_RUNNING.value else MOST
    per_client = MAX_RUNNING_PER_HOST.value or MOST
    full = {client_id for client_id, count in running.items() if count >= per_client}
    going: list[Execution] = []
    # Skip what is locked: somebody is cancelling it, and waits for our lock with his.
    rows = waiting.exclude(client_id__in=full).order_by("scheduled_time", "id")
    for row in rows.select_for_update(skip_locked=connection.vendor == "postgresql")[:MOST]:
        if len(going) >= free:
            break
        if running[row.client_id] < per_client:
            running[row.client_id] += 1
            going.append(row)
    release(going)
    return going


def release(rows: list[Execution]) -> None:
    """Rows that were held go to their hosts, after commit; in a transaction."""
    expires_at = timezone.now() + timedelta(seconds=settings.QF_PENDING_GRACE)
    for row in rows:
        row.hold, row.expires_at = "", expires_at
    Execution.objects.filter(pk__in=[row.pk for row in rows]).update(hold="", expires_at=expires_at)
    if rows:
        transaction.on_commit(lambda: send_out(rows))
