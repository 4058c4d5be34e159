"""manage.py enroll: a token that lets agents into a group, with the command to run on their hosts."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from groups_app.actions import do_create_enrollment_token
from groups_app.models import Group
from quartzflow.env import Env
from quartzflow.errors import InvalidInput
from quartzflow.run.joining import is_loopback, join_command
from quartzflow.run.setup import DEFAULT_GROUP


class Command(BaseCommand):
    help = (
        "Print a token that lets agents into a group, and the command that joins a host with it. Shown once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("group", nargs="?", default=DEFAULT_GROUP, help="default: %(default)s")
        parser.add_argument(
            "--uses", type=int, default=1, help="how many hosts may join (default %(default)s)"
        )
        parser.add_argument(
            "--hours", type=float, default=24, help="how long it is valid (default %(default)s)"
        )

    def handle(self, *args: Any, group: str, uses: int, hours: float, **options: Any) -> None:
        row = Group.objects.filter(name=group).first()
        if row is None:
            names = ", ".join(Group.objects.values_list("name", flat=True)[:20])
            raise CommandError(f"there is no group {group!r}; there are: {names or 'none'}")
        try:
            _, token = do_create_enrollment_token(None, row, max_uses=uses, hours=hours)
        except InvalidInput as error:
            details = "; ".join(
                f"{name}: {' '.join(map(str, texts))}" for name, texts in error.errors.items()
            )
            raise CommandError(details) from None
        env: Env = settings.ENV
        self.stdout.write(join_command(env, token))
        if is_loopback(env.quic_host):
            self.stderr.write(
                "Only agents of this machine can connect: QF_QUIC_HOST=0.0.0.0 lets those of others in."
            )
