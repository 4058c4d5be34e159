"""What the benchmark of pages needs in an installation's database, and who publishes: a process of its own.

`fill` adds hosts, tasks and executions and prints their numbers as JSON. `publish RATE SECONDS` tells watchers of
executions that begin and end, as a bridge would, and prints how many events there were.
"""

import json
import random
import sys
import time
from datetime import UTC, datetime

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.db.models import Count  # noqa: E402

from executions_app import events  # noqa: E402
from executions_app.daily import roll_up  # noqa: E402
from executions_app.models import Execution  # noqa: E402
from groups_app.models import Client, Group  # noqa: E402
from quartzflow.execution_status import LIVE, ExecutionStatus  # noqa: E402
from tasks_app.models import Task, TaskGroup  # noqa: E402

from .loader import load_executions  # noqa: E402

TASKS = 200
HOSTS = 60
GROUPS = 10
EXECUTIONS = 20_000
SPAN = 0.25  # seconds from the begin of a published execution to its end
TICK = 0.02  # seconds between two handfuls


def fill() -> dict[str, object]:
    """Hosts, tasks and executions beside what a new installation has."""
    assert "sqlite" in settings.DATABASES["default"]["ENGINE"]
    groups = Group.objects.bulk_create([Group(name=f"group-{n:03}") for n in range(GROUPS)])
    Client.objects.bulk_create(
        [Client(client_id=f"host-{n:05}", group=groups[n % GROUPS]) for n in range(HOSTS)]
    )
    tasks = Task.objects.bulk_create(
        [
            Task(name=f"task-{n:05}", executor_config={"command": "date"}, cron_expr="0 3 * * *")
            for n in range(TASKS)
        ]
    )
    TaskGroup.objects.bulk_create(
        [TaskGroup(task=task, group=groups[n % GROUPS]) for n, task in enumerate(tasks)]
    )
    load_executions(EXECUTIONS, tasks[0].pk, groups[0].pk, TASKS, HOSTS)
    # The server would take those that wait or run for lost, and tell of it in the midst of what is measured.
    Execution.objects.filter(status__in=LIVE).update(status=ExecutionStatus.SUCCESS)
    for day in Execution.objects.dates("scheduled_time", "day"):
        roll_up(day)
    counted = Execution.objects.values("task_id").annotate(count=Count("id"))
    listed = next(row["task_id"] for row in counted if row["count"] == 100)
    return {
        "tasks": [task.pk for task in tasks[:100]],
        "listed": listed,
        "executions": list(Execution.objects.order_by("-id").values_list("pk", flat=True)[:10]),
    }


def publish(rate: int, seconds: int) -> dict[str, object]:
    """Each execution begins and ends: two events. `end_time` of both says when it was published."""
    count = rate * seconds // 2
    newest = list(Execution.objects.order_by("-id")[:count])
    assert len(newest) == count, f"{len(newest)} executions are too few for {count}"
    rows = [events.row(execution) for execution in newest]
    random.Random(1).shuffle(rows)
    publisher, lag = events.publisher, int(SPAN * rate / 2)
    begun, done, sent = time.monotonic(), 0, 0
    while done < count + lag:
        due = min(int((time.monotonic() - begun) * rate / 2), count + lag)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        changed = [{**row, "status": 2, "end_time": now} for row in rows[done : min(due, count)]]
        ended = [
            {**row, "status": 4 if row["id"] % 20 == 0 else 3, "end_time": now}
            for row in rows[max(done - lag, 0) : max(due - lag, 0)]
        ]
        publisher.executions([*changed, *ended])
        sent += len(changed) + len(ended)
        done = due
        time.sleep(TICK)
    seconds = time.monotonic() - begun
    time.sleep(10 * events.INTERVAL)  # a thread sends what came last
    return {
        "sent": sent,
        "seconds": seconds,
        "tasks": {row["id"]: row["task_id"] for row in rows},
    }


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    found = fill() if what == "fill" else publish(*map(int, numbers))
    sys.stdout.write(json.dumps(found) + "\n")
