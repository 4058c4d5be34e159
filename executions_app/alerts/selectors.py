"""All reads of alerts that pages and API share: what concerns tasks and hosts that one may see."""

from django.db.models import Case, IntegerField, Q, QuerySet, Value, When

from groups_app.models import Client, Group
from quartzflow.permissions import User, visible
from tasks_app.models import Task

from .choices import AlertState
from .models import Alert, AlertChannel, AlertDelivery


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
