"""How many executions may run at once, in the whole system and on one host; what is beyond waits in the table.

A row waits with hold "limit"; whatever ends an execution lets the next ones go, and a sweep does, too. One that waits
for a host to come back takes no place: it stays until the host is there, or its grace time is over.
"""

from collections import Counter
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count
from django.utils import timezone

from groups_app.choices import ClientStatus
from groups_app.models import Client
from quartzflow.declared_settings import MAX_RUNNING, MAX_RUNNING_PER_HOST
from quartzflow.execution_status import LIVE, ExecutionStatus
from tasks_app.choices import OfflinePolicy, Routing
from tasks_app.models import Task

from .choices import Hold
from .instructions import send_out
from .locks import lock
from .models import Execution

MOST = 5000  # rows let go at a time
OFFLINE = Client.objects.filter(status=ClientStatus.OFFLINE)
# Tasks that wait for such hosts, as `targets.waits` has it.
PATIENT = Task.objects.filter(offline_policy=OfflinePolicy.WAIT, routing=Routing.BROADCAST)


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
    rows = rows.exclude(client_id__in=OFFLINE.values("client_id"), task_id__in=PATIENT.values("pk"))
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
    # A wave's hosts may be offline, and waited for.
    offline = set(
        OFFLINE.filter(client_id__in={row.client_id for row in rows}).values_list("client_id", flat=True)
    )
    graces = dict(PATIENT.filter(pk__in={row.task_id for row in rows}).values_list("pk", "misfire_grace"))
    now, by_wait = timezone.now(), dict[int, list[int]]()
    for row in rows:
        grace = graces.get(row.task_id, 0) if row.client_id in offline else 0
        wait = max(settings.QF_PENDING_GRACE, grace)
        row.hold, row.expires_at = "", now + timedelta(seconds=wait)
        by_wait.setdefault(wait, []).append(row.pk)
    for wait, pks in by_wait.items():
        Execution.objects.filter(pk__in=pks).update(hold="", expires_at=now + timedelta(seconds=wait))
    if rows:
        transaction.on_commit(lambda: send_out(rows))
