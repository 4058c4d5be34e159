"""Sending: each message by one worker, again after failures, and in sum where there were too many."""

from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from ..locks import lock
from .channels import Message, SendFailed
from .channels import send as send_now
from .choices import DeliveryState
from .evaluation import LOCK, room
from .models import AlertChannel, AlertDelivery

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 6
FIRST_WAIT = timedelta(seconds=15)  # before the second attempt; each one waits twice as long
IN_HAND = timedelta(seconds=120)  # a worker that has not finished a message by then has died with it
AT_ONCE = 50
SUMMED_UP = 20  # titles in one message
KEPT = timedelta(days=90)


def deliver(now: datetime | None = None) -> int:
    """Send what is due. Returns how many attempts there were."""
    now = now or timezone.now()
    sum_up(now)
    due = (
        AlertDelivery.objects.filter(state=DeliveryState.PENDING, next_at__lte=now)
        .order_by("next_at")
        .values_list("pk", "attempts")[:AT_ONCE]
    )
    return sum(_attempt(pk, attempts, now) for pk, attempts in due)


def _attempt(pk: int, attempts: int, now: datetime) -> bool:
    """Claim the message, send it, note how it ended; False: another worker was first."""
    ours = AlertDelivery.objects.filter(pk=pk, state=DeliveryState.PENDING, attempts=attempts)
    if not ours.filter(next_at__lte=now).update(attempts=F("attempts") + 1, next_at=now + IN_HAND):
        return False
    delivery = AlertDelivery.objects.select_related("channel", "alert__rule").get(pk=pk)
    claimed = AlertDelivery.objects.filter(pk=pk, state=DeliveryState.PENDING, attempts=attempts + 1)
    with override(delivery.channel.language):
        try:
            if not delivery.channel.is_enabled:
                claimed.update(state=DeliveryState.FAILED, error=_("The channel is switched off."))
                return True
            send_now(delivery.channel, Message(delivery.title, delivery.body, facts(delivery)))
        except SendFailed as error:
            _failed(claimed, delivery, str(error), now)
        else:
            claimed.update(state=DeliveryState.SENT, sent_at=timezone.now(), error="")
    return True


def _failed(claimed: Any, delivery: AlertDelivery, words: str, now: datetime) -> None:
    last = delivery.attempts >= MAX_ATTEMPTS
    claimed.update(
        error=words[:300],
        state=DeliveryState.FAILED if last else DeliveryState.PENDING,
        next_at=now + FIRST_WAIT * 2 ** (delivery.attempts - 1),
    )
    log.warning("alert not sent", delivery=delivery.pk, channel=delivery.channel_id, error=words, last=last)


def facts(delivery: AlertDelivery) -> dict[str, Any]:
    """What a webhook is told besides title and text."""
    alert = delivery.alert
    if alert is None:
        return {"id": delivery.pk, "severity": delivery.severity, "alert": None}
    return {
        "id": delivery.pk,
        "severity": delivery.severity,
        "alert": {
            "id": alert.pk,
            "rule": alert.rule.name,
            "kind": alert.kind,
            "state": alert.state,
            "count": alert.count,
            "task_id": alert.task_id,
            "task_name": alert.task_name,
            "client_id": alert.client_id,
            "execution_id": alert.execution,
            "reason": alert.reason,
            "first_at": alert.first_at.isoformat(),
            "last_at": alert.last_at.isoformat(),
        },
    }


def sum_up(now: datetime) -> None:
    """One message for all that a channel's rate held back, as soon as the channel may have one again."""
    held = Q(deliveries__state=DeliveryState.SUPPRESSED, deliveries__summary=None)
    for channel in AlertChannel.objects.filter(held, is_enabled=True).distinct():
        with transaction.atomic():
            lock(LOCK)
            rows = AlertDelivery.objects.filter(
                channel=channel, state=DeliveryState.SUPPRESSED, summary=None
            ).order_by("id")
            titles = list(rows.values_list("title", flat=True))
            if not titles or room(channel, now) <= 0:
                continue
            with override(channel.language):
                title = ngettext(
                    "%(count)s more alert in the last hour",
                    "%(count)s more alerts in the last hour",
                    len(titles),
                ) % {"count": len(titles)}
            lines = [*titles[:SUMMED_UP], *(["…"] if len(titles) > SUMMED_UP else [])]
            pks = list(rows.values_list("pk", flat=True))
            summary = AlertDelivery.objects.create(
                channel=channel, title=title, body="\n".join(lines), created_at=now, next_at=now
            )
            AlertDelivery.objects.filter(pk__in=pks).update(summary=summary)


def forget_old_deliveries(now: datetime | None = None) -> None:
    AlertDelivery.objects.filter(created_at__lt=(now or timezone.now()) - KEPT).delete()
