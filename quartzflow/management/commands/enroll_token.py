"""manage.py enroll_token create|list|revoke: the tokens that let agents into groups."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from groups_app.actions import do_create_enrollment_token, do_revoke_enrollment_token
from groups_app.models import EnrollmentToken, Group
from quartzflow.errors import InvalidInput, QuartzError
from quartzflow.management.output import write_rows

COLUMNS = ("id", "prefix", "group", "uses", "max_uses", "expires_at", "revoked_at", "note")


class Command(BaseCommand):
    help = "Make, list and revoke the tokens that let agents into groups. A token is shown once, when it is made."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="make a token")
        create.add_argument("group", nargs="?", help="without: the assignment rules choose it")
        create.add_argument(
            "--allow-wish", action="store_true", help="where no rule fits, the host's own --group decides"
        )
        create.add_argument("--uses", type=int, default=1, help="how many hosts may join (%(default)s)")
        create.add_argument("--hours", type=float, default=24, help="how long it is valid (%(default)s)")
        create.add_argument("--note", default="")
        listing = verbs.add_parser("list", help="show all tokens, newest first")
        revoke = verbs.add_parser("revoke", help="let nobody in by a token any more")
        revoke.add_argument("id", type=int)
        for verb in (create, listing, revoke):
            verb.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, verb: str, json: bool, **options: Any) -> None:
        verbs: dict[str, Callable[..., list[dict[str, Any]]]] = {
            "create": self._create,
            "list": self._list,
            "revoke": self._revoke,
        }
        try:
            rows = verbs[verb](**options)
        except InvalidInput as error:
            details = "; ".join(
                f"{name}: {' '.join(map(str, texts))}" for name, texts in error.errors.items()
            )
            raise CommandError(details) from None
        except QuartzError as error:
            raise CommandError(str(error.message)) from None
        columns = ("token", *COLUMNS) if verb == "create" else COLUMNS
        write_rows(self.stdout, rows, columns, as_json=json)

    def _create(
        self, group: str | None, uses: int, hours: float, note: str, allow_wish: bool, **_: Any
    ) -> list[dict[str, Any]]:
        row = Group.objects.filter(name=group).first()
        if row is None and group:
            raise CommandError(f"there is no group {group!r}")
        made, token = do_create_enrollment_token(
            None, row, max_uses=uses, hours=hours, note=note, allow_wish=allow_wish
        )
        return [{"token": token, **_shown(made)}]

    def _list(self, **_: Any) -> list[dict[str, Any]]:
        return [_shown(token) for token in EnrollmentToken.objects.select_related("group")]

    def _revoke(self, id: int, **_: Any) -> list[dict[str, Any]]:
        token = EnrollmentToken.objects.select_related("group").filter(pk=id).first()
        if token is None:
            raise CommandError(f"there is no token {id}; `enroll_token list` shows them")
        do_revoke_enrollment_token(None, token)
        token.refresh_from_db()
        return [_shown(token)]


def _shown(token: EnrollmentToken) -> dict[str, Any]:
    own = {"group": token.group.name if token.group else None, "id": token.pk}
    return {name: own[name] if name in own else getattr(token, name) for name in COLUMNS}
