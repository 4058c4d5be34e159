"""Celery tasks of the dispatch pipeline and its housekeeping."""

from datetime import UTC, datetime

import structlog
from celery import shared_task

from tasks_app.configs import forget_old_changes

from .dispatch import Firing, expire_overdue, fire

log = structlog.get_logger(__name__)


@shared_task(name="executions_app.tasks.fire_batch", ignore_result=True)
def fire_batch(firings: list[tuple[int, int]], fencing_token: int) -> None:
    """Fire what the scheduler found due: (task id, nominal time in Unix seconds). Repeating it changes nothing."""
    new = fire(Firing(task_id, datetime.fromtimestamp(second, UTC)) for task_id, second in firings)
    log.info("fired", firings=len(firings), executions=len(new), token=fencing_token)


@shared_task(name="executions_app.tasks.fire", ignore_result=True)
def fire_one(task_id: int) -> None:
    """What a task's PeriodicTask row names; the stock scheduler would send it. Fires the current second."""
    fire([Firing(task_id, datetime.now(UTC).replace(microsecond=0))])


@shared_task(name="executions_app.tasks.housekeeping", ignore_result=True)
def housekeeping() -> None:
    """Every few seconds: end what can no longer happen. The configuration log is cut on the way."""
    expire_overdue()
    forget_old_changes()
