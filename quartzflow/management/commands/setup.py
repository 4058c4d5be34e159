"""manage.py setup: prepare the data directory, the database, keys, and the first user."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from quartzflow.env import EnvError
from quartzflow.run.pki import PkiError
from quartzflow.run.setup import ADMIN, prepare


class Command(BaseCommand):
    help = "Prepare this installation: database, keys, certificates, first user. What is there already is left alone."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            prepared = prepare(settings.ENV, lambda line: self.stdout.write(line))
        except (EnvError, PkiError) as error:
            raise CommandError(str(error)) from None
        if prepared.new_password:
            self.stdout.write(f"password of {ADMIN} (not shown again): {prepared.new_password}")
