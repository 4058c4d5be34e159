"""A big installation, made fast: groups, hosts and tasks by the ORM, executions by one statement of the database's own.

Executions lie evenly over the last DAYS days, oldest first, as they would have come. Most went well. Every task runs on
a host of its own, except that one in five executions is of one busy task on one busy host, which has failed long ago
only, and that one small group has a single host.
"""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group as Role
from django.contrib.auth.models import User
from django.db import connection, models, transaction
from django.utils import timezone
from guardian.shortcuts import assign_perm

from executions_app.choices import ExecutionType, FailureReason
from executions_app.models import DailyStats, Execution
from groups_app.choices import ClientStatus
from groups_app.models import Client, Group
from quartzflow.execution_status import ExecutionStatus
from quartzflow.models import AuditEntry
from tasks_app.models import Task, TaskGroup

GROUPS = 50
DAYS = 90
LIVE_ROWS = 500  # the newest that still wait or run
BUSY = 3  # the number of the busy task, and of its host
BUSY_SHARE = 5  # one in so many executions
BUSY_FAILED = 100  # it failed in the oldest one in so many of the whole time
SEEN = 2000  # tasks that the user `many` may see
AUDITED = 100  # entries of the audit log for each task
CHUNK = 1000


def _group_of(host: int) -> int:
    """The last group has one host only."""
    group = host % GROUPS
    return 0 if group == GROUPS - 1 and host >= GROUPS else group


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
                    group=groups[_group_of(n)],
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
        User.objects.create_superuser("admin", password=None)
        few = User.objects.create_user("few")  # who may see some tasks and no more
        for task in made[:20]:
            assign_perm("tasks_app.view_task", few, task)
        many = Role.objects.create(name="many")  # a role that may see more tasks than a query can name
        User.objects.create_user("many").groups.add(many)
        assign_perm("tasks_app.view_task", many, Task.objects.filter(pk__lte=made[:SEEN][-1].pk))
    load_executions(executions, made[0].pk, groups[0].pk, tasks, clients)
    load_daily_stats(executions, made[0].pk, tasks, clients)
    load_audit(tasks)


def tidy() -> None:
    """What the database would have done by itself in the meantime. Not within a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def load_daily_stats(count: int, first_task: int, tasks: int, clients: int) -> None:
    """A row for every task on its host and every day, as many executions in each as there are on average."""
    postgresql = connection.vendor == "postgresql"
    begin = timezone.now().date() - timedelta(days=DAYS - 1)
    number, day = f"(i % {tasks})", f"(i / {tasks})"  # the row `i` is of this task and this day
    each = max(count // (tasks * DAYS), 1)
    given = {
        "task_id": f"{first_task} + {number}",
        "task_name": f"'task-' || {_padded(number)}",
        "client_id": f"'host-' || {_padded(f'{number} % {clients}')}",
        "day": f"date '{begin}' + {day}::integer" if postgresql else f"date('{begin}', {day} || ' days')",
        "success_count": str(each),
        "total_duration_ms": str(2500 * each),
        "max_duration_ms": "3000",
        "min_duration_ms": "2000",
        "updated_at": _evenly(tasks * DAYS),
    }
    _insert(DailyStats, _all_columns(DailyStats, given), tasks * DAYS - 1)


def load_audit(tasks: int) -> None:
    """Edits of tasks, and a few of groups, evenly over the last DAYS days."""
    count = tasks * AUDITED
    when = _evenly(count)
    given = {
        "at": when, "action": "CASE i % 50000 WHEN 0 THEN 'group.update' ELSE 'task.update' END",
        "actor_name": "'user-' || (i % 20)", "object_type": "'tasks_app.task'", "request_id": "'request-' || i",
        "object_id": f"i % {tasks}", "object_name": f"'task-' || {_padded(f'i % {tasks}')}",
        "address": "'10.0.' || (i % 100) || '.' || (i / 100 % 100)",
    }  # fmt: skip
    if connection.vendor == "postgresql":
        given["object_id"] = f"(i % {tasks})::text"
    _insert(AuditEntry, _all_columns(AuditEntry, given), count)


def load_executions(count: int, first_task: int, first_group: int, tasks: int, clients: int) -> None:
    """One INSERT … SELECT; on PostgreSQL its indexes are made afterwards, which is several times faster."""
    _insert(Execution, _columns(count, first_task, first_group, tasks, clients), count)


def _insert(model: type[models.Model], columns: dict[str, str], count: int) -> None:
    """Rows from the expressions of `i`, 1 to `count`."""
    table = model._meta.db_table
    names = ", ".join(connection.ops.quote_name(name) for name in columns)
    numbers = f"generate_series(1::bigint, {count}) AS numbers(i)"
    if connection.vendor == "sqlite":
        series = f"SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}"
        numbers = f"(WITH RECURSIVE n(i) AS ({series}) SELECT i FROM n)"
    filling = f"INSERT INTO {table} ({names}) SELECT {', '.join(columns.values())} FROM {numbers}"
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            _fill_without_indexes(cursor, table, filling)
        else:
            cursor.execute(filling)


def _fill_without_indexes(cursor: Any, table: str, filling: str) -> None:
    """Run the INSERT while the empty table has only its primary key; make its indexes from the rows.

    Truncated in the same transaction, the table's rows need no log where the cluster keeps only what it must.
    """
    quote = connection.ops.quote_name
    cursor.execute("SET LOCAL maintenance_work_mem = '512MB'")
    cursor.execute("SET LOCAL synchronous_commit = off")
    cursor.execute(f"TRUNCATE {table} CASCADE")
    cursor.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype = 'u'",
        [table],
    )
    constraints = cursor.fetchall()
    for name, _ in constraints:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {quote(name)}")
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = %s::regclass AND NOT indisprimary",
        [table],
    )
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    cursor.execute(filling)
    for name, definition in constraints:
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {quote(name)} {definition}")
    for _, definition in indexes:
        cursor.execute(definition)


def _padded(number: str) -> str:
    """Five digits."""
    return (
        f"lpad(({number})::text, 5, '0')"
        if connection.vendor == "postgresql"
        else f"printf('%05d', {number})"
    )


def _evenly(count: int, more: int = 0) -> str:
    """When the row `i` of `count` came, and `more` seconds later."""
    begin = timezone.now() - timedelta(days=DAYS) + timedelta(seconds=more)
    step = DAYS * 86400 / count  # seconds between two
    if connection.vendor == "postgresql":
        return f"timestamptz '{begin.isoformat()}' + i * interval '{step:.6f} seconds'"
    return f"strftime('%Y-%m-%d %H:%M:%f', {begin.timestamp():.6f} + i * {step:.9f}, 'unixepoch')"


def _columns(count: int, first_task: int, first_group: int, tasks: int, clients: int) -> dict[str, str]:
    """column → SQL expression of the row's number `i`."""
    when, started, ended = (_evenly(count, more) for more in (0, 1, 3))
    is_busy = f"i % {BUSY_SHARE} = 0"
    task = f"(CASE WHEN {is_busy} THEN {BUSY} ELSE (i * 7919) % {tasks} END)"
    host = f"(CASE WHEN {is_busy} THEN {BUSY} ELSE (i * 104729) % {clients} END)"
    # The last group has one host only, number GROUPS - 1.
    group = f"(CASE WHEN {host} % {GROUPS} = {GROUPS - 1} AND {host} >= {GROUPS} THEN 0 ELSE {host} % {GROUPS} END)"
    is_live = f"i > {count - LIVE_ROWS}"
    status = (
        f"CASE WHEN {is_live} THEN {ExecutionStatus.PENDING.value} + i % 2"
        f" WHEN {is_busy} AND i > {count // BUSY_FAILED} THEN {ExecutionStatus.SUCCESS.value}"
        f" WHEN i % 100 < 92 THEN {ExecutionStatus.SUCCESS.value}"
        f" WHEN i % 100 < 97 THEN {ExecutionStatus.FAILURE.value}"
        f" WHEN i % 100 < 99 THEN {ExecutionStatus.TIMEOUT.value} ELSE {ExecutionStatus.CANCELLED.value} END"
    )
    failed = f"({status}) = {ExecutionStatus.FAILURE.value}"
    given = {
        "execution_id": f"'exec_20260901_030000_' || i || '_host-' || {_padded(host)}",
        "run_id": "'run_20260901_030000_' || (i / 10)",
        "task_id": f"{first_task} + {task}",
        "task_name": f"'task-' || {_padded(task)}",
        "client_id": f"'host-' || {_padded(host)}",
        "group_id": f"{first_group} + {group}",
        "execution_type": f"CASE WHEN i % 50 = 1 THEN {ExecutionType.MANUAL.value} ELSE 1 END",
        "status": status,
        "scheduled_time": when,
        "created_at": when,
        "accepted_at": when,
        "start_time": started,
        "end_time": f"CASE WHEN {is_live} THEN NULL ELSE {ended} END",
        "duration": "2000 + i % 1000",
        "exit_code": "0",
        "failure_reason": f"CASE WHEN {failed} THEN '{FailureReason.EXIT_CODE.value}' ELSE '' END",
    }
    return _all_columns(Execution, given)


def _all_columns(model: type[models.Model], given: dict[str, str]) -> dict[str, str]:
    """column → SQL expression, for every column but the number."""
    return {
        field.column: given.get(field.column) or _default(field)
        for field in model._meta.concrete_fields
        if not field.primary_key
    }


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
