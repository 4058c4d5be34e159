"""The only code that writes django-celery-beat rows: one PeriodicTask per task.

The row is the schedule's home for celery's tools (its name, whether it is enabled, when it last fired). Which moments
the expression means is computed from the task's own columns, by the cron module that the agents use too: celery's
crontab knows neither seconds nor L, # and DST. For those, the row shows the nearest schedule celery can express.
"""

import json
from typing import Any

from celery.schedules import ParseException, crontab
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from .choices import ScheduleType
from .models import Task

FIRE_TASK = "executions_app.tasks.fire"


def save_periodic_task(task: Task) -> None:
    """Create or bring up to date the PeriodicTask of a task, and link it; the caller is in a transaction."""
    if task.schedule_type == ScheduleType.NONE:
        if task.periodic_task_id:
            PeriodicTask.objects.filter(pk=task.periodic_task_id).delete()
            task.periodic_task = None
            task.save(update_fields=["periodic_task"])
        return
    fields: dict[str, Any] = {
        "name": f"task:{task.pk}",
        "task": FIRE_TASK,
        "kwargs": json.dumps({"task_id": task.pk}),
        "enabled": task.is_enabled,
        "one_off": task.schedule_type == ScheduleType.ONCE,
        "description": task.name,
        **_schedule_columns(task),
    }
    if task.periodic_task_id:
        PeriodicTask.objects.filter(pk=task.periodic_task_id).update(**fields)
    else:
        row = PeriodicTask(**fields)
        PeriodicTask.objects.bulk_create(
            [row]
        )  # no per-row signal: the scheduler follows configuration versions
        task.periodic_task = row
        task.save(update_fields=["periodic_task"])


def set_enabled(tasks: list[Task], enabled: bool) -> None:
    PeriodicTask.objects.filter(quartz_task__in=tasks).update(enabled=enabled)


def forget_last_run(task: Task) -> None:
    """A new schedule begins now: what the old one missed is not made up for."""
    PeriodicTask.objects.filter(quartz_task=task).update(last_run_at=None)


def delete_periodic_tasks(ids: list[int]) -> None:
    PeriodicTask.objects.filter(pk__in=ids).delete()


def _schedule_columns(task: Task) -> dict[str, Any]:
    if task.schedule_type == ScheduleType.CRON:
        return {"crontab": _crontab(task), "interval": None}
    seconds = task.interval_seconds or 1
    columns = {"every": seconds, "period": IntervalSchedule.SECONDS}
    interval = IntervalSchedule.objects.filter(**columns).first() or IntervalSchedule.objects.create(
        **columns
    )
    return {"interval": interval, "crontab": None}


def _crontab(task: Task) -> CrontabSchedule:
    fields = task.cron_expr.split()
    minute, hour, day, month, weekday = fields[-5:] if len(fields) >= 5 else ("*",) * 5
    try:
        crontab(minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday)
    except (ParseException, ValueError):
        minute = hour = day = month = weekday = "*"
    columns = {
        "minute": minute,
        "hour": hour,
        "day_of_month": day,
        "month_of_year": month,
        "day_of_week": weekday,
        "timezone": task.timezone,
    }
    # Not get_or_create: the table has no unique constraint, and older rows may be there twice.
    return CrontabSchedule.objects.filter(**columns).first() or CrontabSchedule.objects.create(**columns)
