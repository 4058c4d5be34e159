"""manage.py client list|approve|rotate|reset|revoke: hosts, from the command line."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from groups_app import actions
from groups_app.choices import ClientStatus
from groups_app.models import Client, Group
from quartzflow.errors import QuartzError
from quartzflow.management.output import write_rows

COLUMNS = ("client_id", "kind", "approval", "online", "group", "ip", "task_version", "push_error")
VERBS = {
    "rotate": (actions.do_rotate_client, "give an agent another credential"),
    "reset": (actions.do_reset_client, "let the client id be enrolled anew"),
    "revoke": (actions.do_revoke_client, "throw the credential away and close the session at once"),
}


class Command(BaseCommand):
    help = "Show hosts, and decide about them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        parsers = [verbs.add_parser("list", help="show all hosts")]
        approve = verbs.add_parser("approve", help="let a quic-flow client have work")
        approve.add_argument("--group", required=True)
        approve.add_argument("--ip", default="", help="only if this is still its address")
        named = [approve, *(verbs.add_parser(verb, help=text) for verb, (_, text) in VERBS.items())]
        for verb in named:
            verb.add_argument("client_id")
        for verb in (*parsers, *named):
            verb.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, verb: str, json: bool, **options: Any) -> None:
        clients = Client.objects.select_related("group")
        if verb != "list":
            client = clients.filter(client_id=options["client_id"]).first()
            if client is None:
                raise CommandError(f"there is no host {options['client_id']!r}; `client list` shows them")
            try:
                self._decide(client, verb, options)
            except QuartzError as error:
                raise CommandError(str(error.message)) from None
            clients = clients.filter(pk=client.pk)
        write_rows(self.stdout, [_shown(client) for client in clients], COLUMNS, as_json=json)

    def _decide(self, client: Client, verb: str, options: dict[str, Any]) -> None:
        if verb != "approve":
            VERBS[verb][0](None, client)
            return
        group = Group.objects.filter(name=options["group"]).first()
        if group is None:
            raise CommandError(f"there is no group {options['group']!r}")
        actions.do_approve_client(None, client, group, ip=options["ip"])


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
