"""manage.py api_token: a new API token for a user, shown once."""

import json
import re
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError

from quartzflow.declared_settings import TOKEN_DAYS
from quartzflow.errors import InvalidInput
from quartzflow.management.command import OperatorCommand
from quartzflow.tokens import Scope, do_create_token

UNITS = {"d": 1, "w": 7, "m": 30, "y": 365}  # days


class Command(OperatorCommand):
    help = "Print a new API token of a user: Authorization: Token …. It is kept only hashed and cannot be shown again."

    examples = """
  manage.py api_token ci --name pipeline --scope read,trigger --expires 90d
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--name", default="command line", help="to tell it from others (default %(default)s)"
        )
        parser.add_argument(
            "--scope",
            default=",".join(Scope.values),
            help="what it is good for: read, trigger (run and cancel), write (default: all of them)",
        )
        parser.add_argument(
            "--expires", help="valid for so long: 12d, 8w, 6m, 1y (default: as long as is allowed)"
        )
        parser.add_argument("--days", type=int, help="the same in days")
        parser.add_argument("--json", action="store_true", help="for programs")

    def work(self, **options: Any) -> None:
        username: str = options["username"]
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None:
            raise CommandError(f"there is no active user {username!r}; `manage.py createsuperuser` makes one")
        if options["expires"] and options["days"] is not None:
            raise CommandError("give --expires or --days, not both")
        data: dict[str, Any] = {
            "name": options["name"],
            "scopes": [scope.strip() for scope in options["scope"].split(",") if scope.strip()],
            "days": _days(options["expires"]) if options["expires"] else options["days"],
        }
        try:
            made, text = do_create_token(
                user, {key: value for key, value in data.items() if value is not None}
            )
        except InvalidInput as error:
            names = {
                "name": "--name",
                "scopes": "--scope",
                "days": "--expires" if options["expires"] else "--days",
            }
            details = "; ".join(f"{names[key]}: {' '.join(map(str, v))}" for key, v in error.errors.items())
            raise CommandError(details) from None
        if options["json"]:
            expires = made.token.expiry.isoformat() if made.token.expiry else None
            self.stdout.write(
                json.dumps({"id": made.pk, "token": text, "scopes": made.scope_list, "expires": expires})
            )
        else:
            self.stdout.write(text)


def _days(text: str) -> int:
    found = re.fullmatch(r"(\d{1,5})([dwmy]?)", text, re.ASCII)
    if found is None:
        raise CommandError(f"--expires must be like 12d, 8w, 6m or 1y (up to {TOKEN_DAYS.value} days)")
    return int(found[1]) * UNITS[found[2] or "d"]
