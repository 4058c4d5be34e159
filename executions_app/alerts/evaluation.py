"""From events to alerts to messages. Whoever evaluates holds a lock: of one alert, nobody tells twice."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tasks_app.models import Task

from ..locks import lock
from .choices import CURED_BY_SUCCESS, AlertState, DeliveryState, Kind
from .matching import Scoped, Subject, is_silent, meets, scoped, subjects
from .models import Alert, AlertChannel, AlertDelivery, AlertEvent, AlertRule, AlertSilence
from .templates import message

AT_ONCE = 200  # events in one transaction
KEPT = timedelta(days=30)  # events that were evaluated
HOUR = timedelta(hours=1)
LOCK = "alerts"


def evaluate(now: datetime | None = None) -> int:
    """Evaluate what is noted, and escalate what has been open for too long. Returns how many events there were."""
    total = 0
    while count := _evaluate_some(now or timezone.now()):
        total += count
    with transaction.atomic():
        lock(LOCK)
        _escalate(now or timezone.now())
    return total


def forget_old_events(now: datetime | None = None) -> None:
    AlertEvent.objects.filter(handled=True, at__lt=(now or timezone.now()) - KEPT).delete()


def _evaluate_some(now: datetime) -> int:
    with transaction.atomic():
        lock(LOCK)
        events = list(AlertEvent.objects.filter(handled=False).order_by("id")[:AT_ONCE])
        if not events:
            return 0
        about = subjects(events)
        rules = scoped(
            AlertRule.objects.filter(is_enabled=True).prefetch_related(
                "tasks", "groups", "channels", "escalation_channels"
            )
        )
        silences = scoped(AlertSilence.objects.prefetch_related("tasks", "groups"))
        names = dict(
            Task.objects.filter(pk__in={event.task_id for event in events if event.task_id}).values_list(
                "pk", "name"
            )
        )
        for event in events:
            _handle(event, about[event.pk], rules, silences, names, now)
        AlertEvent.objects.filter(pk__in=[event.pk for event in events]).update(handled=True)
        return len(events)


def _handle(
    event: AlertEvent,
    subject: Subject,
    rules: list[Scoped],
    silences: list[Scoped],
    names: dict[int, str],
    now: datetime,
) -> None:
    """1. A success ends the alerts that it cures; without any, it is no recovery. 2. Each rule has its alert."""
    if event.kind == Kind.RECOVERED:
        cured = Alert.objects.filter(task_id=event.task_id, kind__in=CURED_BY_SUCCESS).exclude(
            state=AlertState.RESOLVED
        )
        # What failed after this success is not cured by it.
        if not cured.filter(last_at__lte=event.at).update(state=AlertState.RESOLVED, resolved_at=now):
            return
    silent = any(one.concerns(subject) and is_silent(one.row, event.at) for one in silences)
    for rule in rules:
        if rule.concerns(subject) and meets(rule.row, event):
            alert = _count(rule.row, event, names, silent)
            if not silent:
                _notify(alert, now)
            if event.kind == Kind.RECOVERED:
                Alert.objects.filter(pk=alert.pk).update(state=AlertState.RESOLVED, resolved_at=now)


def _count(rule: AlertRule, event: AlertEvent, names: dict[int, str], silent: bool) -> Alert:
    """The open alert of rule and subject, with this event in it."""
    key = f"task:{event.task_id}" if event.task_id else f"client:{event.client_id}"
    alert = Alert.objects.filter(rule=rule, key=key).exclude(state=AlertState.RESOLVED).first()
    if alert is None:
        alert = Alert.objects.create(
            rule=rule, key=key, kind=rule.kind, severity=rule.severity, first_at=event.at, last_at=event.at
        )
    alert.rule = rule  # with what was fetched beside it
    alert.task_id, alert.task_name = event.task_id, names.get(event.task_id or 0, alert.task_name)
    alert.client_id, alert.execution = event.client_id, event.execution
    alert.reason, alert.seconds = event.reason, event.seconds
    alert.count += 1
    alert.silenced_count += silent
    alert.last_at = max(alert.last_at, event.at)
    # Not the state: somebody may acknowledge it at this moment.
    alert.save(
        update_fields=[
            "task_id", "task_name", "client_id", "execution", "reason", "seconds", "count", "silenced_count", "last_at",
        ]
    )  # fmt: skip
    return alert


def _notify(alert: Alert, now: datetime) -> None:
    """Tell the rule's channels, unless they were told within the interval or somebody has taken it on."""
    rule = alert.rule
    if alert.state == AlertState.OPEN and (
        alert.notified_at is None or now - alert.notified_at >= timedelta(minutes=rule.repeat_minutes)
    ):
        send(alert, rule.channels.all(), now)
        alert.notified_at = now
        alert.save(update_fields=["notified_at"])
    if rule.escalate_events and alert.count - alert.silenced_count >= rule.escalate_events:
        _escalate_one(alert, now)


def _escalate(now: datetime) -> None:
    """Alerts that nobody has taken on for as long as their rule allows."""
    waiting = Alert.objects.filter(
        Q(rule__escalate_minutes__gt=0), state=AlertState.OPEN, escalated_at=None, notified_at__isnull=False
    ).select_related("rule")
    for alert in waiting:
        if now - alert.first_at >= timedelta(minutes=alert.rule.escalate_minutes):
            _escalate_one(alert, now)


def _escalate_one(alert: Alert, now: datetime) -> None:
    if alert.state != AlertState.OPEN or alert.escalated_at is not None:
        return
    send(alert, alert.rule.escalation_channels.all(), now, escalated=True)
    alert.escalated_at = now
    alert.save(update_fields=["escalated_at"])


def send(
    alert: Alert, channels: Iterable[AlertChannel], now: datetime, *, escalated: bool = False
) -> list[AlertDelivery]:
    """A message for each enabled channel; what is over a channel's rate is held back, for one that sums it up."""
    deliveries = []
    for channel in channels:
        if channel.is_enabled:
            title, body = message(alert, channel.language, escalated=escalated)
            full = room(channel, now) <= 0
            deliveries.append(
                AlertDelivery.objects.create(
                    channel=channel,
                    alert=alert,
                    title=title,
                    body=body,
                    severity=alert.severity,
                    state=DeliveryState.SUPPRESSED if full else DeliveryState.PENDING,
                    created_at=now,
                    next_at=now,
                )
            )
    return deliveries


def room(channel: AlertChannel, now: datetime) -> int:
    """How many more messages the channel may have in the hour that ends now."""
    used = AlertDelivery.objects.filter(~Q(state=DeliveryState.SUPPRESSED), channel=channel)
    return channel.rate_per_hour - used.filter(created_at__gt=now - HOUR).count()
