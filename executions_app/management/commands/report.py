"""manage.py report: a report built here and now."""

from argparse import ArgumentParser
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone, translation
from django.utils.dateparse import parse_date

from executions_app.reports.building import WRITERS
from executions_app.reports.checks import check_report
from executions_app.reports.choices import Days, Dimension, Format
from executions_app.reports.figures import count
from executions_app.reports.models import Report
from executions_app.reports.pdf import Unavailable
from executions_app.reports.selectors import chosen_of
from quartzflow.audit import record
from quartzflow.management.command import OperatorCommand, acting_user, add_user
from quartzflow.preferences import LANGUAGES


class Command(OperatorCommand):
    help = "Build a report on executions as an Excel workbook or PDF, here and now."
    examples = """
  manage.py report week.xlsx
  manage.py report month.pdf --days last_month --language en
  manage.py report may.xlsx --from 2026-05-01 --to 2026-05-31 --parts day,task --task backup --user kim
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        formats = ", ".join(f".{value}" for value in Format.values)
        parser.add_argument("file", type=Path, help=f"where to write it; its end says the format: {formats}")
        parser.add_argument("--days", choices=[value for value in Days.values if value != Days.CUSTOM])
        parser.add_argument("--from", dest="first", type=_day, help="the first day, instead of --days")
        parser.add_argument("--to", dest="last", type=_day, help="the last day")
        parser.add_argument("--parts", help=f"of {','.join(Dimension.values)} (default: all)")
        parser.add_argument("--task", help="only of the task of this name or id")
        parser.add_argument("--host", help="only of this host")
        parser.add_argument("--language", choices=LANGUAGES, default="zh-hans", help="(default: %(default)s)")
        parser.add_argument("--zone", help="the time zone of the days (default: the server's)")
        add_user(parser)

    def work(self, **options: Any) -> None:
        from tasks_app.management.commands.tasks import find as find_task

        user, file = acting_user(options["user"]), options["file"]
        data: dict[str, Any] = {"format": file.suffix.lstrip(".").lower(), "language": options["language"]}
        given = {
            "days": options["days"], "from": options["first"], "to": options["last"], "zone": options["zone"],
            "client_id": options["host"], "dimensions": options["parts"] and options["parts"].split(","),
        }  # fmt: skip
        data |= {name: value for name, value in given.items() if value is not None}
        if options["task"]:
            data["task_id"] = find_task(user, options["task"]).pk
        cleaned, period = check_report(user, data)
        report = Report(owner=user, first=period.first, last=period.last, **cleaned)
        figures = count(user, period, chosen_of(report))
        try:
            with translation.override(report.language), timezone.override(report.zone):
                WRITERS[report.format](figures, report, file)
        except (OSError, Unavailable) as error:
            raise CommandError(str(error)) from None
        record(
            user, "report.build", None, {**cleaned, "from": period.first, "to": period.last}, name=str(report)
        )
        self.stdout.write(f"{file}: {figures.total.total} executions from {period.first} to {period.last}")


def _day(text: str) -> date:
    found = parse_date(text)
    if found is None:
        raise ValueError(text)
    return found
