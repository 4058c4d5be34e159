"""manage.py groups: host groups, what is in them, and the rules that hosts come into them by."""

from typing import Any

from django.core.management.base import CommandError

from executions_app.placement import do_apply_rules, do_move_clients
from groups_app import actions, rules
from groups_app.models import Client, Group
from groups_app.selectors import clients_for, groups_for
from quartzflow.management.command import VerbCommand
from quartzflow.management.output import write_rows
from quartzflow.permissions import User

COLUMNS = ("id", "name", "tags", "hosts", "online", "tasks", "description")
HOST_COLUMNS = ("client_id", "hostname", "ip", "group")
MOVE_COLUMNS = ("client_id", "from", "to", "rule")


class Command(VerbCommand):
    help = "Show, make, change and delete groups; move hosts; apply the assignment rules to the hosts that are there."
    examples = """
  manage.py groups list --json
  manage.py groups create web --tags prod,front --description "Web servers"
  manage.py groups change web --name frontend
  manage.py groups move frontend web-1 web-2
  manage.py groups move - web-3                    # into no group
  manage.py groups apply-rules --dry-run
  manage.py groups delete frontend
"""

    def add_verbs(self) -> None:
        listing = self.verb("list", self._list, "show groups")
        listing.add_argument("--tag", help="only those with this tag")
        show = self.verb("show", self._show, "show the hosts of a group")
        create = self.verb("create", self._save, "make a group")
        change = self.verb("change", self._save, "change a group")
        delete = self.verb("delete", self._delete, "delete a group that no task is bound to; its hosts stay")
        move = self.verb("move", self._move, "put hosts into a group; - is none")
        apply = self.verb("apply-rules", self._apply, "put hosts where the assignment rules say")
        for verb in (show, create, change, delete, move):
            verb.add_argument("group")
        change.add_argument("--name", help="its new name")
        for verb in (create, change):
            verb.add_argument("--description")
            verb.add_argument("--tags", help="separated by commas")
        move.add_argument("hosts", nargs="+", metavar="HOST")
        move.add_argument(
            "--stop-running",
            action="store_true",
            help="end what runs there of tasks that are left behind, too",
        )
        apply.add_argument("--dry-run", action="store_true", help="only show what would move")
        apply.add_argument(
            "--only-without-group", action="store_true", help="leave hosts alone that have a group"
        )

    def _list(self, user: User, tag: str | None, **rest: Any) -> None:
        groups = [g for g in groups_for(user).order_by("name") if tag is None or tag in g.tag_list]
        self._write(groups, rest["json"])

    def _write(self, groups: Any, json: bool) -> None:
        write_rows(self.stdout, [_shown(group) for group in groups], COLUMNS, as_json=json)

    def _show(self, user: User, group: str, **rest: Any) -> None:
        hosts = clients_for(user).filter(group=find(user, group)).order_by("client_id")
        write_rows(self.stdout, [_host(host) for host in hosts], HOST_COLUMNS, as_json=rest["json"])

    def _save(self, user: User, verb: str, group: str, **rest: Any) -> None:
        data = {k: rest[k] for k in ("description", "tags") if rest[k] is not None}
        if verb == "create":
            saved = actions.do_save_group(user, {"name": group, **data})
        else:
            if rest["name"] is not None:
                data["name"] = rest["name"]
            saved = actions.do_save_group(user, data, find(user, group))
        self._write(groups_for(user).filter(pk=saved.pk), rest["json"])

    def _delete(self, user: User, group: str, **rest: Any) -> None:
        row = find(user, group)
        shown = _shown(row)
        actions.do_delete_group(user, row)
        write_rows(self.stdout, [shown], COLUMNS, as_json=rest["json"])

    def _move(self, user: User, group: str, hosts: list[str], stop_running: bool, **rest: Any) -> None:
        target = target_group(user, group)
        found = list(clients_for(user).filter(client_id__in=hosts))
        if missing := sorted(set(hosts) - {client.client_id for client in found}):
            raise CommandError(f"there is no host {', '.join(map(repr, missing))}; `clients list` shows them")
        do_move_clients(user, found, target, stop_running=stop_running)
        write_rows(self.stdout, [_host(client) for client in found], HOST_COLUMNS, as_json=rest["json"])

    def _apply(self, user: User, dry_run: bool, only_without_group: bool, **rest: Any) -> None:
        rules.check_may_rule(user)
        found = rules.moves(only_without_group=only_without_group)
        rows = [
            {
                "client_id": move.client.client_id,
                "from": move.client.group.name if move.client.group else None,
                "to": move.rule.group.name,
                "rule": move.rule.name,
            }
            for move in found
        ]
        if not dry_run:
            do_apply_rules(user, only_without_group=only_without_group)
        write_rows(self.stdout, rows, MOVE_COLUMNS, as_json=rest["json"])


def find(user: User, name: str) -> Group:
    """The group of this name, with its counts. Raises CommandError."""
    group = groups_for(user).filter(name=name).first()
    if group is None:
        raise CommandError(f"there is no group {name!r}; `groups list` shows them")
    return group


def target_group(user: User, name: str) -> Group | None:
    """The group of this name; `-` is none. Raises CommandError."""
    return None if name == "-" else find(user, name)


def _shown(group: Any) -> dict[str, Any]:
    return {
        "id": group.pk,
        "name": group.name,
        "tags": ",".join(group.tag_list),
        "hosts": group.client_count,
        "online": group.online_count,
        "tasks": group.task_count,
        "description": group.description,
    }


def _host(client: Client) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "hostname": client.hostname,
        "ip": client.ip,
        "group": client.group.name if client.group else None,
    }
