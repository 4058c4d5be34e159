"""Which hosts hold a task as it is now (FR-2.1): what pages and API tell of pushes that did not arrive."""

from datetime import datetime
from typing import TypedDict

from django.db.models import Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from groups_app.choices import ClientApproval, ClientKind, ClientStatus
from groups_app.models import Client
from groups_app.selectors import clients_for
from quartzflow.permissions import User

from .choices import ChangeAction
from .models import ConfigChange, Task

SHOWN = 200  # hosts named at most


class Behind(TypedDict):
    """A host that is online and does not hold the task as it is."""

    id: int
    client_id: str
    group: str | None
    task_version: int
    push_error: str
    push_error_at: datetime | None


class PushState(TypedDict):
    """`online` hosts are meant; `behind` of them do not hold `version` yet; `clients` has the first SHOWN."""

    version: int
    online: int
    behind: int
    clients: list[Behind]


def push_state(user: User, task: Task) -> PushState:
    """How far the task's current version has come, among the hosts that the user may see."""
    meant = _meant(task)
    meant = meant.filter(pk__in=clients_for(user).values("pk"))
    # A host that was moved into the group after the task's last change needs the version of the move.
    moved = (
        ConfigChange.objects.filter(action=ChangeAction.CLIENT, client_id=OuterRef("client_id"))
        .order_by()
        .values("client_id")
        .annotate(newest=Max("version"))
        .values("newest")
    )
    behind = meant.filter(Q(task_version__lt=task.version) | Q(task_version__lt=Coalesce(Subquery(moved), 0)))
    return PushState(
        version=task.version,
        online=meant.count(),
        behind=behind.count(),
        clients=[
            Behind(
                id=client.pk,
                client_id=client.client_id,
                group=client.group.name if client.group else None,
                task_version=client.task_version,
                push_error=client.push_error,
                push_error_at=client.push_error_at,
            )
            for client in behind.select_related("group").order_by("client_id")[:SHOWN]
        ],
    )


def _meant(task: Task) -> QuerySet[Client]:
    """The agents that are online and should hold it; quic-flow clients hold no tasks."""
    clients = Client.objects.filter(
        status=ClientStatus.ONLINE, approval=ClientApproval.APPROVED, kind=ClientKind.AGENT
    )
    return clients if task.is_global else clients.filter(group__in=task.groups.all())
