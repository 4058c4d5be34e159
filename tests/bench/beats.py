"""One beat at work in a process of its own: `python -m tests.bench.beats NAME` prints one JSON object.

NAME: ours, stock (the scheduler of django-celery-beat) or many (a hundred thousand tasks, edited each second).
The environment names a data directory of its own, with a Redis in it.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quartzflow.settings")
django.setup()
logging.disable(logging.INFO)

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django_celery_beat.models import IntervalSchedule, PeriodicTask  # noqa: E402
from django_celery_beat.schedulers import DatabaseScheduler  # noqa: E402

from groups_app.models import Group  # noqa: E402
from quartzflow.celery import app  # noqa: E402
from quartzflow.lease import SCHEDULER, LeaseKeeper  # noqa: E402
from tasks_app import actions, configs  # noqa: E402
from tasks_app.models import ConfigVersion, Task  # noqa: E402
from tasks_app.scheduler import QuartzScheduler  # noqa: E402
from tasks_app.scheduler.conductor import Conductor  # noqa: E402

DUE = 1000  # tasks that are due at one moment
EVERY = 600  # seconds between two of their moments
AHEAD = 8.0  # seconds until that moment, for reading the tasks
LIMIT = 60.0  # seconds that a scheduler may take for it
MANY = int(os.environ.get("BENCH_TASKS", "100000"))
EDITS = int(os.environ.get("BENCH_EDITS", "20"))
BUSY = 50  # tasks of every second among the many


def make_tasks(count: int, fields: Callable[[int], dict[str, Any]]) -> list[Task]:
    """Enabled tasks, written in bulk, each with its row for beat."""
    interval = IntervalSchedule.objects.create(every=EVERY, period=IntervalSchedule.SECONDS)
    start = PeriodicTask.objects.count()
    PeriodicTask.objects.bulk_create(
        (
            PeriodicTask(name=f"bench:{start + n}", task="executions_app.tasks.fire", interval=interval)
            for n in range(count)
        ),
        batch_size=500,
    )
    refs = PeriodicTask.objects.order_by("id").values_list("pk", flat=True)[start:]
    config = {"command": "true"}
    Task.objects.bulk_create(
        (
            Task(name=f"t{ref}", executor_config=config, periodic_task_id=ref, **fields(n))
            for n, ref in enumerate(refs)
        ),
        batch_size=500,
    )
    return list(Task.objects.order_by("id"))


def watch(tick: Callable[[], float], sent: Callable[[], int], due: float) -> dict[str, float]:
    """Run a scheduler's loop until all is sent. Its CPU, and how late the last was sent, counted from `due`."""
    while time.time() < due - 1:
        time.sleep(max(0.0, min(tick(), 0.2)))  # the stock one may be late already
    cpu = time.process_time()
    while sent() < DUE and time.time() < due + LIMIT:
        time.sleep(max(min(tick(), 0.2), 0))
    return {"sent": sent(), "late": time.time() - due, "cpu": time.process_time() - cpu}


def ours() -> dict[str, float]:
    """Ours, which sends two seconds ahead: late is what comes after that."""
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=AHEAD + 2)
    make_tasks(DUE, lambda n: {
        "schedule_type": "fixed_rate", "interval_seconds": EVERY, "anchor_at": moment,
    })  # fmt: skip
    scheduler = QuartzScheduler(app=app)
    counted = _counting(
        app, "send_task", lambda args, kwargs: len(kwargs["args"][0]) if kwargs.get("args") else 0
    )
    found = watch(scheduler.tick, lambda: counted[0], moment.timestamp() - 2)
    scheduler.close()
    return found


def stock() -> dict[str, float]:
    """The stock scheduler with the same rows."""
    moment = datetime.now(UTC) + timedelta(seconds=AHEAD)
    interval = IntervalSchedule.objects.create(every=EVERY, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.bulk_create(
        PeriodicTask(
            name=f"task:{n}", task="bench.nothing", interval=interval,
            last_run_at=moment - timedelta(seconds=EVERY),
        )
        for n in range(DUE)
    )  # fmt: skip
    scheduler = DatabaseScheduler(app=app)
    counted = [0]
    plain = scheduler.apply_async

    def apply_async(entry: Any, *args: Any, **kwargs: Any) -> Any:
        result = plain(entry, *args, **kwargs)
        counted[0] += entry.task == "bench.nothing"
        return result

    scheduler.apply_async = apply_async
    return watch(scheduler.tick, lambda: counted[0], moment.timestamp())


def _counting(target: Any, name: str, weigh: Callable[[Any, Any], int]) -> list[int]:
    counted, plain = [0], getattr(target, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        result = plain(*args, **kwargs)
        counted[0] += weigh(args, kwargs)
        return result

    setattr(target, name, call)
    return counted


def many() -> dict[str, float]:
    """A hundred thousand tasks, one of them edited each second."""
    tasks = make_tasks(MANY, lambda n: {
        "cron_expr": "* * * * * *" if n < BUSY else f"{n % 60} {n // 60 % 24} * * *",
        "timezone": ("Asia/Shanghai", "UTC", "Europe/Berlin")[n % 3],
    })  # fmt: skip
    group = Group.objects.create(name="default")
    user = User.objects.create_superuser("bench")
    actions.do_update_task(user, tasks[0], {"group_ids": [group.pk]})
    late: list[float] = []

    def publish(firings: list[tuple[int, int]], token: int) -> None:
        late.extend(time.time() - (second - 2) for _, second in firings)

    beat = Conductor(publish, LeaseKeeper(SCHEDULER, holder="bench"))
    begun = time.monotonic()
    beat.step()
    loaded = time.monotonic() - begun
    late.clear()
    effects: list[float] = []
    pending: dict[int, tuple[int, float]] = {}
    thread = threading.Thread(
        target=_edit, args=(user, [t.pk for t in tasks[BUSY + 1 : BUSY + 1 + EDITS]], pending)
    )
    thread.start()
    cpu, begun = time.process_time(), time.monotonic()
    while thread.is_alive() or pending:
        time.sleep(min(max(beat.step(), 0), 0.05))
        for pk, (interval, at) in list(pending.items()):
            planned = beat.plan.get(pk)
            if planned is not None and planned.schedule.interval_seconds == interval:
                effects.append(time.monotonic() - at)
                del pending[pk]
    lasted = time.monotonic() - begun
    return {
        "load": loaded, "late": max(late), "effect": sorted(effects)[-1], "edits": len(effects),
        "firings": len(late), "cpu_percent": 100 * (time.process_time() - cpu) / lasted,
    }  # fmt: skip


def _edit(user: User, pks: Iterable[int], pending: dict[int, tuple[int, float]]) -> None:
    for n, pk in enumerate(pks):
        task = Task.objects.get(pk=pk)
        actions.do_update_task(user, task, {"schedule_type": "fixed_rate", "interval_seconds": 1000 + n})
        pending[pk] = (1000 + n, time.monotonic())
        time.sleep(1)
    connection.close()


def main(name: str) -> None:
    call_command("migrate", verbosity=0)
    ConfigVersion.objects.get_or_create(pk=1)
    assert configs.current_version() >= 0
    sys.stdout.write(json.dumps({"ours": ours, "stock": stock, "many": many}[name]()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
