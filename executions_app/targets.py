"""The hosts that a batch of firings is for, read once."""

from collections.abc import Iterable

from groups_app.choices import ClientApproval, ClientKind, ClientStatus
from groups_app.labels import matches
from groups_app.models import Client
from groups_app.selectors import lately_online_clients, online_clients
from tasks_app.choices import OfflinePolicy
from tasks_app.models import Task

from . import routing
from .instructions import Prepared

ByGroup = dict[int | None, list[routing.Target]]


class Targets:
    """The clients of all groups that some tasks need: those online, those lost a moment ago, and those offline where
    a task waits for them."""

    def __init__(self, tasks: Iterable[Prepared]) -> None:
        tasks = list(tasks)
        self._online: ByGroup = {}
        self._lately: ByGroup = {}
        self._offline: ByGroup = {}
        self.online: set[routing.Target] = set()
        self._labels: dict[str, dict[str, str]] = {}
        scopes = {prepared.group_ids for prepared in tasks}
        needed = None if None in scopes else frozenset().union(*(scope for scope in scopes if scope))
        if needed == frozenset():
            return
        for client_id, group_id, _bridge in online_clients(needed):
            self._online.setdefault(group_id, []).append((client_id, group_id))
        self.online = {client for clients in self._online.values() for client in clients}
        for client_id, group_id in lately_online_clients(needed):
            self._lately.setdefault(group_id, []).append((client_id, group_id))
        known = Client.objects.filter(approval=ClientApproval.APPROVED)
        if needed is not None:
            known = known.filter(group_id__in=needed)
        if any(waits(prepared.task) for prepared in tasks):
            offline = known.filter(status=ClientStatus.OFFLINE, kind=ClientKind.AGENT)
            for client_id, group_id in offline.values_list("client_id", "group_id"):
                self._offline.setdefault(group_id, []).append((client_id, group_id))
        if any(prepared.task.selector for prepared in tasks):
            self._labels = dict(known.values_list("client_id", "labels"))

    def of(self, prepared: Prepared) -> list[routing.Target]:
        """The task's possible targets, ordered by client id.

        A host that was lost a moment ago is one where every host is meant (it fires by itself, under the same name,
        or gets the instruction when it is back), and where nobody else is there.
        """
        task = prepared.task
        online, lately = self._pick(self._online, prepared), self._pick(self._lately, prepared)
        if waits(task):
            return sorted({*online, *lately, *self._pick(self._offline, prepared)})
        return sorted(online + lately) if routing.means_every_host(task) or not online else online

    def _pick(self, by_group: ByGroup, prepared: Prepared) -> list[routing.Target]:
        scope, selector = prepared.group_ids, prepared.task.selector
        groups = by_group if scope is None else [group for group in scope if group in by_group]
        found = sorted(client for group in groups for client in by_group[group])
        return [c for c in found if matches(selector, self._labels.get(c[0], {}))] if selector else found


def waits(task: Task) -> bool:
    """Whether a firing of the task waits for hosts that are offline."""
    return task.offline_policy == OfflinePolicy.WAIT and routing.is_broadcast(task)


def members(prepared: Prepared, client_ids: Iterable[str]) -> dict[str, int | None]:
    """Those of these clients, with their groups, that are hosts of the task, online or not."""
    found = Client.objects.filter(client_id__in=list(client_ids), approval=ClientApproval.APPROVED)
    if prepared.group_ids is not None:
        found = found.filter(group_id__in=prepared.group_ids)
    selector = prepared.task.selector
    return {
        client_id: group_id
        for client_id, group_id, labels in found.values_list("client_id", "group_id", "labels")
        if matches(selector, labels)
    }
