"""manage.py clients: hosts, and the decisions about them."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db.models import QuerySet

from executions_app.placement import do_move_clients
from groups_app import actions
from groups_app.choices import ClientStatus
from groups_app.models import Client
from groups_app.selectors import clients_for
from quartzflow.management.command import VerbCommand
from quartzflow.management.output import write_fields, write_rows
from quartzflow.permissions import User

from .groups import find as find_group
from .groups import target_group

COLUMNS = ("client_id", "kind", "approval", "online", "group", "ip", "task_version", "push_error")


class Command(VerbCommand):
    help = "Show hosts, approve them, move them, and decide about their credentials."
    examples = """
  manage.py clients list --group web --offline
  manage.py clients show web-1 --json
  manage.py clients approve old-1 --group web --ip 10.0.0.9
  manage.py clients move web-1 web-2 --group db
  manage.py clients move web-3 --group -           # into no group
  manage.py clients rotate web-1
  manage.py clients revoke web-1
"""

    def add_verbs(self) -> None:
        listing = self.verb("list", self._list, "show hosts")
        listing.add_argument("--group", help="only those in this group; - is none")
        listing.add_argument("--approval", choices=["pending", "approved", "revoked"])
        state = listing.add_mutually_exclusive_group()
        state.add_argument("--online", action="store_true")
        state.add_argument("--offline", action="store_true")
        _host(self.verb("show", self._show, "show one host in full"))
        approve = self.verb("approve", self._approve, "let a quic-flow client have work")
        _host(approve)
        approve.add_argument("--group", required=True)
        approve.add_argument("--ip", default="", help="only if this is still its address")
        move = self.verb("move", self._move, "put hosts into another group")
        move.add_argument("hosts", nargs="+", metavar="HOST")
        move.add_argument("--group", required=True, help="- is none")
        move.add_argument(
            "--stop-running",
            action="store_true",
            help="end what runs there of tasks that are left behind, too",
        )
        _host(self.verb("rotate", self._rotate, "give an agent another credential"))
        _host(self.verb("reset", self._reset, "let the client id be enrolled anew"))
        _host(self.verb("revoke", self._revoke, "throw the credential away and close the session at once"))

    def _list(
        self,
        user: User,
        group: str | None,
        approval: str | None,
        online: bool,
        offline: bool,
        json: bool,
        **rest: Any,
    ) -> None:
        rows = clients_for(user)
        if group is not None:
            rows = rows.filter(group=target_group(user, group))
        if approval:
            rows = rows.filter(approval=approval)
        if online or offline:
            rows = rows.filter(status=ClientStatus.ONLINE if online else ClientStatus.OFFLINE)
        self._write(rows, json)

    def _write(self, clients: QuerySet[Client], json: bool) -> None:
        rows = [_shown(client) for client in clients.order_by("client_id")]
        write_rows(self.stdout, rows, COLUMNS, as_json=json)

    def _show(self, user: User, host: str, json: bool, **rest: Any) -> None:
        from groups_app.api.hosts import ClientDetailSerializer

        write_fields(self.stdout, ClientDetailSerializer(find(user, host)).data, as_json=json)

    def _approve(self, user: User, host: str, group: str, ip: str, json: bool, **rest: Any) -> None:
        client = find(user, host)
        actions.do_approve_client(user, client, find_group(user, group), ip=ip)
        self._write(clients_for(user).filter(pk=client.pk), json)

    def _move(
        self, user: User, hosts: list[str], group: str, stop_running: bool, json: bool, **rest: Any
    ) -> None:
        found = find_all(user, hosts)
        do_move_clients(user, found, target_group(user, group), stop_running=stop_running)
        self._write(clients_for(user).filter(pk__in=[client.pk for client in found]), json)

    def _rotate(self, user: User, host: str, json: bool, **rest: Any) -> None:
        client = find(user, host)
        actions.do_rotate_client(user, client)
        self._write(clients_for(user).filter(pk=client.pk), json)

    def _reset(self, user: User, host: str, json: bool, **rest: Any) -> None:
        client = find(user, host)
        actions.do_reset_client(user, client)
        self._write(clients_for(user).filter(pk=client.pk), json)

    def _revoke(self, user: User, host: str, json: bool, **rest: Any) -> None:
        client = find(user, host)
        actions.do_revoke_client(user, client)
        self._write(clients_for(user).filter(pk=client.pk), json)


def _host(parser: ArgumentParser) -> None:
    parser.add_argument("host", metavar="HOST", help="its client id")


def find(user: User, name: str) -> Client:
    """The host of this client id. Raises CommandError."""
    return find_all(user, [name])[0]


def find_all(user: User, names: list[str]) -> list[Client]:
    """The hosts of these client ids. Raises CommandError naming those that are not there."""
    found = list(clients_for(user).filter(client_id__in=names))
    if missing := sorted(set(names) - {client.client_id for client in found}):
        raise CommandError(f"there is no host {', '.join(map(repr, missing))}; `clients list` shows them")
    return found


def _shown(client: Client) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "kind": client.kind,
        "approval": client.approval,
        "online": client.status == ClientStatus.ONLINE,
        "group": client.group.name if client.group else None,
        "ip": client.ip,
        "task_version": client.task_version,
        "push_error": client.push_error,
    }
