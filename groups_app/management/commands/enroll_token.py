"""manage.py enroll_token create|list|revoke: the tokens that let agents into groups."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from groups_app.actions import do_create_enrollment_token, do_revoke_enrollment_token
from groups_app.models import EnrollmentToken
from groups_app.selectors import tokens_for
from quartzflow.env import Env
from quartzflow.management.command import VerbCommand
from quartzflow.management.output import write_rows
from quartzflow.permissions import User
from quartzflow.run.joining import is_loopback, join_command

from .groups import find as find_group

COLUMNS = ("id", "prefix", "group", "uses", "max_uses", "expires_at", "revoked_at", "note")


class Command(VerbCommand):
    help = (
        "Make, list and revoke the tokens that let agents into groups. `create` prints the command that joins a host;"
        " the token in it is shown once."
    )
    examples = """
  manage.py enroll_token create default
  manage.py enroll_token create web --uses 20 --hours 2 --note "new racks"
  manage.py enroll_token create --allow-wish       # assignment rules choose the group, else the host
  manage.py enroll_token create web --json | jq -r '.[0].token'
  manage.py enroll_token list
  manage.py enroll_token revoke 7
"""

    def add_verbs(self) -> None:
        create = self.verb("create", self._create, "make a token, and print the command that joins a host")
        create.add_argument("group", nargs="?", help="without: the assignment rules choose it")
        create.add_argument(
            "--allow-wish", action="store_true", help="where no rule fits, the host's own --group decides"
        )
        create.add_argument("--uses", type=int, default=1, help="how many hosts may join (%(default)s)")
        create.add_argument("--hours", type=float, default=24, help="how long it is valid (%(default)s)")
        create.add_argument("--note", default="")
        self.verb("list", self._list, "show all tokens, newest first")
        revoke = self.verb("revoke", self._revoke, "let nobody in by a token any more")
        revoke.add_argument("id", type=int)

    def _create(
        self,
        user: User,
        group: str | None,
        uses: int,
        hours: float,
        note: str,
        allow_wish: bool,
        json: bool,
        **rest: Any,
    ) -> None:
        row = find_group(user, group) if group else None
        made, token = do_create_enrollment_token(
            user, row, max_uses=uses, hours=hours, note=note, allow_wish=allow_wish
        )
        env: Env = settings.ENV
        command = join_command(env, token)
        if json:
            shown = {"token": token, "command": command, **_shown(made)}
            write_rows(self.stdout, [shown], list(shown), as_json=True)
        else:
            self.stdout.write(command)
        if is_loopback(env.quic_host):
            self.stderr.write(
                "Only agents of this machine can connect: QF_QUIC_HOST=0.0.0.0 lets those of others in."
            )

    def _list(self, user: User, json: bool, **rest: Any) -> None:
        write_rows(self.stdout, [_shown(token) for token in tokens_for(user)], COLUMNS, as_json=json)

    def _revoke(self, user: User, id: int, json: bool, **rest: Any) -> None:
        token = tokens_for(user).filter(pk=id).first()
        if token is None:
            raise CommandError(f"there is no token {id}; `enroll_token list` shows them")
        do_revoke_enrollment_token(user, token)
        token.refresh_from_db()
        write_rows(self.stdout, [_shown(token)], COLUMNS, as_json=json)


def _shown(token: EnrollmentToken) -> dict[str, Any]:
    own = {"group": token.group.name if token.group else None, "id": token.pk}
    return {name: own[name] if name in own else getattr(token, name) for name in COLUMNS}
