"""Whether the tables agree with each other, and what mends them where they do not (after a crash, a restore, by hand).

Every check finds rows that no working part of the product leaves behind, and says how they are mended, if it knows.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connection, models, transaction
from django.db.models import F, Max, Q
from django.db.models.functions import Coalesce
from django_celery_beat.models import PeriodicTask
from guardian.models import GroupObjectPermission, UserObjectPermission

from groups_app.choices import ClientStatus
from groups_app.models import Bridge, Client
from quartzflow.audit import record, verify
from quartzflow.execution_status import LIVE, TERMINAL, ExecutionStatus
from tasks_app import periodic
from tasks_app.choices import ScheduleType, TaskStatus
from tasks_app.configs import current_version
from tasks_app.models import ConfigChange, ConfigVersion, Task

from .choices import FailureReason
from .control import cancel_live
from .instructions import load_tasks
from .models import DependencyEvent, Execution
from .placement import end_strays

MOST = 10_000  # rows of one kind that one look finds, and mends
EXAMPLES = 5


@dataclass(frozen=True)
class Check:
    """One thing that must hold."""

    name: str
    text: str  # what is wrong where it does not
    find: Callable[[], Iterable[Any]]
    fix: Callable[[list[Any]], None] | None = None  # None: it takes somebody's decision


@dataclass(frozen=True)
class Finding:
    """What a check has found."""

    check: str
    text: str
    count: int  # at most MOST
    examples: list[str]
    fixable: bool
    fixed: bool


def check_all(*, fix: bool = False) -> list[Finding]:
    """Run every check; with `fix`, mend what can be mended, each check's rows in a transaction, and record it."""
    found = []
    for check in CHECKS:
        rows = list(islice(check.find(), MOST))
        if not rows:
            continue
        mending = fix and check.fix is not None
        if mending and check.fix is not None:
            with transaction.atomic():
                check.fix(rows)
                changes = {"check": check.name, "count": len(rows), "examples": _examples(rows)}
                record("system", "consistency.fix", None, changes, name=check.name)
        found.append(
            Finding(check.name, check.text, len(rows), _examples(rows), check.fix is not None, mending)
        )
    return found


def _examples(rows: list[Any]) -> list[str]:
    return [
        f"{row._meta.model_name} {row.pk}: {row}" if isinstance(row, models.Model) else str(row)
        for row in rows[:EXAMPLES]
    ]


# --- The schedule's rows ---


def _without_schedule_row() -> Iterable[Task]:
    return Task.objects.filter(periodic_task=None).exclude(schedule_type=ScheduleType.NONE)


def _schedule_rows_without_task() -> Iterable[PeriodicTask]:
    rows: Iterable[PeriodicTask] = PeriodicTask.objects.filter(
        task=periodic.FIRE_TASK, name__startswith="task:", quartz_task=None
    )
    return rows


def _switched_otherwise() -> Iterable[Task]:
    on = Q(status=TaskStatus.ENABLED, periodic_task__enabled=False)
    off = Q(status=TaskStatus.DISABLED, periodic_task__enabled=True)
    return Task.objects.filter(on | off)


def _save_schedule_rows(tasks: list[Task]) -> None:
    for task in tasks:
        periodic.save_periodic_task(task)


def _delete(rows: list[Any]) -> None:
    for row in rows:
        row.delete()


# --- Configuration ---


def _versions_ahead() -> Iterable[str]:
    newest = current_version()
    for model in (Task, ConfigChange):
        highest = model._default_manager.aggregate(highest=Max("version"))["highest"] or 0
        if highest > newest:
            yield f"{model._meta.db_table} has version {highest}, the newest is {newest}"


def _raise_version(_rows: list[Any]) -> None:
    tables = (Task.objects, ConfigChange.objects)
    highest = max(table.aggregate(highest=Max("version"))["highest"] or 0 for table in tables)
    ConfigVersion.objects.update_or_create(pk=1, defaults={"version": highest + 1})


def _nowhere() -> Iterable[Task]:
    return Task.objects.filter(is_global=False, groups=None)


# --- Executions ---


def _waiting() -> models.QuerySet[Execution]:
    return Execution.objects.filter(
        Q(status=ExecutionStatus.PENDING) | Q(next_retry_at__isnull=False), status__in=LIVE
    ).exclude(client_id="")


def _strays() -> Iterable[Execution]:
    rows = list(_waiting().order_by("id")[:MOST])
    tasks = load_tasks({row.task_id for row in rows})
    groups = dict(
        Client.objects.filter(client_id__in={row.client_id for row in rows}).values_list(
            "client_id", "group_id"
        )
    )
    for row in rows:
        meant = tasks[row.task_id].group_ids if row.task_id in tasks else None
        if meant is not None and row.client_id in groups and groups[row.client_id] not in meant:
            yield row


def _end_strays(rows: list[Execution]) -> None:
    end_strays(rows, load_tasks({row.task_id for row in rows}))


def _of_deleted_tasks() -> Iterable[Execution]:
    return Execution.objects.filter(status__in=LIVE).exclude(task_id__in=Task.objects.values("pk"))


def _of_unknown_hosts() -> Iterable[Execution]:
    return (
        Execution.objects.filter(status__in=LIVE)
        .exclude(client_id="")
        .exclude(client_id__in=Client.objects.values("client_id"))
    )


def _cancel(reason: FailureReason) -> Callable[[list[Execution]], None]:
    def cancel(rows: list[Execution]) -> None:
        cancel_live(Execution.objects.filter(pk__in=[row.pk for row in rows]), reason, None)

    return cancel


def _ended_without_time() -> Iterable[Execution]:
    return Execution.objects.filter(status__in=TERMINAL, end_time=None)


def _set_end_time(rows: list[Execution]) -> None:
    Execution.objects.filter(pk__in=[row.pk for row in rows]).update(
        end_time=Coalesce(F("start_time"), F("scheduled_time"))
    )


def _events_of_deleted_tasks() -> Iterable[DependencyEvent]:
    return DependencyEvent.objects.exclude(state=DependencyEvent.State.DONE).exclude(
        task_id__in=Task.objects.values("pk")
    )


def _close_events(rows: list[DependencyEvent]) -> None:
    DependencyEvent.objects.filter(pk__in=[row.pk for row in rows]).update(state=DependencyEvent.State.DONE)


# --- Hosts, rights, the database itself ---


def _on_dead_bridges() -> Iterable[Client]:
    return Client.objects.filter(status=ClientStatus.ONLINE).exclude(
        bridge_id__in=Bridge.objects.values("bridge_id")
    )


def _take_offline(rows: list[Client]) -> None:
    Client.objects.filter(pk__in=[row.pk for row in rows]).update(status=ClientStatus.OFFLINE, running=0)


def _orphaned_permissions() -> Iterable[Any]:
    for table in (UserObjectPermission, GroupObjectPermission):
        for content_type_id in table.objects.order_by().values_list("content_type", flat=True).distinct():
            model = ContentType.objects.get_for_id(content_type_id).model_class()
            rows = table.objects.filter(content_type_id=content_type_id).order_by("pk")
            if model is None:
                yield from rows
                continue
            # The keys are kept as text.
            living = set(map(str, model._default_manager.values_list("pk", flat=True)))
            yield from (row for row in rows if row.object_pk not in living)


def _damage() -> Iterable[str]:
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA quick_check(20)")
        yield from (line for (line,) in cursor.fetchall() if line != "ok")
        cursor.execute("PRAGMA foreign_key_check")
        for table, row, parent, _key in cursor.fetchall()[:20]:
            yield f"row {row} of {table} refers to a row of {parent} that is not there"


def _broken_audit() -> Iterable[str]:
    for broken in verify():
        yield f"{'the end' if broken.entry_id is None else f'entry {broken.entry_id}'}: {broken.problem}"


CHECKS = (
    Check("database", "the database file is damaged", _damage),
    Check("schedule_row_missing", "tasks have no schedule row", _without_schedule_row, _save_schedule_rows),
    Check("schedule_row_orphaned", "schedule rows belong to no task", _schedule_rows_without_task, _delete),
    Check(
        "schedule_row_switched",
        "schedule rows are not switched as their tasks",
        _switched_otherwise,
        _save_schedule_rows,
    ),
    Check("config_version", "there are versions after the newest one", _versions_ahead, _raise_version),
    Check("task_nowhere", "tasks are bound to no group and not global: they run nowhere", _nowhere),
    Check("execution_stray", "executions wait on hosts outside their tasks' groups", _strays, _end_strays),
    Check(
        "execution_task",
        "executions of deleted tasks wait or run",
        _of_deleted_tasks,
        _cancel(FailureReason.TASK_DELETED),
    ),
    Check(
        "execution_host",
        "executions wait or run on hosts that are not known",
        _of_unknown_hosts,
        _cancel(FailureReason.HOST_MOVED),
    ),
    Check("execution_end", "executions have ended without a time", _ended_without_time, _set_end_time),
    Check(
        "dependency_event", "deleted tasks wait for others to end", _events_of_deleted_tasks, _close_events
    ),
    Check("host_bridge", "hosts are online on bridges that are gone", _on_dead_bridges, _take_offline),
    Check("permission", "rights on single objects outlive the objects", _orphaned_permissions, _delete),
    Check("audit", "the audit log is not as it was written", _broken_audit),
)
