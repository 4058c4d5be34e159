"""What operational commands share: --json, examples in --help, who acts, errors as one line and exit status 1."""

import getpass
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, DjangoHelpFormatter
from django.utils import translation

from quartzflow import request_context
from quartzflow.errors import InvalidInput, QuartzError


class _Formatter(RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Examples keep their lines."""


class OperatorCommand(BaseCommand):
    """Subclasses fill `examples`, and `work` with what they do."""

    examples = ""  # shown by --help, one command a line

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        epilog = f"examples:\n{self.examples.rstrip()}" if self.examples else None
        return super().create_parser(
            prog_name, subcommand, formatter_class=_Formatter, epilog=epilog, **kwargs
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # The audit trail says that it was done at the command line, and under which account of the machine.
        address = f"command:{getpass.getuser()}"
        with translation.override("en"), request_context.acting_from(address):
            try:
                self.work(**options)
            except InvalidInput as error:
                raise CommandError(
                    "; ".join(f"{name}: {' '.join(map(str, texts))}" for name, texts in error.errors.items())
                ) from None
            except QuartzError as error:
                raise CommandError(str(error.message)) from None

    def work(self, **options: Any) -> None:
        """Do it. Errors of the product become one line."""
        raise NotImplementedError


class VerbCommand(OperatorCommand):
    """A command with verbs, each with --json and --user. Subclasses name them in `add_verbs`."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        self._verbs = parser.add_subparsers(dest="verb", required=True)
        self.add_verbs()

    def add_verbs(self) -> None:
        """Call `verb` for each."""
        raise NotImplementedError

    def verb(self, name: str, do: Callable[..., None], text: str) -> ArgumentParser:
        """A verb that calls `do` with the acting user and the options. Returns its parser, for its own arguments."""
        parser: ArgumentParser = self._verbs.add_parser(name, help=text)
        parser.set_defaults(do=do)
        add_json(parser)
        add_user(parser)
        return parser

    def work(self, **options: Any) -> None:
        do: Callable[..., None] = options.pop("do")
        do(**{**options, "user": acting_user(options["user"])})


def add_json(*parsers: ArgumentParser) -> None:
    for parser in parsers:
        parser.add_argument("--json", action="store_true", help="for programs")


def add_user(*parsers: ArgumentParser) -> None:
    for parser in parsers:
        parser.add_argument("--user", help="in whose name, with whose rights (default: a superuser)")


def acting_user(name: str | None) -> User:
    """The active user of this name, or the first superuser. Raises CommandError."""
    users = User.objects.filter(is_active=True).order_by("pk")
    user = users.filter(username=name).first() if name else users.filter(is_superuser=True).first()
    if user is None:
        raise CommandError(
            f"there is no active user {name!r}"
            if name
            else "there is no superuser: name a user, or make one with `manage.py createsuperuser`"
        )
    return user
