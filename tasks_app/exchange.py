"""Tasks as rows of a file, and back (FR-1.1): everything by name, so that a file fits another installation.

An import is all or nothing. A dry run does the same work and takes all of it back: what it says is what would be.
"""

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.db import models, transaction
from django.utils.translation import gettext as _

from groups_app.selectors import groups_for
from quartzflow.audit import MASK, masked, record
from quartzflow.errors import InvalidInput, QuartzError
from quartzflow.permissions import User, visible

from . import actions
from .checks import EDITABLE, check_task, hidden_groups
from .choices import DependencyCondition, ExecutorType, TaskStatus, VersionAction
from .dependencies import hidden_parents
from .formats import Row, read_rows, write_rows
from .models import Calendar, Task, TaskDependency
from .versions import MOMENTS, PARTED, Definition, definitions, named, plain, shown, without_secrets

KEY = "tasks"
MAX_TASKS = 500  # of one import: it is one transaction, which on SQLite lets nobody else write
CODES = {"status": TaskStatus, "executor_type": ExecutorType}
LINKS = {"groups": "group_ids", "calendar": "calendar_id", "dependencies": "dependencies"}
COLUMN_OF = {target: name for name, target in LINKS.items()}
TEXTS = {field.name for field in Task._meta.get_fields() if isinstance(field, models.CharField)}
# column → how a sheet's cell holds it
COLUMNS: dict[str, type] = {
    **dict.fromkeys(EDITABLE, str),
    "executor_config": dict, "labels": dict, "selector": dict, "groups": list, "calendar": str, "dependencies": list,
}  # fmt: skip
# An empty cell is an empty value here; in any other column it leaves the value as it is.
CLEARABLE: dict[str, Any] = {
    "description": "", "cron_expr": "", "interval_seconds": None, "run_at": None, "start_at": None, "end_at": None,
    "wave_size": "", "labels": {}, "selector": {}, "groups": [], "calendar": None, "dependencies": [],
}  # fmt: skip


# --- out ---


def export_tasks(user: User, tasks: Iterable[Task], format_name: str) -> bytes:
    """A file of these tasks, which the user may see; audited. Values under secret names are masked."""
    tasks = list(tasks)
    rows = rows_of(user, tasks)
    if format_name == "xlsx":
        rows = [
            {**row, "dependencies": [f"{p['condition']}: {p['task']}" for p in row["dependencies"]]}
            for row in rows
        ]
    data = write_rows(rows, format_name, KEY, COLUMNS)
    record(user, "task.export", None, {"format": format_name, "count": len(tasks)})
    return data


def rows_of(user: User, tasks: Sequence[Task]) -> list[Row]:
    """The tasks' definitions by name. Of the tasks that one waits for, those that the user may see."""
    found = definitions(tasks)
    parents = {parent["task_id"] for definition in found.values() for parent in definition["dependencies"]}
    seen = set(visible(user, Task.objects.all()).filter(pk__in=parents).values_list("pk", flat=True))
    rows = []
    for task in tasks:
        definition = found[task.pk]
        kept = [parent for parent in definition["dependencies"] if parent["task_id"] in seen]
        row = without_secrets(named({**definition, "dependencies": kept}))
        row |= {name: codes(row[name]).name.lower() for name, codes in CODES.items()}
        rows.append({name: row[name] for name in COLUMNS})
    return rows


# --- in ---


def read_tasks(data: bytes, format_name: str) -> list[Row]:
    """The rows of a file, for do_import. Raises InvalidInput for `file`, TooLarge."""
    rows = read_rows(data, format_name)
    return from_cells(rows) if format_name == "xlsx" else rows


ACTIONS = ("created", "changed", "unchanged", "refused")


@dataclass
class Outcome:
    """What an import does, or would do, with one row."""

    number: int  # from 1
    name: str
    action: str = "refused"  # of ACTIONS
    changes: dict[str, list[Any]] = field(default_factory=dict)  # field → [before, after]
    errors: dict[str, list[str]] = field(default_factory=dict)


Update = Callable[..., Task]  # executions_app.control.do_update_task


def do_import(
    user: User, rows: Sequence[Row], update: Update, *, dry_run: bool, force: bool = False
) -> list[Outcome]:
    """Create and change tasks by the rows of a file, found by name; each as its own write would be: checked, audited.

    Keys that a row leaves out keep their value (a new task: the default). Returns an outcome for each row; a dry run,
    or one refused row, leaves everything as it was. Raises InvalidInput for more rows than MAX_TASKS.
    """
    if len(rows) > MAX_TASKS:
        raise InvalidInput({"file": [_("At most %(count)s tasks at once.") % {"count": MAX_TASKS}]})
    outcomes = [
        Outcome(number, str(row.get("name") or "").strip()) for number, row in enumerate(rows, start=1)
    ]
    with transaction.atomic():
        work = _Import(user, update, force)
        for index in work.order(rows, outcomes):
            try:
                work.take(rows[index], outcomes[index])
            except InvalidInput as error:
                outcomes[index].errors = {
                    COLUMN_OF.get(name, name): [str(text) for text in texts]
                    for name, texts in error.errors.items()
                }
            except QuartzError as error:
                outcomes[index].errors = {"non_field_errors": [str(error.message)]}
        if dry_run or any(outcome.errors for outcome in outcomes):
            transaction.set_rollback(True)
        else:
            record(user, "task.import", None, counts(outcomes))
    return outcomes


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many rows came to which end."""
    return {name: sum(outcome.action == name for outcome in outcomes) for name in ACTIONS}


class _Import:
    """One import: what names stand for, and what is done row by row."""

    def __init__(self, user: User, update: Update, force: bool) -> None:
        self.user, self.update, self.force = user, update, force
        self.groups: dict[str, int] = dict(groups_for(user).values_list("name", "pk"))
        self.calendars: dict[str, int] = dict(visible(user, Calendar.objects.all()).values_list("name", "pk"))

    def order(self, rows: Sequence[Row], outcomes: list[Outcome]) -> list[int]:
        """The rows' indices, a task after those of the file that it waits for; what cannot be placed gets its error."""
        places: dict[str, int] = {}
        for index, outcome in enumerate(outcomes):
            if not outcome.name or not isinstance(rows[index].get("name"), str):
                outcome.errors = {"name": [_("This field is required.")]}
            elif outcome.name in places:
                outcome.errors = {"name": [_("It is in the file twice.")]}
            else:
                places[outcome.name] = index
        # Edges of tasks that the file does not name stay, and those to tasks that one may not see: they count, too.
        graph: dict[str, set[str]] = {}
        seen = set(visible(self.user, Task.objects.all()).values_list("name", flat=True))
        for child, parent in TaskDependency.objects.values_list("task__name", "parent__name"):
            if child not in places or "dependencies" not in rows[places[child]] or parent not in seen:
                graph.setdefault(child, set()).add(parent)
        for name, index in places.items():
            parents = rows[index].get("dependencies")
            found = [_parent(item)[0] for item in parents] if isinstance(parents, list) else []
            graph.setdefault(name, set()).update(found)
        try:
            names = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            path = " → ".join(name if name in seen or name in places else "…" for name in error.args[1])
            for name in set(error.args[1]) & set(places):
                text = _("The tasks would wait for each other: %(path)s.") % {"path": path}
                outcomes[places[name]].errors = {"dependencies": [text]}
            names = list(places)
        return [places[name] for name in names if name in places and not outcomes[places[name]].errors]

    def take(self, row: Row, outcome: Outcome) -> None:
        """Create or change the row's task. Raises QuartzError."""
        task = visible(self.user, Task.objects.select_related("calendar")).filter(name=outcome.name).first()
        data, errors = self._data(row, task)
        if errors:
            raise InvalidInput(errors | self._further_errors(task, data, errors))
        if task is None:
            actions.do_create_task(self.user, data, action=VersionAction.IMPORT)
            outcome.action = "created"
            return
        before = definitions([task])[task.pk]
        after = self._checked(task, data, before)
        changed = [name for name in after if before[name] != after[name]]
        if changed:
            self.update(self.user, task, data, force=self.force, action=VersionAction.IMPORT)
            was, now = shown(self.user, [before, after])
            outcome.changes = {name: [masked(was[name]), masked(now[name])] for name in changed}
        outcome.action = "changed" if changed else "unchanged"

    def _checked(self, task: Task, data: dict[str, Any], before: Definition) -> Definition:
        """The task's definition as `data` would make it, without writing it."""
        probe = copy.copy(task)
        links = check_task(self.user, probe, dict(data))
        after = {**before, **{name: plain(getattr(probe, name)) for name in EDITABLE}}
        if links.groups is not None:
            groups = sorted(links.groups, key=lambda group: group.name)
            after["groups"] = [{"id": group.pk, "name": group.name} for group in groups]
        if links.parents is not None:
            names = dict(
                Task.objects.filter(pk__in=[p.task_id for p in links.parents]).values_list("pk", "name")
            )
            after["dependencies"] = [
                {"task_id": parent.task_id, "name": names[parent.task_id], "condition": parent.condition}
                for parent in sorted(links.parents, key=lambda parent: parent.task_id)
            ]
        calendar = probe.calendar
        after["calendar"] = {"id": calendar.pk, "name": calendar.name} if calendar else None
        return after

    def _further_errors(self, task: Task | None, data: dict[str, Any], known: Any) -> dict[str, list[Any]]:
        """What is wrong with the rest of a row, so that its author sees all at once."""
        try:
            check_task(self.user, copy.copy(task) if task else Task(), dict(data))
        except InvalidInput as error:
            return {
                name: texts for name, texts in error.errors.items() if COLUMN_OF.get(name, name) not in known
            }
        return {}

    def _data(self, row: Row, task: Task | None) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        """The row in the terms of tasks_app.actions, and what cannot be put into them."""
        data: dict[str, Any] = {}
        errors: dict[str, list[Any]] = {}
        zone = row.get("timezone") or (task.timezone if task else "")
        for name, given in row.items():
            if name not in COLUMNS:
                errors[name] = [_("Unknown field.")]
                continue
            try:
                data[LINKS.get(name, name)] = self._value(name, given, zone, task)
            except ValueError as error:
                errors[name] = [str(error)]
        return data, errors

    def _value(self, name: str, given: Any, zone: Any, task: Task | None) -> Any:
        """Raises ValueError with words for the user."""
        if name in CODES:
            return _code(name, given)
        if name in MOMENTS:
            return _moment(given, zone)
        if name == "groups":
            return self._ids(given, self._groups(task), _("There is no group %(ids)s."))
        if name == "calendar":
            known = self.calendars | (
                {task.calendar.name: task.calendar.pk} if task and task.calendar else {}
            )
            return self._ids([given], known, _("There is no such calendar."))[0] if given else None
        if name == "dependencies":
            return self._parents(given, task)
        if name in PARTED:
            return _unmasked(given, getattr(task, name) if task else None)
        return str(given) if name in TEXTS and type(given) in (int, float) else given

    def _groups(self, task: Task | None) -> dict[str, int]:
        """Those that the row may name: what the user may see, and what its task is bound to."""
        hidden = hidden_groups(self.user, task) if task else []
        return {**self.groups, **{group.name: group.pk for group in hidden}}

    def _ids(self, given: Any, known: dict[str, int], missing: str) -> list[int]:
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise ValueError(_("Must be a list of names."))
        if unknown := [name for name in given if name not in known]:
            raise ValueError(missing % {"ids": ", ".join(unknown)})
        return [known[name] for name in given]

    def _parents(self, given: Any, task: Task | None) -> list[dict[str, Any]]:
        wanted = [_parent(item) for item in given] if isinstance(given, list) else [("", "")]
        if ("", "") in wanted:
            raise ValueError(
                _("Must be a list of tasks' names, each with the condition if it is not success.")
            )
        rows = visible(self.user, Task.objects.all()).filter(name__in=[name for name, _condition in wanted])
        hidden = hidden_parents(self.user, task) if task else []
        known = dict(rows.values_list("name", "pk")) | {link.parent.name: link.parent_id for link in hidden}
        if unknown := [name for name, _condition in wanted if name not in known]:
            raise ValueError(_("There is no task %(ids)s.") % {"ids": ", ".join(unknown)})
        return [{"task_id": known[name], "condition": condition} for name, condition in wanted]


def from_cells(rows: Iterable[Row]) -> list[Row]:
    """Rows of a sheet as rows of a list: lists and objects out of their texts, empty cells as COLUMNS says.

    Raises InvalidInput naming the row.
    """
    found = []
    for number, row in enumerate(rows, start=2):  # the sheet's own number: its first row holds the names
        new: Row = {}
        for name, value in row.items():
            if value in (None, ""):
                if name in CLEARABLE:
                    new[name] = copy.copy(CLEARABLE[name])
                continue
            try:
                new[name] = _from_cell(name, value)
            except ValueError as error:
                where = _("Row %(number)s, %(name)s: %(error)s")
                raise InvalidInput(
                    {"file": [where % {"number": number, "name": name, "error": error}]}
                ) from None
        found.append(new)
    return found


def _from_cell(name: str, value: Any) -> Any:
    kind = COLUMNS.get(name)
    if kind is dict:
        try:
            return json.loads(str(value))
        except (ValueError, RecursionError):
            raise ValueError(
                _("must be JSON, such as %(example)s") % {"example": '{"command": "date"}'}
            ) from None
    if kind is list:
        lines = [line.strip() for line in str(value).splitlines() if line.strip()]
        return [_from_line(line) for line in lines] if name == "dependencies" else lines
    if name in TEXTS:
        return str(value) if type(value) in (int, float) else value
    if isinstance(value, str) and value.strip().isdecimal():  # of a column formatted as text
        return int(value)
    return (
        {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value
    )


def _from_line(line: str) -> Any:
    """`failure: name`, or the name alone."""
    condition, _colon, name = line.partition(": ")
    return (
        {"task": name, "condition": condition} if name and condition in DependencyCondition.values else line
    )


def _parent(item: Any) -> tuple[str, Any]:
    """A task's name, and after which end of it; both empty for what is no such thing."""
    if isinstance(item, str):
        return item, DependencyCondition.SUCCESS.value
    if isinstance(item, dict) and isinstance(item.get("task"), str) and not set(item) - {"task", "condition"}:
        return item["task"], item.get("condition", DependencyCondition.SUCCESS.value)
    return "", ""


def _code(name: str, given: Any) -> Any:
    """The code that a name such as "shell" stands for; anything else is left to the check of the task."""
    codes = CODES[name]
    if isinstance(given, str):
        if given.strip().upper() not in codes.__members__:
            names = ", ".join(member.lower() for member in codes.__members__)
            raise ValueError(_("One of %(names)s.") % {"names": names})
        return codes[given.strip().upper()].value
    return int(given) if isinstance(given, bool) and name == "status" else given


def _moment(given: Any, zone: Any) -> datetime | None:
    """A moment; one without a zone is the task's wall clock. Raises ValueError."""
    if given in (None, ""):
        return None
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else given
        if not isinstance(moment, datetime):
            raise ValueError
        return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(str(zone or settings.TIME_ZONE)))
    except (ValueError, ZoneInfoNotFoundError):
        raise ValueError(_("Must be a moment such as 2025-01-10T02:00:00Z.")) from None


def _unmasked(given: Any, current: Any) -> Any:
    """What an export masked is what the task has. Raises ValueError where there is nothing."""
    if given == MASK:
        if current in (None, "", {}, []):
            raise ValueError(_("A value that the export has masked is missing; write it in."))
        return current
    if isinstance(given, dict):
        known = current if isinstance(current, dict) else {}
        return {key: _unmasked(value, known.get(key)) for key, value in given.items()}
    return given
