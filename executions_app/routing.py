"""Which of the online clients a firing goes to (PRD §3.3 P1, P2)."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from django.db.models import Count

from groups_app.models import Client
from quartzflow.execution_status import LIVE
from tasks_app.choices import Routing
from tasks_app.models import Task

from .models import Execution

Target = tuple[str, int | None]  # client id, group id


def is_broadcast(task: Task) -> bool:
    return task.routing == Routing.BROADCAST


def is_sharded(task: Task) -> bool:
    return task.routing == Routing.SHARDING


def means_every_host(task: Task) -> bool:
    """Whether a firing is for every host of the task's groups, not for one among them."""
    return task.routing in (Routing.BROADCAST, Routing.SHARDING)


class Chooser:
    """Chooses the hosts of one batch of firings; what it has chosen counts for those that follow.

    `random` and `consistent_hash` are functions of the firing and of the clients alone.
    """

    def __init__(self) -> None:
        self._load: Counter[str] | None = None  # client id → executions that wait or run there
        self._turns: dict[int, str] = {}  # task id → the client of its latest firing in this batch

    def choose(self, task: Task, scheduled: datetime, clients: Sequence[Target]) -> list[Target]:
        """The targets among `clients`, which are in the task's groups and ordered by client id."""
        if not clients or means_every_host(task):
            return list(clients)
        if task.routing == Routing.RANDOM:
            return [random.Random(f"{task.pk}:{scheduled.timestamp()}").choice(clients)]  # noqa: S311 - spreads load
        if task.routing == Routing.ROUND_ROBIN:
            previous = self._turns.get(task.pk) or _previous(task, scheduled)
            chosen = next((client for client in clients if client[0] > previous), clients[0])
            self._turns[task.pk] = chosen[0]
            return [chosen]
        if task.routing == Routing.LEAST_LOADED:
            load = self._loads()
            chosen = min(clients, key=lambda client: (load[client[0]], client[0]))
            load[chosen[0]] += 1
            return [chosen]
        if task.routing == Routing.CONSISTENT_HASH:
            # Rendezvous hashing: a host that comes or goes moves only the tasks that it gains or had.
            return [
                max(clients, key=lambda client: hashlib.sha256(f"{task.pk}:{client[0]}".encode()).digest())
            ]
        return [clients[0]]  # failover: the first online, in order of client id

    def _loads(self) -> Counter[str]:
        """By the table, which knows what is on its way, and by what agents, which fire by themselves too, said last."""
        if self._load is None:
            live = Execution.objects.filter(status__in=LIVE).order_by().values_list("client_id")
            self._load = Counter(dict(live.annotate(count=Count("id"))))
            self._load |= Counter(
                dict(Client.objects.filter(running__gt=0).values_list("client_id", "running"))
            )
        return self._load


def _previous(task: Task, scheduled: datetime) -> str:
    """The client of the task's firing before this one; "": there was none."""
    rows = task.executions.filter(scheduled_time__lt=scheduled).order_by("-scheduled_time", "-id")
    return rows.values_list("client_id", flat=True).first() or ""
