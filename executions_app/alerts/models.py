"""Tables of alerts. Written by executions_app.alerts only: sources, evaluation, deliveries and actions."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from groups_app.models import Group
from tasks_app.models import Task

from .choices import AlertState, ChannelKind, DeliveryState, Kind, Scope, Severity


class AlertChannel(models.Model):
    """Where alerts go. Its address or credentials are encrypted (quartzflow.secrets) and never shown again."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    kind = models.CharField(_("kind"), max_length=16, choices=ChannelKind)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    language = models.CharField(_("language"), max_length=16, default="zh-hans")
    rate_per_hour = models.PositiveIntegerField(_("messages an hour"), default=60)
    ciphertext = models.TextField(editable=False)
    created_by = models.CharField(_("created by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    updated_at = models.DateTimeField(_("changed at"), default=timezone.now)

    class Meta:
        db_table = "tb_alert_channel"
        verbose_name = _("alert channel")
        verbose_name_plural = _("alert channels")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AlertRule(models.Model):
    """What makes an alert, how bad it is, and who is told."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    kind = models.CharField(_("event"), max_length=24, choices=Kind)
    threshold = models.PositiveIntegerField(
        _("threshold"), default=0, help_text="executions or seconds, by the kind"
    )
    scope = models.CharField(_("concerns"), max_length=8, choices=Scope, default=Scope.ALL)
    tasks = models.ManyToManyField(
        Task, db_table="tb_alert_rule_task", blank=True, related_name="alert_rules"
    )
    groups = models.ManyToManyField(
        Group, db_table="tb_alert_rule_group", blank=True, related_name="alert_rules"
    )
    severity = models.CharField(_("severity"), max_length=8, choices=Severity, default=Severity.WARNING)
    channels = models.ManyToManyField(
        AlertChannel, db_table="tb_alert_rule_channel", blank=True, related_name="rules"
    )
    repeat_minutes = models.PositiveIntegerField(_("repeat after"), default=60)
    # Both 0: never.
    escalate_events = models.PositiveIntegerField(_("escalate after events"), default=0)
    escalate_minutes = models.PositiveIntegerField(_("escalate after minutes"), default=0)
    escalation_channels = models.ManyToManyField(
        AlertChannel, db_table="tb_alert_rule_escalation", blank=True, related_name="escalated_rules"
    )
    title = models.CharField(_("title"), max_length=200, blank=True)
    body = models.TextField(_("text"), blank=True)
    created_by = models.CharField(_("created by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    updated_at = models.DateTimeField(_("changed at"), default=timezone.now)

    class Meta:
        db_table = "tb_alert_rule"
        verbose_name = _("alert rule")
        verbose_name_plural = _("alert rules")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AlertSilence(models.Model):
    """A time in which alerts are noted and nobody is told: once from `begins` to `ends`, or every week."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    reason = models.CharField(_("reason"), max_length=256, blank=True)
    scope = models.CharField(_("concerns"), max_length=8, choices=Scope, default=Scope.ALL)
    tasks = models.ManyToManyField(
        Task, db_table="tb_alert_silence_task", blank=True, related_name="alert_silences"
    )
    groups = models.ManyToManyField(
        Group, db_table="tb_alert_silence_group", blank=True, related_name="alert_silences"
    )
    begins = models.DateTimeField(_("begins"), null=True, blank=True)
    ends = models.DateTimeField(_("ends"), null=True, blank=True)
    # Weekly: days (0 is Monday) and times of the zone; an end before the begin is on the next day.
    weekdays = models.JSONField(_("weekdays"), default=list, blank=True)
    time_begins = models.TimeField(_("from"), null=True, blank=True)
    time_ends = models.TimeField(_("to"), null=True, blank=True)
    created_by = models.CharField(_("created by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    zone = models.CharField(_("time zone"), max_length=64, default="UTC")

    class Meta:
        db_table = "tb_alert_silence"
        verbose_name = _("silence window")
        verbose_name_plural = _("silence windows")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AlertEvent(models.Model):
    """Something happened that a rule may be about: first this row, then a message. `name` makes it happen once."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=24, choices=Kind)
    task_id = models.BigIntegerField(null=True)
    client_id = models.CharField(max_length=64, blank=True)
    execution = models.BigIntegerField(null=True)  # no constraint: events outlive executions
    seconds = models.FloatField(default=0)  # late, or offline for so long
    reason = models.CharField(max_length=24, blank=True)
    at = models.DateTimeField()
    handled = models.BooleanField(default=False)

    class Meta:
        db_table = "tb_alert_event"
        indexes = [
            # What is still to be evaluated: few rows, whatever the table's size.
            models.Index(fields=["id"], name="idx_alert_event_open", condition=Q(handled=False)),
            models.Index(fields=["at"], name="idx_alert_event_at"),  # forgetting
        ]


class Alert(models.Model):
    """Events of one rule about one task or host, together: at most one that is not over."""

    rule = models.ForeignKey(
        AlertRule, verbose_name=_("rule"), on_delete=models.CASCADE, related_name="alerts"
    )
    key = models.CharField(max_length=100)  # task:ID or client:ID
    kind = models.CharField(_("event"), max_length=24, choices=Kind)
    severity = models.CharField(_("severity"), max_length=8, choices=Severity)
    state = models.CharField(_("state"), max_length=12, choices=AlertState, default=AlertState.OPEN)
    task_id = models.BigIntegerField(null=True)
    task_name = models.CharField(_("task"), max_length=128, blank=True)
    client_id = models.CharField(_("host"), max_length=64, blank=True)
    execution = models.BigIntegerField(null=True)  # the newest
    reason = models.CharField(max_length=24, blank=True)
    seconds = models.FloatField(default=0)
    count = models.PositiveIntegerField(_("events"), default=0)
    silenced_count = models.PositiveIntegerField(default=0)  # of these, in silence windows
    first_at = models.DateTimeField(_("first"))
    last_at = models.DateTimeField(_("last"))
    notified_at = models.DateTimeField(null=True)
    escalated_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(_("acknowledged by"), max_length=150, blank=True)
    resolved_by = models.CharField(_("resolved by"), max_length=150, blank=True)
    resolved_at = models.DateTimeField(_("resolved at"), null=True)

    class Meta:
        db_table = "tb_alert"
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        ordering = ["-id"]
        default_permissions = ("view", "change")
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "key"], name="uk_alert_open", condition=~Q(state=AlertState.RESOLVED)
            )
        ]
        indexes = [
            models.Index(fields=["state", "-id"], name="idx_alert_state"),  # the list: open first
            models.Index(fields=["task_id", "-id"], name="idx_alert_task"),  # of one task
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.task_name or self.client_id}"


class AlertDelivery(models.Model):
    """One message to one channel, and what became of it."""

    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="deliveries")
    alert = models.ForeignKey(Alert, null=True, on_delete=models.CASCADE, related_name="deliveries")
    title = models.CharField(_("title"), max_length=300)
    body = models.TextField(_("text"), blank=True)
    severity = models.CharField(max_length=8, choices=Severity, default=Severity.WARNING)
    state = models.CharField(_("state"), max_length=12, choices=DeliveryState, default=DeliveryState.PENDING)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.CharField(_("error"), max_length=300, blank=True)  # without secrets
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    next_at = models.DateTimeField(default=timezone.now)  # not before; while it is being sent: given up then
    sent_at = models.DateTimeField(_("sent"), null=True)
    # Held back by the rate limit: the message that told of it together with others.
    summary = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="summed_up")

    class Meta:
        db_table = "tb_alert_delivery"
        verbose_name = _("alert message")
        verbose_name_plural = _("alert messages")
        ordering = ["-id"]
        default_permissions = ("view",)
        indexes = [
            # What is to be sent now.
            models.Index(
                fields=["next_at"], name="idx_alert_delivery_due", condition=Q(state=DeliveryState.PENDING)
            ),
            models.Index(
                fields=["channel", "-created_at"], name="idx_alert_delivery_rate"
            ),  # the last hour's
        ]

    def __str__(self) -> str:
        return self.title
