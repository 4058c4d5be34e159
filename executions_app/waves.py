"""A broadcast that goes out in waves: the next one when the one before has ended, none when too many have failed."""

import math
import re
from collections import Counter
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from quartzflow.execution_status import LIVE, TERMINAL, ExecutionStatus
from tasks_app.models import Task

from . import limits
from .choices import FailureReason, Hold
from .events import publish_executions
from .models import Execution

log = structlog.get_logger(__name__)


def wave_of(size: str, index: int, hosts: int) -> int | None:
    """The number of the wave in which a host goes, the first being 0; None: all go at once.

    size:  how many at a time: "10", or "20%" of the hosts; "": all
    index: the host's place among them
    """
    match = re.fullmatch(r"(\d+)(%?)", size)
    if match is None:
        return None
    count = math.ceil(hosts * int(match[1]) / 100) if match[2] else int(match[1])
    return None if count >= hosts else index // max(count, 1)


def go_on(run_id: str, task_id: int) -> None:
    """A host of the run has ended: let the next wave go, or stop; under the run's lock, in a transaction."""
    rows = Execution.objects.filter(run_id=run_id)
    counts: Counter[tuple[int, str]] = Counter()
    for status, hold, count in rows.order_by().values_list("status", "hold").annotate(count=Count("id")):
        counts[status, hold] += count
    held = counts[ExecutionStatus.PENDING, Hold.WAVE]
    live = sum(count for (status, _), count in counts.items() if status in LIVE) - held
    if not held or live:
        return
    ended = sum(count for (status, _), count in counts.items() if status in TERMINAL)
    # Whatever held them: one that expired while it waited for a free place has failed, too.
    failed = sum(
        count
        for (status, _), count in counts.items()
        if status in (ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT)
    )
    waiting = rows.filter(status=ExecutionStatus.PENDING, hold=Hold.WAVE)
    task = Task.objects.filter(pk=task_id).first()
    if task is None or failed * 100 > task.wave_max_failed * ended:
        _stop(run_id, list(waiting.values_list("pk", flat=True)), failed, ended)
        return
    following = waiting.order_by("wave").values_list("wave", flat=True)[:1]
    going = list(waiting.filter(wave__in=list(following)))
    if limits.are_set():
        grace = max(task.misfire_grace, settings.QF_PENDING_GRACE)
        Execution.objects.filter(pk__in=[row.pk for row in going]).update(
            hold=Hold.LIMIT, expires_at=timezone.now() + timedelta(seconds=grace)
        )
        limits.let_go()
    else:
        limits.release(going)
    log.info("wave begins", run=run_id, hosts=len(going), waiting=held - len(going))


def _stop(run_id: str, pks: list[int], failed: int, ended: int) -> None:
    Execution.objects.filter(pk__in=pks).update(
        status=ExecutionStatus.CANCELLED,
        failure_reason=FailureReason.WAVE_STOPPED,
        hold="",
        end_time=timezone.now(),
    )
    log.warning("waves stopped", run=run_id, failed=failed, of=ended, left_out=len(pks))
    transaction.on_commit(lambda: publish_executions(pks))
