"""manage.py import_tasks: tasks from a file."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from executions_app.control import do_import_tasks
from quartzflow.errors import InvalidInput, QuartzError
from quartzflow.management.command import OperatorCommand
from quartzflow.management.output import write_rows
from tasks_app.exchange import counts, read_tasks
from tasks_app.formats import FORMATS, MAX_BYTES, SUFFIXES

from .export_tasks import acting_user

COLUMNS = ("number", "name", "action", "changes", "errors")


class Command(OperatorCommand):
    help = (
        "Create and change tasks by a file as `export_tasks` writes it, found by name: all of it, or, when one row is"
        " refused, nothing. Exit code 0: done (or, with --dry-run, can be done); 1: refused, with the reasons."
    )

    examples = """
  manage.py import_tasks tasks.yaml --dry-run
  manage.py import_tasks tasks.xlsx --user kim
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="such as tasks.yaml")
        parser.add_argument("--format", choices=list(FORMATS), help="whatever the file's name")
        parser.add_argument("--user", help="who does it (default: the first administrator)")
        parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
        parser.add_argument("--force", action="store_true", help="change tasks although they are executing")
        parser.add_argument("--json", action="store_true", help="for programs")

    def work(self, **options: Any) -> None:
        file: str = options["file"]
        json: bool = options["json"]
        name = options["format"] or SUFFIXES.get(Path(file).suffix.lower())
        if name is None:
            raise CommandError(
                f"a file's name ends in .json, .yaml or .xlsx; or say --format {', '.join(FORMATS)}"
            )
        user = acting_user(options["user"])
        try:
            with Path(file).open("rb") as stream:
                rows = read_tasks(stream.read(MAX_BYTES + 1), name)
            outcomes = do_import_tasks(user, rows, dry_run=options["dry_run"], force=options["force"])
        except InvalidInput as error:
            raise CommandError(
                "; ".join(str(text) for texts in error.errors.values() for text in texts)
            ) from None
        except QuartzError as error:
            raise CommandError(str(error.message)) from None
        except OSError as error:
            raise CommandError(str(error)) from None
        found = [
            {
                "number": outcome.number,
                "name": outcome.name,
                "action": outcome.action,
                "changes": outcome.changes if json else ", ".join(outcome.changes),
                "errors": outcome.errors
                if json
                else "; ".join(f"{field}: {' '.join(texts)}" for field, texts in outcome.errors.items()),
            }
            for outcome in outcomes
        ]
        write_rows(self.stdout, found, COLUMNS, as_json=json)
        if refused := counts(outcomes)["refused"]:
            raise CommandError(f"{refused} of {len(outcomes)} rows refused; nothing was changed")
