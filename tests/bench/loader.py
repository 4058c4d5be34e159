"""A big installation, made fast: groups, hosts and tasks by the ORM, executions by one statement of the database's own.

Executions lie evenly over the last DAYS days, oldest first, as they would have come. Most went well.
"""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, models, transaction
from django.utils import timezone
from guardian.shortcuts import assign_perm

from executions_app.choices import ExecutionType, FailureReason
from executions_app.models import Execution
from groups_app.choices import ClientStatus
from groups_app.models import Client, Group
from quartzflow.execution_status import ExecutionStatus
from quartzflow.models import AuditEntry
from tasks_app.models import Task, TaskGroup

GROUPS = 50
DAYS = 90
LIVE_ROWS = 500  # the newest that still wait or run
CHUNK = 1000


def load(*, tasks: int, clients: int, executions: int) -> None:
    """Fill an empty, migrated database."""
    with transaction.atomic():
        groups = Group.objects.bulk_create(
            [Group(name=f"group-{n:03}", tags="prod,web") for n in range(GROUPS)]
        )
        now = timezone.now()
        Client.objects.bulk_create(
            [
                Client(
                    client_id=f"host-{n:05}",
                    hostname=f"host-{n:05}.example.com",
                    ip=f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}",
                    group=groups[n % GROUPS],
                    status=ClientStatus.ONLINE if n % 10 else ClientStatus.OFFLINE,
                    last_heartbeat=now,
                    labels={"rack": str(n % 40)},
                )
                for n in range(clients)
            ],
            batch_size=CHUNK,
        )
        made = Task.objects.bulk_create(
            [
                Task(
                    name=f"task-{n:05}",
                    description=f"job number {n}",
                    executor_config={"command": "date"},
                    cron_expr="0 3 * * *",
                    status=1 if n % 5 else 0,
                )
                for n in range(tasks)
            ],
            batch_size=CHUNK,
        )
        TaskGroup.objects.bulk_create(
            [TaskGroup(task=task, group=groups[n % GROUPS]) for n, task in enumerate(made)], batch_size=CHUNK
        )
        AuditEntry.objects.bulk_create(
            [
                AuditEntry(at=now, action="task.update", actor_name="admin", object_type="tasks_app.task",
                           object_id=str(n), object_name=f"task-{n:05}")
                for n in range(tasks)
            ],
            batch_size=CHUNK,
        )  # fmt: skip
        User.objects.create_superuser("admin", password=None)
        few = User.objects.create_user("few")  # who may see some tasks and no more
        for task in made[:20]:
            assign_perm("tasks_app.view_task", few, task)
    load_executions(executions, made[0].pk, tasks, clients)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def load_executions(count: int, first_task: int, tasks: int, clients: int) -> None:
    """One INSERT … SELECT; on PostgreSQL its indexes are made afterwards, which is several times faster."""
    table = Execution._meta.db_table
    chosen = _columns(count, first_task, tasks, clients)
    names = ", ".join(connection.ops.quote_name(name) for name in chosen)
    numbers = (
        f"generate_series(1::bigint, {count}) AS numbers(i)"
        if connection.vendor == "postgresql"
        else f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n)"
    )
    with transaction.atomic(), connection.cursor() as cursor:
        indexes: list[tuple[str, str]] = []
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s AND indexdef NOT LIKE %s",
                [table, "%UNIQUE%"],
            )
            indexes = cursor.fetchall()
            for name, _ in indexes:
                cursor.execute(f"DROP INDEX {connection.ops.quote_name(name)}")
        cursor.execute(f"INSERT INTO {table} ({names}) SELECT {', '.join(chosen.values())} FROM {numbers}")
        for _, definition in indexes:
            cursor.execute(definition)


def _columns(count: int, first_task: int, tasks: int, clients: int) -> dict[str, str]:
    """column → SQL expression of the row's number `i`."""
    postgresql = connection.vendor == "postgresql"
    begin = timezone.now() - timedelta(days=DAYS)
    step = DAYS * 86400 / count  # seconds between two executions
    if postgresql:
        when = f"timestamptz '{begin.isoformat()}' + i * interval '{step:.6f} seconds'"
        started, ended = f"{when} + interval '1 second'", f"{when} + interval '3 seconds'"
    else:
        text = "strftime('%Y-%m-%d %H:%M:%f', {at:.6f} + i * {step:.9f}, 'unixepoch')"
        when, started, ended = (text.format(at=begin.timestamp() + more, step=step) for more in (0, 1, 3))
    task = f"{first_task} + (i * 7919) % {tasks}"
    host = f"(i * 104729) % {clients}"
    pad = "lpad(({0})::text, 5, '0')" if postgresql else "printf('%05d', {0})"
    is_live = f"i > {count - LIVE_ROWS}"
    status = (
        f"CASE WHEN {is_live} THEN {ExecutionStatus.PENDING.value} + i % 2"
        f" WHEN i % 100 < 92 THEN {ExecutionStatus.SUCCESS.value}"
        f" WHEN i % 100 < 97 THEN {ExecutionStatus.FAILURE.value}"
        f" WHEN i % 100 < 99 THEN {ExecutionStatus.TIMEOUT.value} ELSE {ExecutionStatus.CANCELLED.value} END"
    )
    given = {
        "execution_id": "'exec_' || i",
        "run_id": "'run_' || (i / 10)",
        "task_id": task,
        "task_name": f"'task-' || {pad.format(f'(i * 7919) % {tasks}')}",
        "client_id": f"'host-' || {pad.format(host)}",
        "group_id": "1",
        "execution_type": f"CASE WHEN i % 50 = 0 THEN {ExecutionType.MANUAL.value} ELSE 1 END",
        "status": status,
        "scheduled_time": when,
        "created_at": when,
        "accepted_at": when,
        "start_time": started,
        "end_time": f"CASE WHEN {is_live} THEN NULL ELSE {ended} END",
        "duration": "2000 + i % 1000",
        "exit_code": "0",
        "failure_reason": f"CASE WHEN i % 100 BETWEEN 92 AND 96 THEN '{FailureReason.EXIT_CODE.value}' ELSE '' END",
    }
    columns: dict[str, str] = {}
    for field in Execution._meta.concrete_fields:
        if not field.primary_key:
            columns[field.column] = given.get(field.column) or _default(field)
    return columns


def _default(field: models.Field) -> str:
    """What a column has where nothing is said, as an SQL literal."""
    value: Any = None if field.null else field.get_default()
    prepared = field.get_db_prep_save(value, connection)
    if prepared is None:
        return "NULL"
    if isinstance(value, dict | list):
        return "'{}'" if isinstance(value, dict) else "'[]'"
    if isinstance(prepared, bool):
        return str(prepared).upper()
    return f"'{prepared}'" if isinstance(prepared, str) else str(prepared)
