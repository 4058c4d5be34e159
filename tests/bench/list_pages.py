"""Ask for every list and filter of a big installation, as a process of its own: prints JSON. See tests.bench.lists."""

import json
import os
import re
import sys
import time
from datetime import timedelta
from typing import Any

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client as Browser  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.utils import timezone  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from executions_app.models import Execution  # noqa: E402
from groups_app.models import Group  # noqa: E402
from tasks_app.models import Task  # noqa: E402

from .loader import BUSY, GROUPS, load, tidy  # noqa: E402
from .registry import percentile  # noqa: E402

ROUNDS = 20
WHOLE = ("tb_execution", "tb_daily_stats", "tb_audit_log")  # tables that no list may read from end to end


def pages() -> dict[str, tuple[str, str]]:
    """name → (who asks, path)."""
    newest = Execution.objects.order_by("-id")[0]
    task, host = newest.task_id, newest.client_id
    busy, busy_host = Task.objects.get(name=f"task-{BUSY:05}").pk, f"host-{BUSY:05}"
    small, big = (Group.objects.get(name=f"group-{n:03}").pk for n in (GROUPS - 1, 0))
    now = timezone.now()
    month = f"{now - timedelta(days=30):%Y-%m-%d}..{now:%Y-%m-%d}"
    old_day = f"{now - timedelta(days=60):%Y-%m-%d}..{now - timedelta(days=60):%Y-%m-%d}"
    old_month = f"{now - timedelta(days=75):%Y-%m-%d}..{now - timedelta(days=45):%Y-%m-%d}"

    def iso(**ago: int) -> str:
        return (now - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")

    api = {
        "tasks": "tasks",
        "tasks?keyword": "tasks?keyword=task-07",
        "tasks?group,status": f"tasks?group_id={Task.objects.get(pk=task).groups.first().pk}&status=1",
        "tasks deep": "tasks?page=90&page_size=100",
        "clients": "clients",
        "clients?keyword": "clients?keyword=host-07",
        "clients?status": "clients?status=0&page_size=200",
        "groups": "groups",
        "executions": "executions",
        "executions deep": "executions?page=400",
        "executions?task": f"executions?task_id={task}",
        "executions?task,status": f"executions?task_id={task}&status=4",
        "executions?host": f"executions?client_id={host}",
        "executions?host,status": f"executions?client_id={host}&status=6",
        "executions?busy task": f"executions?task_id={busy}",
        "executions?busy task,failed": f"executions?task_id={busy}&status=4",
        "executions?busy task,cancelled": f"executions?task_id={busy}&status=6",  # there is none
        "executions?busy task,old day": f"executions?task_id={busy}&start_time={iso(days=60)}&end_time={iso(days=59)}",
        "executions?busy host,failed": f"executions?client_id={busy_host}&status=4",
        "executions?success": "executions?status=3",
        "executions?cancelled": "executions?status=6",
        "executions?pending": "executions?status=1",
        "executions?run": f"executions?run_id={newest.run_id}",
        "executions?hour": f"executions?start_time={iso(hours=1)}",
        "executions?an old day": f"executions?start_time={iso(days=60)}&end_time={iso(days=59)}",
        "executions?old day,failed": f"executions?start_time={iso(days=60)}&end_time={iso(days=59)}&status=4",
        "executions?month": f"executions?start_time={iso(days=30)}",
        "execution": f"executions/{newest.pk}",
        "stats?task": f"executions/stats?task_id={task}&date_range=7d",
        "stats?host": f"executions/stats?client_id={host}&date_range=30d",
        "stats?busy host": f"executions/stats?client_id={busy_host}&date_range=30d",
        "stats?busy task": f"executions/stats?task_id={busy}&date_range=30d",
        "run": f"runs/{newest.run_id}",
        "audit": "audit",
        "audit?actor": "audit?actor=user-7",
        "audit deep": "audit?page=400",
        "audit?action": "audit?action=group.update",
        "audit?actions": "audit?action=task.",
        "audit?actions, few": "audit?action=group.",
        "audit?object": "audit?object_type=tasks_app.task&object_id=701",
        "audit?object of any kind": "audit?object_id=701",
        "audit?object name": "audit?object_name=task-0701",
        "audit?object name, nothing": "audit?object_name=nothing-is-called-this",
        "audit?address": "audit?address=10.0.7.7",
        "audit?request": "audit?request_id=request-4711",
        "audit?old day": f"audit?since={iso(days=60)}&until={iso(days=59)}",
        "audit?until long ago": f"audit?until={iso(days=80)}",
        "audit?old day,actor": f"audit?since={iso(days=60)}&until={iso(days=59)}&actor=user-7",
    }
    console = {
        "overview": "",
        "task list": "tasks_app/task/",
        "task list?q": "tasks_app/task/?q=task-07",
        "task list?disabled": "tasks_app/task/?status__exact=0",
        "task page": f"tasks_app/task/{task}/change/",
        "execution list": "executions_app/execution/",
        "execution list deep": "executions_app/execution/?p=150",
        "execution list?live": "executions_app/execution/?status=live",
        "execution list?bad": "executions_app/execution/?status=bad",
        "execution list?timeout": "executions_app/execution/?status=5",
        "execution list?hour": "executions_app/execution/?time=hour",
        "execution list?30 days": "executions_app/execution/?time=30",
        "execution list?30 days,bad": "executions_app/execution/?time=30&status=bad",
        "execution list?manual": "executions_app/execution/?execution_type__exact=2",
        "execution list?old day": f"executions_app/execution/?time={old_day}",
        "execution list?old day,bad": f"executions_app/execution/?time={old_day}&status=bad",
        "execution list?old month": f"executions_app/execution/?time={old_month}",
        "execution list?old month,bad": f"executions_app/execution/?time={old_month}&status=bad",
        "execution list?old month,task": f"executions_app/execution/?time={old_month}&task__id__exact={task}",
        "execution list?old month,busy task": f"executions_app/execution/?time={old_month}&task__id__exact={busy}",
        "execution list?month,group": f"executions_app/execution/?time={month}&group_id__exact={big}",
        "execution list?month,small group": f"executions_app/execution/?time={month}&group_id__exact={small}",
        "execution list?month,reason": f"executions_app/execution/?time={month}&failure_reason__exact=exit_code",
        "execution list?month,no reason": f"executions_app/execution/?time={month}&failure_reason__exact=rejected",
        "execution list?busy task,bad": f"executions_app/execution/?task__id__exact={busy}&status=bad",
        "execution list?busy host,bad": f"executions_app/execution/?client_id__exact={busy_host}&status=bad",
        "execution list?task": f"executions_app/execution/?task__id__exact={task}",
        "execution list?q task": "executions_app/execution/?q=task-0701",
        "execution list?q many": "executions_app/execution/?q=task-07",
        "execution list?q nothing": "executions_app/execution/?q=nothing-is-called-this",
        "run page": f"executions_app/execution/runs/{newest.run_id}/",
        "execution page": f"executions_app/execution/{newest.pk}/change/",
        "host list": "groups_app/client/",
        "host list?q": "groups_app/client/?q=10.0.7",
        "host board": "groups_app/group/hosts/",
        "group list": "groups_app/group/",
        "audit log": "quartzflow/auditentry/",
        "audit log?q": "quartzflow/auditentry/?q=task-0701",
        "audit log?q nothing": "quartzflow/auditentry/?q=nothing-is-called-this",
        "audit log?q many": "quartzflow/auditentry/?q=task-07",
        "audit log?q two words": "quartzflow/auditentry/?q=task-0701+user-7",
        "audit log?q two characters": "quartzflow/auditentry/?q=%E5%A4%87%E4%BB%BD",
        "audit log?q address": "quartzflow/auditentry/?q=10.0.7.7",
        "audit log?q old day": f"quartzflow/auditentry/?q=task-0701&from={old_day[:10]}&to={old_day[:10]}",
        "audit log?object": "quartzflow/auditentry/?object=tasks_app.task:701",
        "audit log?actor": "quartzflow/auditentry/?actor=user-7",
        "audit log?kind": "quartzflow/auditentry/?kind=tasks_app.task",
        "audit log?30 days": "quartzflow/auditentry/?time=30",
        "audit log?action": "quartzflow/auditentry/?action=task.update",
        "audit log?old day": f"quartzflow/auditentry/?from={old_day[:10]}&to={old_day[:10]}",
    }
    found = {f"api {name}": ("admin", f"/api/v1/{path}") for name, path in api.items()}
    found |= {f"page {name}": ("admin", f"/console/{path}") for name, path in console.items()}
    for who in ("few", "many"):
        found[f"api executions, {who} tasks"] = (who, "/api/v1/executions")
        found[f"api executions?status, {who} tasks"] = (who, "/api/v1/executions?status=6")
        found[f"page executions, {who} tasks"] = (who, "/console/executions_app/execution/")
        found[f"page overview, {who} tasks"] = (who, "/console/")
        found[f"api tasks, {who} tasks"] = (who, "/api/v1/tasks")
        found[f"page task list, {who} tasks"] = (who, "/console/tasks_app/task/")
    return found


def ask(who: str, path: str) -> Any:
    user = User.objects.get(username=who)
    if path.startswith("/api/"):
        api = APIClient(SERVER_NAME="localhost")
        api.force_authenticate(user)
        return api, path
    browser = Browser(SERVER_NAME="localhost")
    browser.force_login(user)
    return browser, path


def scans(statement: str) -> list[str]:
    """The big tables that a statement reads from end to end, by the planner's word."""
    with connection.cursor() as cursor:
        prefix = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
        cursor.execute(prefix + statement.replace("%", "%%"), [])
        plan = [" ".join(map(str, row)) for row in cursor.fetchall()]
    mark = r"Seq Scan on {}\b" if connection.vendor == "postgresql" else r"SCAN {}\b(?!.* USING )"
    # Without a condition, the first rows that come are enough for a limit.
    if plan and plan[0].startswith("Limit") and not any("Filter:" in line for line in plan):
        return []
    return [table for table in WHOLE for line in plan if re.search(mark.format(table), line)]


def measure(name: str, who: str, path: str) -> dict[str, Any]:
    client, path = ask(who, path)
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(path)
    queries = list(captured.captured_queries)  # the next request forgets them
    assert answer.status_code == 200, (name, answer.status_code, answer.content[:300])
    times, cpu = [], []
    for _ in range(ROUNDS):
        begun, used = time.perf_counter(), time.process_time()
        client.get(path)
        times.append((time.perf_counter() - begun) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    slowest = max(queries, key=lambda query: float(query["time"]), default=None)
    whole = sorted(
        {table for query in queries if query["sql"].startswith("SELECT") for table in scans(query["sql"])}
    )
    return {
        "name": name,
        "p50": round(percentile(times, 50), 1),
        "p95": round(percentile(times, 95), 1),
        "cpu": round(percentile(cpu, 50), 1),  # of Python; the database's is in p50
        "queries": len(queries),
        "scans": whole,
        "slowest_ms": float(slowest["time"]) * 1000 if slowest else 0,
        "slowest": slowest["sql"] if slowest else "",
    }


def main() -> None:
    sizes = {
        name: int(os.environ[f"BENCH_LIST_{name.upper()}"]) for name in ("tasks", "clients", "executions")
    }
    begun = time.perf_counter()
    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    load(**sizes)
    tidy()
    loaded = time.perf_counter() - begun
    only = os.environ.get("BENCH_LIST_ONLY", "")
    found = [measure(name, *page) for name, page in pages().items() if only in name]
    sys.stdout.write(json.dumps({"load_seconds": round(loaded, 1), "pages": found}) + "\n")


if __name__ == "__main__":
    main()
