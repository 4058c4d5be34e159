"""The words of alerts: what they are about, how bad it is, where they go and how they stand."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Kind(models.TextChoices):
    """What a rule is about."""

    FAILURE = "failure", _("An execution failed")
    TIMEOUT = "timeout", _("An execution timed out")
    CONSECUTIVE = "consecutive_failures", _("A task failed several times in a row")
    NO_ONLINE_CLIENT = "no_online_client", _("No host was online for a task")
    MISSED_FIRING = "missed_firing", _("A firing did not happen")
    RECOVERED = "recovered", _("A task recovered")
    AGENT_OFFLINE = "agent_offline", _("A host is offline")
    LATE_START = "late_start", _("An execution started late")


# Kinds that follow from the end of an execution.
OF_ENDS = frozenset(
    {Kind.FAILURE, Kind.TIMEOUT, Kind.CONSECUTIVE, Kind.NO_ONLINE_CLIENT, Kind.RECOVERED, Kind.LATE_START}
)
# Alerts of these kinds are over when the task succeeds.
CURED_BY_SUCCESS = frozenset({Kind.FAILURE, Kind.TIMEOUT, Kind.CONSECUTIVE, Kind.NO_ONLINE_CLIENT})
# Kinds with a threshold: (what it counts, the least, the most, the default).
THRESHOLDS = {
    Kind.CONSECUTIVE: (2, 100, 3),  # executions
    Kind.AGENT_OFFLINE: (30, 86_400, 120),  # seconds
    Kind.LATE_START: (1, 86_400, 60),  # seconds
}


class Scope(models.TextChoices):
    """Whom a rule or a silence concerns."""

    ALL = "global", _("Everything")
    TASKS = "tasks", _("Some tasks")
    GROUPS = "groups", _("Some host groups")


class SilenceState(models.TextChoices):
    """How a silence window stands at a moment."""

    NOW = "now", _("Silent now")
    LATER = "later", _("Later")
    OVER = "over", _("Over")


class Severity(models.TextChoices):
    INFO = "info", _("Information")
    WARNING = "warning", _("Warning")
    CRITICAL = "critical", _("Critical")


class ChannelKind(models.TextChoices):
    DINGTALK = "dingtalk", _("DingTalk")
    WECOM = "wecom", _("WeCom")
    FEISHU = "feishu", _("Feishu")
    SLACK = "slack", _("Slack")
    EMAIL = "email", _("E-mail")
    WEBHOOK = "webhook", _("Webhook")


class AlertState(models.TextChoices):
    OPEN = "open", _("Open")
    ACKNOWLEDGED = "acknowledged", _("Acknowledged")
    RESOLVED = "resolved", _("Resolved")


class DeliveryState(models.TextChoices):
    PENDING = "pending", _("Pending")
    SENT = "sent", _("Sent")
    FAILED = "failed", _("Failed")
    SUPPRESSED = "suppressed", _("Held back")
