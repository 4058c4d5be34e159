"""Which of the online clients a firing goes to (PRD §3.3 P1, P2)."""

import hashlib
import random
from collections.abc import Sequence
from datetime import datetime

from groups_app.models import Client
from tasks_app.choices import Routing
from tasks_app.models import Task

Target = tuple[str, int | None]  # client id, group id


def is_broadcast(task: Task) -> bool:
    return task.routing == Routing.BROADCAST


def is_sharded(task: Task) -> bool:
    return task.routing == Routing.SHARDING


def means_every_host(task: Task) -> bool:
    """Whether a firing is for every host of the task's groups, not for one among them."""
    return task.routing in (Routing.BROADCAST, Routing.SHARDING)


def choose(task: Task, scheduled: datetime, clients: Sequence[Target]) -> list[Target]:
    """The targets among `clients`, which are online, in the task's groups and ordered by client id.

    Repeating a firing must choose alike where it can: only then do the execution ids fall on each other. So
    `random` and `round_robin` are functions of the nominal time, and of nothing that changes between two
    tries but the clients.
    """
    if not clients or means_every_host(task):
        return list(clients)
    second = int(scheduled.timestamp())
    if task.routing == Routing.RANDOM:
        return [random.Random(f"{task.pk}:{second}").choice(clients)]  # noqa: S311 - spreads load
    if task.routing == Routing.ROUND_ROBIN:
        previous = (
            task.executions.filter(scheduled_time__lt=scheduled).order_by("-scheduled_time", "-id").first()
        )
        ids = [client_id for client_id, _ in clients]
        after = [
            i for i, client_id in enumerate(ids) if previous is not None and client_id > previous.client_id
        ]
        return [clients[after[0] if after else 0]]
    if task.routing == Routing.LEAST_LOADED:
        running = dict(
            Client.objects.filter(client_id__in=[c for c, _ in clients]).values_list("client_id", "running")
        )
        return [min(clients, key=lambda client: (running.get(client[0], 0), client[0]))]
    if task.routing == Routing.CONSISTENT_HASH:
        # Rendezvous hashing: a host that comes or goes moves only the tasks that it gains or had.
        return [max(clients, key=lambda client: hashlib.sha256(f"{task.pk}:{client[0]}".encode()).digest())]
    return [clients[0]]  # failover: the first online, in order of client id
