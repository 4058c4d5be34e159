"""Moving hosts between groups (FR-3): with it goes what they run. A task never reaches a host outside its groups (F7).

1. Dispatch chooses hosts and commits their rows while it shares a lock that a move holds alone: a move sees all rows.
2. The move ends what waits on the host of tasks that are not its new group's.
3. What was under way meanwhile is not sent: the sender looks at the rows again, and the bridge remembers cancellations.
4. The bridges' sweep ends what is left of hosts that changed groups in any other way.
"""

from collections.abc import Iterable, Mapping

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from groups_app.models import Client, Group
from groups_app.rules import check_may_rule, moves
from quartzflow.audit import record
from quartzflow.errors import Conflict
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.permissions import User, check
from tasks_app.configs import record_client_changes
from tasks_app.models import Task

from .choices import FailureReason
from .control import cancel_live
from .instructions import Prepared
from .locks import PLACEMENT, lock
from .models import Execution

log = structlog.get_logger(__name__)

MOST = 10_000  # hosts moved at a time


def do_move_clients(
    user: User | None, clients: Iterable[Client], group: Group | None, *, stop_running: bool = False
) -> int:
    """Put hosts into a group, or into none. Returns how many were in another one before.

    The right to manage hosts is needed on the group and on every group that a host leaves; to take in one that has no
    group, the right to change hosts. What waits on a host of tasks that it no longer runs is cancelled; what runs
    goes on, or is ended with `stop_running`. `user` None: the server's own operator. Raises NotAllowed, NotFound.

    1. Check all of them before anything is changed.
    2. Move, and take a configuration version for them: the agents get their tasks anew.
    3. Cancel what is there of tasks that are not the new group's.
    """
    clients = list(clients)
    if len(clients) > MOST:
        raise Conflict(_("At most %(count)s hosts at a time.") % {"count": MOST})
    if user is not None:
        check_move(user, clients, group)
    moved = [client for client in clients if client.group_id != (group.pk if group else None)]
    if not moved:
        return 0
    with transaction.atomic():
        lock(PLACEMENT)
        Client.objects.filter(pk__in=[client.pk for client in moved]).update(
            group=group, updated_at=timezone.now()
        )
        for client in moved:
            before = client.group.name if client.group else None
            record(
                user or "system", "client.move", client, {"group": [before, group.name if group else None]}
            )
        settle([client.client_id for client in moved], user, stop_running=stop_running)
    for client in moved:
        client.group = group
    return len(moved)


def do_apply_rules(user: User | None, *, only_without_group: bool = False) -> int:
    """Put the hosts that are there where the assignment rules say (FR-3.2). Returns how many moved.

    Hosts that no rule takes stay where they are. Raises NotAllowed, Conflict.
    """
    if user is not None:
        check_may_rule(user)
    count = 0
    with transaction.atomic():
        lock(PLACEMENT)
        by_group: dict[Group, list[Client]] = {}
        for move in moves(only_without_group=only_without_group):
            by_group.setdefault(move.rule.group, []).append(move.client)
        for group, clients in by_group.items():
            count += do_move_clients(user, clients, group)
        if count:
            record(user or "system", "rule.apply", None, {"moved": count}, name=_("Assignment rules"))
    return count


def check_move(user: User, clients: Iterable[Client], group: Group | None) -> None:
    """Raises NotAllowed or NotFound unless the user may put these hosts into this group."""
    if group is not None:
        check(user, group, "manage_hosts")
    clients = list(clients)
    for source in {client.group for client in clients if client.group is not None}:
        check(user, source, "manage_hosts")
    for client in clients:
        if client.group is None:
            check(user, client, "change")


def settle(client_ids: list[str], user: User | None = None, *, stop_running: bool = False) -> None:
    """These hosts are in other groups now, by a change in the same transaction: their agents get their tasks anew, and
    what they no longer run ends."""
    lock(PLACEMENT)
    record_client_changes(client_ids)
    reach: dict[int | None, list[str]] = {}
    for client_id, group_id in Client.objects.filter(client_id__in=client_ids).values_list(
        "client_id", "group_id"
    ):
        reach.setdefault(group_id, []).append(client_id)
    for of_group, names in reach.items():
        cancel_live(_homeless(names, of_group, stop_running), FailureReason.HOST_MOVED, user)


def _homeless(names: list[str], group_id: int | None, running: bool) -> object:
    """What waits on these hosts (or runs, too) of tasks that are not the group's, however it was begun."""
    stays = Q(is_global=True) if group_id is None else Q(is_global=True) | Q(groups=group_id)
    waits = Q(status=ExecutionStatus.PENDING) | Q(next_retry_at__isnull=False)
    return Execution.objects.filter(
        Q() if running else waits, client_id__in=names, status__in=LIVE
    ).exclude(task__in=Task.objects.filter(stays).values("pk"))  # fmt: skip


def end_strays(rows: Iterable[Execution], tasks: Mapping[int, Prepared]) -> set[int]:
    """Of rows that wait to be sent, end those whose host is not in a group of their task. Returns their ids.

    After the fact, for hosts that changed groups without `settle`; tasks that are gone are not looked at.
    """
    rows = list(rows)
    groups = dict(
        Client.objects.filter(client_id__in={row.client_id for row in rows}).values_list(
            "client_id", "group_id"
        )
    )
    strays = {
        row.pk
        for row in rows
        if row.task_id in tasks
        and (meant := tasks[row.task_id].group_ids) is not None
        and groups.get(row.client_id) not in meant
    }
    if strays:
        log.warning("executions of hosts outside their tasks' groups ended", count=len(strays))
        with transaction.atomic():
            cancel_live(Execution.objects.filter(pk__in=strays), FailureReason.HOST_MOVED, None)
    return strays
