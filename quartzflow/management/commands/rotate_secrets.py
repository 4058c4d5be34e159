"""manage.py rotate_secrets: a new key for the secrets, everything encrypted with it."""

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from quartzflow import secrets
from quartzflow.audit import record
from quartzflow.env import EnvError
from quartzflow.management.command import OperatorCommand


class Command(OperatorCommand):
    help = (
        "Encrypt all secrets with a new key. The key is in secrets.key of the data directory; where QF_SECRETS_KEYS"
        " names the keys, put a new one first, restart, and run this: all are then encrypted with the first."
    )

    examples = """
  manage.py rotate_secrets
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")

    def work(self, **options: Any) -> None:
        try:
            count = secrets.rotate()
        except EnvError as error:
            raise CommandError(str(error)) from None
        record("command", "secret.rotate", None, {"count": count})
        where = "QF_SECRETS_KEYS" if settings.ENV.secrets_keys else str(secrets.key_file())
        if options["json"]:
            self.stdout.write(json.dumps({"secrets": count, "key": where}))
        else:
            self.stdout.write(f"{count} secrets are encrypted with the newest key in {where}")
