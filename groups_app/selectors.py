"""All reads of groups, clients and bridges that pages, API and other apps share."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from quartzflow.declared_settings import RECONNECT_GRACE
from quartzflow.permissions import User, visible

from .choices import ClientApproval, ClientKind, ClientStatus
from .models import Bridge, Client, EnrollmentToken, Group


def groups_for(user: User) -> QuerySet[Group]:
    """The groups a user may see, each with `client_count`, `online_count` and `task_count`."""
    clients = Client.objects.filter(group=OuterRef("pk"))
    links = Group.tasks.through.objects.filter(group=OuterRef("pk"))
    # Each counted by itself: a join of all three has a row for every pair of a host and a task.
    return visible(user, Group.objects.all()).annotate(
        client_count=_count(clients),
        online_count=_count(clients.filter(status=ClientStatus.ONLINE)),
        task_count=_count(links),
    )


def _count(rows: QuerySet[Any]) -> Coalesce:
    """How many rows of one group there are, as a subquery."""
    counted = rows.order_by().values("group").annotate(count=Count("pk")).values("count")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)


def clients_for(user: User) -> QuerySet[Client]:
    """The clients a user may see: all with the model permission, else those of visible groups."""
    clients = Client.objects.select_related("group")
    if user.has_perm("groups_app.view_client"):
        return clients
    return clients.filter(group__in=visible(user, Group.objects.all()))


def tokens_for(user: User) -> QuerySet[EnrollmentToken]:
    """The enrollment tokens a user may see: all with the model permission, else those of groups that they manage."""
    tokens = EnrollmentToken.objects.select_related("group", "created_by")
    if user.has_perm("groups_app.view_enrollmenttoken") or user.has_perm("groups_app.manage_hosts"):
        return tokens
    return tokens.filter(group__in=visible(user, Group.objects.all(), "manage_hosts"))


def live_bridges() -> list[Bridge]:
    """Bridges whose lease has not expired."""
    return list(Bridge.objects.filter(expires_at__gt=timezone.now()))


def online_clients(group_ids: Iterable[int] | None) -> list[tuple[str, int | None, str]]:
    """(client id, group id, bridge id) of clients that can get work now, ordered by client id.

    `None`: of every group.
    """
    clients = Client.objects.filter(status=ClientStatus.ONLINE, approval=ClientApproval.APPROVED).exclude(
        bridge_id=""
    )
    if group_ids is not None:
        clients = clients.filter(group_id__in=list(group_ids))
    return list(clients.order_by("client_id").values_list("client_id", "group_id", "bridge_id"))


def lately_online_clients(group_ids: Iterable[int] | None) -> list[tuple[str, int | None]]:
    """(client id, group id) of approved agents that went offline a moment ago and are likely to be back in another.

    A bridge that restarts, a network that blinks: what fires meanwhile is theirs all the same.
    """
    since = timezone.now() - timedelta(seconds=RECONNECT_GRACE.value)
    clients = Client.objects.filter(
        status=ClientStatus.OFFLINE,
        approval=ClientApproval.APPROVED,
        kind=ClientKind.AGENT,
        last_heartbeat__gte=since,
    )
    if group_ids is not None:
        clients = clients.filter(group_id__in=list(group_ids))
    return list(clients.order_by("client_id").values_list("client_id", "group_id"))


def bridges_of(client_ids: Iterable[str]) -> dict[str, str]:
    """client id → id of the bridge that holds its session; offline clients are left out."""
    rows = Client.objects.filter(client_id__in=list(client_ids), status=ClientStatus.ONLINE).exclude(
        bridge_id=""
    )
    return dict(rows.values_list("client_id", "bridge_id"))
