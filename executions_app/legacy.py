"""Executions on quic-flow clients: the bridge, which keeps their time for them, asks here before each start."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from groups_app.choices import ClientApproval
from groups_app.models import Client
from quartzflow.bulk import update_from_values
from quartzflow.execution_status import LIVE, ExecutionStatus

from .events import publish_executions
from .models import Execution


def begin(starts: Sequence[tuple[str, str, int]], now: datetime) -> set[str]:
    """Mark executions as running: (client id, execution id, attempt). Returns those that may be started.

    One that was cancelled meanwhile, that has been started already, or whose client is not approved any more may not.
    The row is taken before the client is told: a bridge that dies in between costs a run, never doubles one.
    """
    approved = set(
        Client.objects.filter(
            client_id__in={client_id for client_id, _, _ in starts}, approval=ClientApproval.APPROVED
        ).values_list("client_id", flat=True)
    )
    rows = [
        (client_id, name, attempt, ExecutionStatus.RUNNING, now, now, None)
        for client_id, name, attempt in starts
        if client_id in approved
    ]
    live = ", ".join(str(status.value) for status in sorted(LIVE))
    with transaction.atomic():
        taken = update_from_values(
            Execution,
            key=("client_id", "execution_id", "retry_count"),
            columns=("status", "accepted_at", "start_time", "next_retry_at"),
            rows=rows,
            where=f"t.status IN ({live}) AND t.accepted_at IS NULL",
            returning=("id", "execution_id"),
        )
        transaction.on_commit(lambda: publish_executions(pk for pk, _ in taken))
    return {name for _, name in taken}
