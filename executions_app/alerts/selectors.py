"""All reads of alerts that pages and API share: what concerns tasks and hosts that one may see."""

from datetime import datetime

from django.db.models import Case, F, IntegerField, Q, QuerySet, Value, When
from django.utils import timezone

from groups_app.models import Client, Group
from quartzflow.permissions import User, visible
from tasks_app.models import Task

from .choices import AlertState, Kind, Scope, SilenceState
from .matching import is_silent
from .models import Alert, AlertChannel, AlertDelivery, AlertRule, AlertSilence


def alerts_for(user: User) -> QuerySet[Alert]:
    """The alerts about tasks, or else hosts, that the user may see."""
    if not user.is_active:
        return Alert.objects.none()
    if user.has_perm("executions_app.view_alert"):
        return Alert.objects.all()
    hosts = Client.objects.filter(group__in=visible(user, Group.objects.all()))
    return Alert.objects.filter(
        Q(task_id__in=visible(user, Task.objects.all()).values("pk"))
        | Q(task_id=None, client_id__in=hosts.values("client_id"))
    )


def may_have_alerts(user: User) -> bool:
    """Whether there can be alerts that the user may see: of all, of a task, or of a group's hosts."""
    return (
        user.has_perm("executions_app.view_alert")
        or visible(user, Task.objects.all()).exists()
        or visible(user, Group.objects.all()).exists()
    )


def open_first(alerts: QuerySet[Alert]) -> QuerySet[Alert]:
    order = Case(
        When(state=AlertState.OPEN, then=Value(0)),
        When(state=AlertState.ACKNOWLEDGED, then=Value(1)),
        default=Value(2),
        output_field=IntegerField(),
    )
    return alerts.annotate(order=order).order_by("order", "-id")


def deliveries_for(user: User) -> QuerySet[AlertDelivery]:
    """The messages of channels that the user may see."""
    channels = visible(user, AlertChannel.objects.all())
    return AlertDelivery.objects.filter(channel__in=channels).select_related("channel", "alert")


def rules_for(user: User) -> QuerySet[AlertRule]:
    return visible(user, AlertRule.objects.all())


def channels_for(user: User) -> QuerySet[AlertChannel]:
    return visible(user, AlertChannel.objects.all())


def silences_for(user: User) -> QuerySet[AlertSilence]:
    """Weekly windows first, then those that end last."""
    return visible(user, AlertSilence.objects.all()).order_by(F("ends").desc(nulls_first=True), "-id")


def _about(subject: Task | Group) -> Q:
    """Rules and silences that may concern the task, or the tasks and hosts of the group."""
    if isinstance(subject, Group):
        return Q(scope=Scope.ALL) | Q(scope=Scope.GROUPS, groups=subject)
    # A host's group decides where an execution has a host: a task that runs everywhere is of every group.
    groups = Q(scope=Scope.GROUPS)
    if not subject.is_global:
        groups &= Q(groups__in=subject.groups.values("pk"))
    return Q(scope=Scope.ALL) | Q(scope=Scope.TASKS, tasks=subject) | groups


def rules_about(user: User, subject: Task | Group) -> list[AlertRule]:
    """The rules that make alerts about a task, or about what a group has; as far as the user may see them."""
    rules = rules_for(user).filter(pk__in=AlertRule.objects.filter(_about(subject)).values("pk"))
    if isinstance(subject, Task):
        rules = rules.exclude(kind=Kind.AGENT_OFFLINE)
    return list(rules.order_by("-is_enabled", "name").prefetch_related("channels"))


def silences_about(user: User, subject: Task | Group, now: datetime | None = None) -> list[AlertSilence]:
    """The windows that are open for a task or a group now; as far as the user may see them."""
    now = now or timezone.now()
    found = AlertSilence.objects.filter(_about(subject)).filter(
        Q(ends=None) | Q(begins__lte=now, ends__gt=now)
    )
    return [row for row in silences_for(user).filter(pk__in=found.values("pk")) if is_silent(row, now)]


def silence_state(silence: AlertSilence, now: datetime | None = None) -> SilenceState:
    """How a window stands; a weekly one is never over."""
    now = now or timezone.now()
    if is_silent(silence, now):
        return SilenceState.NOW
    return SilenceState.OVER if silence.ends and silence.ends <= now else SilenceState.LATER
