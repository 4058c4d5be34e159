"""manage.py executions: history, what happens now, one execution and its output."""

import json
import time
from datetime import date, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from executions_app import archive, control
from executions_app.models import Execution
from executions_app.selectors import executions_for, log_of, may_read_log
from quartzflow.errors import NotAllowed
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.management.command import VerbCommand
from quartzflow.management.output import write_fields, write_rows
from quartzflow.permissions import User

COLUMNS = (
    "id",
    "task",
    "client_id",
    "status",
    "failure_reason",
    "scheduled_time",
    "start_time",
    "duration_ms",
)
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
WATCHED = 2000  # executions whose changes are followed at once


class Command(VerbCommand):
    help = (
        "Show executions, follow them as they happen, read the output of one, cancel some, read the archive."
    )
    examples = """
  manage.py executions list --task backup --status failure --since 24h
  manage.py executions tail --task backup          # goes on until Ctrl-C
  manage.py executions tail --json | jq .status
  manage.py executions log 4711
  manage.py executions cancel 4711 4712
  manage.py executions archive --check
  manage.py executions archive --day 2026-01-31 --kind outputs | jq -r .log.output
"""

    def add_verbs(self) -> None:
        listing = self.verb("list", self._list, "show the newest")
        tail = self.verb("tail", self._tail, "show each start and end as it happens, until Ctrl-C")
        show = self.verb("show", self._show, "show one in full")
        output = self.verb("log", self._log, "print the output that the server has of one")
        cancel = self.verb("cancel", self._cancel, "end some that wait or run")
        for verb in (listing, tail):
            verb.add_argument("--task", help="only of the task of this name or id")
            verb.add_argument("--host", help="only on this host")
            verb.add_argument(
                "--status",
                choices=[status.name.lower() for status in ExecutionStatus],
                help="only with this status",
            )
            verb.add_argument("--run", help="only of this run")
        listing.add_argument("--since", help="such as 30m, 24h, 7d or 2026-01-31T08:00:00Z")
        listing.add_argument("--limit", type=int, default=50, help="at most so many (%(default)s)")
        tail.add_argument(
            "--interval", type=float, default=1.0, help="seconds between two looks (%(default)s)"
        )
        for verb in (show, output):
            verb.add_argument("id", type=int)
        cancel.add_argument("ids", type=int, nargs="+", metavar="ID")
        archived = self.verb(
            "archive", self._archive, "show the files of what has left the database, or a day's lines"
        )
        archived.add_argument("--check", action="store_true", help="compare each file with its checksum")
        archived.add_argument("--day", type=date.fromisoformat, help="print its lines: 2026-01-31, in UTC")
        archived.add_argument(
            "--kind", choices=archive.KINDS, default=archive.EXECUTIONS, help="of the lines (%(default)s)"
        )
        archived.add_argument("--id", type=int, help="only the line of the execution of this number")

    def _list(self, since: str | None, limit: int, **rest: Any) -> None:
        if not 1 <= limit <= 100_000:
            raise CommandError("--limit must be between 1 and 100000")
        rows = chosen(**rest)
        if since:
            rows = rows.filter(scheduled_time__gte=moment(since))
        found = list(rows.order_by("-id")[:limit])
        write_rows(self.stdout, [shown(row) for row in found], COLUMNS, as_json=rest["json"])

    def _tail(self, interval: float, **rest: Any) -> None:
        follower = Follower(chosen(**rest))
        try:
            while True:
                for row in follower.step():
                    self.stdout.write(line(row, as_json=rest["json"]))
                self.stdout.flush()
                time.sleep(interval)
        except KeyboardInterrupt:
            return

    def _show(self, user: User, id: int, **rest: Any) -> None:
        from executions_app.api.views import ExecutionSerializer

        write_fields(self.stdout, ExecutionSerializer(find(user, id)).data, as_json=rest["json"])

    def _log(self, user: User, id: int, **rest: Any) -> None:
        execution = find(user, id)
        if not may_read_log(user, execution):
            raise NotAllowed
        found = log_of(execution)
        if rest["json"]:
            self.stdout.write(json.dumps(found, ensure_ascii=False))
            return
        self.stdout.write(found["output"], ending="")
        if found["error"]:
            self.stderr.write(found["error"], ending="")
        if found["truncated"]:
            self.stderr.write(f"cut: the host keeps all {found['size']} bytes")

    def _cancel(self, user: User, ids: list[int], **rest: Any) -> None:
        rows = [find(user, pk) for pk in ids]
        control.do_cancel_executions(user, rows)
        ended = Execution.objects.filter(pk__in=ids).order_by("id")
        write_rows(self.stdout, [shown(row) for row in ended], COLUMNS, as_json=rest["json"])

    def _archive(
        self, user: User, check: bool, day: date | None, kind: str, id: int | None, **rest: Any
    ) -> None:
        if not (user.has_perm("executions_app.view_execution") and user.has_perm("tasks_app.view_logs_task")):
            raise NotAllowed
        if day is not None:
            self._print_lines(day, kind, id)
            return
        rows = [
            {"file": file.path.name, "day": str(file.day), "kind": file.kind, "bytes": file.size}
            | ({"check": archive.check(file) or "ok"} if check else {})
            for file in archive.files()
        ]
        columns = ("file", "day", "kind", "bytes", *(["check"] if check else []))
        write_rows(self.stdout, rows, columns, as_json=rest["json"])
        if any(row.get("check", "ok") != "ok" for row in rows):
            raise CommandError("some files are not as they were written")

    def _print_lines(self, day: date, kind: str, id: int | None) -> None:
        if not archive.files(day, kind):
            raise CommandError(f"the archive has no {kind} of {day}")
        try:
            for found in archive.read(day, kind):
                if id in (None, found["id"]):
                    self.stdout.write(json.dumps(found, ensure_ascii=False))
        except archive.Damaged as error:
            raise CommandError(str(error)) from None


class Follower:
    """Tells of executions that are new, and of the changes of those that were not over."""

    def __init__(self, rows: QuerySet[Execution]) -> None:
        self._rows = rows
        self._last = rows.order_by("-id").values_list("id", flat=True).first() or 0
        live = rows.filter(status__in=LIVE).order_by("-id")[:WATCHED]
        self._open: dict[int, int] = dict(live.values_list("id", "status"))

    def step(self) -> list[Execution]:
        """What has happened since the last look, oldest first."""
        fresh = list(self._rows.filter(id__gt=self._last).order_by("id")[:WATCHED])
        known = list(Execution.objects.filter(pk__in=self._open)) if self._open else []
        changed = [row for row in known if row.status != self._open[row.pk]]
        if fresh:
            self._last = fresh[-1].pk
        for row in [*changed, *fresh]:
            self._open[row.pk] = row.status
            if row.status not in LIVE:
                del self._open[row.pk]
        return sorted([*changed, *fresh], key=lambda row: row.pk)


def chosen(
    user: User, task: str | None, host: str | None, status: str | None, run: str | None, **rest: Any
) -> QuerySet[Execution]:
    """The executions that the options name. Raises CommandError."""
    rows = executions_for(user)
    if task is not None:
        from tasks_app.management.commands.tasks import find as find_task

        rows = rows.filter(task=find_task(user, task))
    if host is not None:
        rows = rows.filter(client_id=host)
    if status is not None:
        rows = rows.filter(status=ExecutionStatus[status.upper()])
    if run is not None:
        rows = rows.filter(run_id=run)
    return rows


def find(user: User, pk: int) -> Execution:
    execution = executions_for(user).filter(pk=pk).first()
    if execution is None:
        raise CommandError(f"there is no execution {pk}")
    return execution


def moment(text: str) -> datetime:
    """From 30m, 24h, 7d (before now), or a moment with its time zone. Raises CommandError."""
    if text[:-1].isdecimal() and text[-1] in UNITS and len(text) < 8:
        return timezone.now() - timedelta(**{UNITS[text[-1]]: int(text[:-1])})
    try:
        at = parse_datetime(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise CommandError(f"--since {text!r}: write 30m, 24h, 7d or 2026-01-31T08:00:00Z")
    return at


def shown(execution: Execution) -> dict[str, Any]:
    return {
        "id": execution.pk,
        "task": execution.task_name,
        "client_id": execution.client_id,
        "status": ExecutionStatus(execution.status).name.lower(),
        "failure_reason": execution.failure_reason,
        "scheduled_time": execution.scheduled_time,
        "start_time": execution.start_time,
        "duration_ms": execution.duration,
    }


def line(execution: Execution, *, as_json: bool) -> str:
    """One line of the tail."""
    row = shown(execution)
    if as_json:
        return json.dumps(
            {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}, ensure_ascii=False
        )
    at = timezone.localtime().strftime("%H:%M:%S")
    took = "" if execution.duration is None else f" after {execution.duration} ms"
    why = f" ({row['failure_reason']})" if row["failure_reason"] else ""
    return f"{at}  {row['id']}  {row['task']}  {row['client_id'] or '-'}  {row['status']}{took}{why}"
