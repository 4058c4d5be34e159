"""Search through the outputs of executions: a text, wherever it stands in them, upper or lower case alike.

1. The newest outputs are read one by one. A text that is common is found at once, and what the index does not hold
   yet is found, too.
2. When that is not enough, the index says where to look further. Everything it names is looked at before it is shown.
3. All of it together may take SECONDS. What was found by then is shown, with how far one has looked.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import BooleanField, F, Func, Q, QuerySet, Value
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from groups_app.models import Client
from quartzflow.errors import Code, InvalidInput, QuartzError
from quartzflow.execution_status import ExecutionStatus
from quartzflow.permissions import User
from tasks_app.selectors import tasks_for

from . import log_search_index as index
from .log_snippets import Finder, Snippet, snippets
from .models import Execution, ExecutionLog
from .retention import first_id_since
from .selectors import readable_tasks

SHORTEST, LONGEST = 2, 200  # characters
INDEXED = 3  # characters from which on the index helps
PAGE = 20  # hits
READ = 2000  # of the newest outputs, that are read one by one
READ_WITHOUT = 20_000  # the same where the index does not help
AT_A_TIME = 250  # outputs
SECONDS = 4.0
MOST_NAMED = 200  # tasks or hosts that a part of a name stands for
EARLY = timedelta(minutes=10)  # no execution is entered longer before its time
YEARS = 1970, 9000  # that a time may lie in: zones and databases end before the calendar does
FIELDS = ("q", "from", "to", "task", "client", "status", "before")


class TooLong(QuartzError):
    """It takes too long, and nothing was found in that time."""

    code = Code.SEARCH_TOO_LONG
    http_status = 503
    default_message = _lazy(
        "The search takes too long. Narrow the time range, or name a task, a host or a status."
    )


@dataclass(frozen=True)
class Wanted:
    """What to search for, checked."""

    text: str
    begin: datetime | None = None  # by the time that an execution was scheduled for
    end: datetime | None = None  # not included
    task: str = ""  # a number, or a part of a name
    client: str = ""  # a name, or a part of one
    statuses: frozenset[int] = frozenset()  # empty: all
    before: int | None = None  # only executions of lower numbers: the way on


@dataclass(frozen=True)
class Hit:
    """One execution whose output has the text."""

    execution: Execution
    count: int  # of places
    snippets: list[Snippet]  # the first of them


@dataclass
class Found:
    """Newest first."""

    hits: list[Hit] = field(default_factory=list)
    # Where to go on (`before`); None: that was all.
    further: int | None = None
    # When the oldest execution that was looked at was scheduled, if older ones have not been looked at.
    reached: datetime | None = None
    took_too_long: bool = False


def check_wanted(data: Mapping[str, str]) -> Wanted:
    """What a query asks for (FIELDS). Raises InvalidInput naming the fields."""
    errors: dict[str, list[Any]] = {name: [_("Unknown parameter.")] for name in data if name not in FIELDS}
    # PostgreSQL has no NUL in texts.
    errors |= {name: [_("Must be text.")] for name in ("q", "task", "client") if "\0" in data.get(name, "")}
    text = data.get("q", "").strip("\r\n")
    if len(text.strip()) < SHORTEST or len(text) > LONGEST:
        errors["q"] = [_("From %(low)s to %(high)s characters.") % {"low": SHORTEST, "high": LONGEST}]
    moments: dict[str, datetime | None] = {}
    for name in ("from", "to"):
        moments[name] = moment_of(data.get(name, ""))
        if data.get(name) and moments[name] is None:
            errors[name] = [_("A moment such as 2026-01-31T08:00:00Z.")]
    begin, end = moments["from"], moments["to"]
    if begin and end and end <= begin:
        errors["to"] = [_("Must be later than the beginning.")]
    statuses: frozenset[int] = frozenset()
    if status := data.get("status", ""):
        statuses = statuses_of(status)
        if not statuses:
            errors["status"] = [_("Not one of the choices.")]
    before = data.get("before", "")
    if before and not re.fullmatch(r"[1-9]\d{0,17}", before, re.ASCII):
        errors["before"] = [_("The number of an execution.")]
    if errors:
        raise InvalidInput(errors)
    return Wanted(
        text, begin, end, data.get("task", "").strip(), data.get("client", "").strip(), statuses,
        int(before) if before else None,
    )  # fmt: skip


def moment_of(text: str) -> datetime | None:
    """ISO 8601; without a zone it is in the user's. None for what is none."""
    try:
        moment = parse_datetime(text.strip())
    except ValueError:
        return None
    if moment is None or not YEARS[0] <= moment.year <= YEARS[1]:
        return None
    return timezone.make_aware(moment) if moment.tzinfo is None else moment


def statuses_of(text: str) -> frozenset[int]:
    """A code, a name, or "bad" for those that failed or ran out of time; empty for nonsense."""
    if text == "bad":
        return frozenset({ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT})
    if text.upper() in ExecutionStatus.__members__:
        return frozenset({ExecutionStatus[text.upper()]})
    codes = {str(status.value): status.value for status in ExecutionStatus}
    return frozenset({codes[text]}) if text in codes else frozenset()


def search(user: User, wanted: Wanted, page: int = PAGE) -> Found:
    """What the user may read and has the text. Raises TooLong."""
    look = _Look(user, wanted, page)
    try:
        with _time_limit(look):
            look.newest()
            if look.goes_on:
                look.by_index()
    except _OutOfTime:
        look.out_of_time = True
    return look.result()


class _OutOfTime(Exception):
    """The database, or the whole of it, took too long."""


class _Look:
    """One search on its way, from the newest execution downwards."""

    def __init__(self, user: User, wanted: Wanted, page: int) -> None:
        self.wanted, self.page = wanted, page
        self.ends_at = time.monotonic() + SECONDS
        self.find = Finder(wanted.text)
        self.mode = index.mode()
        self.indexed = self.mode is not index.Mode.NONE and len(wanted.text) >= INDEXED
        self.since = first_id_since(wanted.begin - EARLY) if wanted.begin else 0
        self.rows = _filtered(user, wanted).filter(pk__gte=self.since)
        self.at = wanted.before or 2**63 - 1  # all that is not lower has been looked at
        self.over = False  # nothing is left below
        self.out_of_time = False
        self.pks: list[int] = []

    @property
    def goes_on(self) -> bool:
        return self.indexed and not self.over and len(self.pks) <= self.page

    def begin(self) -> None:
        """PostgreSQL: what a statement may take, until the transaction's end."""
        left = max(int((self.ends_at - time.monotonic()) * 1000), 1)
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(left)])

    def newest(self) -> None:
        """Read one by one."""
        for _turn in range((READ if self.indexed else READ_WITHOUT) // AT_A_TIME):
            part = list(
                self.rows.filter(pk__lt=self.at)
                .order_by("-pk")
                .values_list("pk", "output", "error_msg")[:AT_A_TIME]
            )
            for pk, output, error in part:
                self.at = pk
                if self._take(pk, output, error):
                    return
            if len(part) < AT_A_TIME:
                self.over = True
                return
            self._look_at_the_clock()

    def by_index(self) -> None:
        """Where the index says."""
        for pk, output, error in self._candidates():
            if self.find(output) or self.find(error):
                self.at = pk
                if self._take(pk, output, error):
                    return
        self.over = True

    def _take(self, pk: int, output: str, error: str) -> bool:
        """Whether there is now one more than a page."""
        if self.find(output) or self.find(error):
            self.pks.append(pk)
        return len(self.pks) > self.page

    def _look_at_the_clock(self) -> None:
        if time.monotonic() > self.ends_at:
            raise _OutOfTime

    def _candidates(self) -> Iterator[tuple[int, str, str]]:
        rows = self.rows.filter(pk__lt=self.at, indexed_at__isnull=False)
        columns = ("pk", "output", "error_msg")
        if connection.vendor == "postgresql":
            self.begin()
            left = self.page + 1 - len(self.pks)
            matching = _matching(rows, self.wanted.text, self.mode)
            yield from matching.order_by("-pk").values_list(*columns)[:left]
            return
        with index.newest_first(self.wanted.text, self.at, self.since) as cursor:
            while pks := [pk for (pk,) in cursor.fetchmany(AT_A_TIME)]:
                yield from rows.filter(pk__in=pks).order_by("-pk").values_list(*columns)
                self._look_at_the_clock()

    def result(self) -> Found:
        """Raises TooLong."""
        found = Found(took_too_long=self.out_of_time)
        if self.out_of_time and not self.pks:
            raise TooLong
        shown = self.pks[: self.page]
        if len(self.pks) > self.page:
            found.further = shown[-1]
        elif not self.over:
            found.further = self.at
            found.reached = (
                Execution.objects.filter(pk=self.at).values_list("scheduled_time", flat=True).first()
            )
        executions = Execution.objects.in_bulk(shown)
        logs = ExecutionLog.objects.in_bulk(shown)
        for pk in shown:
            if pk in executions and pk in logs:  # not taken away this moment
                count, lines = snippets(self.find, logs[pk].output, logs[pk].error_msg)
                found.hits.append(Hit(executions[pk], count, lines))
        return found


def _filtered(user: User, wanted: Wanted) -> QuerySet[ExecutionLog]:
    # By joins, and not "in (select …)", which SQLite would answer whole before it begins.
    rows = ExecutionLog.objects.all()
    tasks = readable_tasks(user)
    if tasks is not None:
        rows = rows.filter(execution__task__in=tasks)
    if wanted.begin:
        rows = rows.filter(execution__scheduled_time__gte=wanted.begin)
    if wanted.end:
        rows = rows.filter(execution__scheduled_time__lt=wanted.end)
    if wanted.statuses:
        rows = rows.filter(execution__status__in=wanted.statuses)
    if wanted.task.isdecimal():
        rows = rows.filter(execution__task_id=int(wanted.task[:18]))
    elif wanted.task:
        named = tasks_for(user).filter(name__icontains=wanted.task).order_by()
        rows = rows.filter(execution__task_id__in=list(named.values_list("pk", flat=True)[:MOST_NAMED]))
    if wanted.client:
        rows = rows.filter(execution__client_id__in=_hosts(wanted.client))
    return rows


def _hosts(text: str) -> list[str]:
    """The host of this name; else those that have it in their names."""
    rows = Client.objects.filter(Q(client_id__icontains=text) | Q(hostname__icontains=text))
    found = list(rows.values_list("client_id", flat=True)[:MOST_NAMED])
    return [text] if text in found or not found else found


def _matching(rows: QuerySet[ExecutionLog], text: str, mode: index.Mode) -> QuerySet[ExecutionLog]:
    """PostgreSQL: those that have the text."""
    if mode is index.Mode.WORDS:
        words = Func(
            Value(text), template=f"{index.WORDS_SQL} @@ phraseto_tsquery('simple', %(expressions)s)"
        )
        return rows.filter(_condition(words))
    pattern = Value("%" + re.sub(r"([\\%_])", r"\\\1", text) + "%")
    either = [
        Func(F(name), pattern, template="%(expressions)s", arg_joiner=" ILIKE ", output_field=BooleanField())
        for name in ("output", "error_msg")
    ]
    return rows.filter(Q(either[0]) | Q(either[1]))


def _condition(expression: Func) -> Func:
    expression.output_field = BooleanField()
    return expression


class _time_limit:  # noqa: N801 - used as a context manager
    """Whatever the database does within takes until the search's end, and not longer."""

    def __init__(self, look: _Look) -> None:
        self.look = look
        self.atomic = transaction.atomic()

    def __enter__(self) -> None:
        if connection.vendor == "postgresql":
            self.atomic.__enter__()
            self.look.begin()
        else:
            connection.ensure_connection()
            connection.connection.set_progress_handler(self._late, 50_000)

    def _late(self) -> bool:
        return time.monotonic() > self.look.ends_at

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if connection.vendor == "postgresql":
            self.atomic.__exit__(kind, error, traceback)
        else:
            connection.connection.set_progress_handler(None, 0)
        if isinstance(error, OperationalError) and _is_timeout(error):
            raise _OutOfTime from error


def _is_timeout(error: OperationalError) -> bool:
    """Whether the database gave up because of the time limit."""
    return getattr(error.__cause__, "sqlstate", "") == "57014" or str(error) == "interrupted"
