"""manage.py export_tasks: tasks to a file."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError

from groups_app.models import Group
from quartzflow.errors import InvalidInput
from quartzflow.management.command import OperatorCommand
from tasks_app.exchange import export_tasks
from tasks_app.formats import FORMATS, SUFFIXES
from tasks_app.selectors import tasks_for


class Command(OperatorCommand):
    help = (
        "Write tasks to a file: JSON, YAML or Excel (.xlsx), by its name. `import_tasks` reads it. Values under names"
        " such as PASSWORD or TOKEN are masked."
    )

    examples = """
  manage.py export_tasks tasks.yaml --group web
  manage.py export_tasks --task backup --format json | jq '.tasks[0]'
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", nargs="?", default="-", help="such as tasks.yaml (default: standard output)"
        )
        parser.add_argument("--format", choices=list(FORMATS), help="whatever the file's name")
        parser.add_argument("--group", help="only tasks that are bound to this group")
        parser.add_argument(
            "--task", action="append", default=[], help="only the task of this name; may be repeated"
        )
        parser.add_argument("--user", help="only what this user may see (default: everything)")

    def work(self, **options: Any) -> None:
        file: str = options["file"]
        group: str | None = options["group"]
        task: list[str] = options["task"]
        name = options["format"] or ("yaml" if file == "-" else SUFFIXES.get(Path(file).suffix.lower()))
        if name is None:
            raise CommandError(
                f"a file's name ends in .json, .yaml or .xlsx; or say --format {', '.join(FORMATS)}"
            )
        if file == "-" and name == "xlsx":
            raise CommandError("a workbook goes to a file: name one")
        user = acting_user(options["user"])
        tasks = tasks_for(user).order_by("name")
        if group is not None:
            if not Group.objects.filter(name=group).exists():
                raise CommandError(f"there is no group {group!r}")
            tasks = tasks.filter(groups__name=group)
        if task:
            tasks = tasks.filter(name__in=task)
            if missing := sorted(set(task) - set(tasks.values_list("name", flat=True))):
                raise CommandError(f"there is no task {', '.join(map(repr, missing))}")
        try:
            data = export_tasks(user, tasks, name)
            if file == "-":
                self.stdout.write(data.decode(), ending="")
            else:
                Path(file).write_bytes(data)
        except InvalidInput as error:
            raise CommandError(
                "; ".join(str(text) for texts in error.errors.values() for text in texts)
            ) from None
        except OSError as error:
            raise CommandError(str(error)) from None
        if file != "-":
            self.stderr.write(f"{tasks.count()} tasks in {file}")


def acting_user(name: str | None) -> User:
    """The user of this name, or the first that may do everything. Raises CommandError."""
    users = User.objects.filter(is_active=True)
    user = (
        users.filter(username=name).first()
        if name
        else users.filter(is_superuser=True).order_by("pk").first()
    )
    if user is None:
        raise CommandError(
            f"there is no active user {name!r}" if name else "there is no administrator; say --user"
        )
    return user
