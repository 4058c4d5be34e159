"""Moving hosts between groups (FR-3): with it goes what they run."""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from groups_app.models import Client, Group
from quartzflow.audit import record
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.permissions import User, check
from tasks_app.configs import record_client_changes
from tasks_app.models import Task

from .choices import ExecutionType, FailureReason
from .control import cancel_live
from .models import Execution


def do_move_clients(user: User, clients: Iterable[Client], group: Group | None) -> int:
    """Put hosts into a group, or into none. Returns how many were in another one before.

    The right to manage hosts is needed on the group and on every group that a host leaves; to take in one that has no
    group, the right to change hosts. What waits on a host of tasks that it no longer runs is cancelled; what runs
    goes on. Raises NotAllowed, NotFound.

    1. Check all of them before anything is changed.
    2. Move, and take a configuration version for them: the agents get their tasks anew.
    3. Cancel what waits there by the schedule of a task that is not one of the new group's.
    """
    clients = list(clients)
    if group is not None:
        check(user, group, "manage_hosts")
    for source in {client.group for client in clients if client.group is not None}:
        check(user, source, "manage_hosts")
    for client in clients:
        if client.group is None:
            check(user, client, "change")
    moved = [client for client in clients if client.group_id != (group.pk if group else None)]
    if not moved:
        return 0
    names = [client.client_id for client in moved]
    with transaction.atomic():
        Client.objects.filter(pk__in=[client.pk for client in moved]).update(
            group=group, updated_at=timezone.now()
        )
        record_client_changes(names)
        for client in moved:
            before = client.group.name if client.group else None
            record(user, "client.move", client, {"group": [before, group.name if group else None]})
        cancel_live(_homeless(names, group), FailureReason.CANCELLED_BY_USER, user)
    for client in moved:
        client.group = group
    return len(moved)


def _homeless(names: list[str], group: Group | None) -> object:
    """What waits on these hosts, for its time or its next attempt, of tasks that are not the group's."""
    stays = Q(is_global=True)
    if group is not None:
        stays |= Q(groups=group)
    return Execution.objects.filter(
        Q(status=ExecutionStatus.PENDING) | Q(next_retry_at__isnull=False),
        client_id__in=names,
        status__in=LIVE,
        execution_type=ExecutionType.SCHEDULED,
    ).exclude(task__in=Task.objects.filter(stays).values("pk"))
