"""Celery tasks that belong to no single app."""

from datetime import timedelta

import structlog
from celery import shared_task
from django.utils import timezone

from . import audit
from .api import idempotency
from .declared_settings import AUDIT_DAYS

log = structlog.get_logger(__name__)


@shared_task(name="quartzflow.tasks.forget_old", ignore_result=True)
def forget_old() -> None:
    """Every hour: drop what has been kept for as long as it is to be kept."""
    keys = idempotency.forget_old_keys()
    days = AUDIT_DAYS.value
    entries = 0
    if days:
        before = timezone.now() - timedelta(days=days)
        while count := audit.forget(before):
            entries += count
    if keys or entries:
        log.info("old rows dropped", idempotency_keys=keys, audit_entries=entries)
