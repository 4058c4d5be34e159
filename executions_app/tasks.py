"""Celery tasks of the dispatch pipeline and its housekeeping."""

import time
from datetime import UTC, datetime
from typing import Any

import structlog
from celery import shared_task
from django.db import transaction

from quartzflow.metrics import metrics
from tasks_app import calendars
from tasks_app.configs import forget_old_changes
from tasks_app.models import Task

from . import chains, control, limits, log_search_index, missing, replays, retention
from .alerts import deliveries, evaluation, sources
from .choices import ExecutionType
from .dispatch import Firing, fire, new_firing
from .reports import building, mailing, query, schedules
from .reports.actions import BUILD
from .sweeps import expire_overdue

log = structlog.get_logger(__name__)


@shared_task(name="executions_app.tasks.fire_batch", ignore_result=True)
def fire_batch(firings: list[tuple[int, int]], fencing_token: int) -> None:
    """Fire what the scheduler found due: (task id, nominal time in Unix seconds). Repeating it changes nothing."""
    begun = time.monotonic()
    new = fire(Firing(task_id, datetime.fromtimestamp(second, UTC)) for task_id, second in firings)
    metrics.observe("dispatch_seconds", [time.monotonic() - begun])
    metrics.count("executions_created", len(new))
    log.info("fired", firings=len(firings), executions=len(new), token=fencing_token)


@shared_task(name="executions_app.tasks.fire", ignore_result=True)
def fire_one(task_id: int) -> None:
    """What a task's PeriodicTask row names; the stock scheduler would send it. Fires now, under a name of its own."""
    task = Task.objects.filter(pk=task_id).first()
    if task is not None:
        fire([new_firing(task, ExecutionType.SCHEDULED)])


@shared_task(name="executions_app.tasks.advance", ignore_result=True)
def advance() -> None:
    """Go on with what follows from the ends of runs."""
    chains.advance()
    replays.advance_replays()


@shared_task(name="executions_app.tasks.find_missing", ignore_result=True)
def find_missing() -> None:
    """Every minute: note what should have run and did not."""
    missing.find_missing()


@shared_task(name="executions_app.tasks.forget_old", ignore_result=True)
def forget_old() -> None:
    """Every hour: drop missed firings and replays that have been kept for long enough."""
    events, over = missing.forget_old_missed(), replays.forget_old_replays()
    if events or over:
        log.info("old rows dropped", missed_firings=events, replays=over)


@shared_task(name="executions_app.tasks.refresh_calendars", ignore_result=True)
def refresh_calendars() -> None:
    """Every hour: calendars know the official days of the coming time."""
    for calendar in calendars.refresh_calendars():
        control.renew_waiting(Task.objects.filter(calendar=calendar).select_related("calendar"), None)


@shared_task(name="executions_app.tasks.housekeeping", ignore_result=True)
def housekeeping() -> None:
    """Every few seconds: end what can no longer happen. The configuration log is cut on the way."""
    for step in (
        expire_overdue,
        _let_go,
        chains.advance,
        replays.advance_replays,
        chains.forget_old_events,
        forget_old_changes,
    ):
        try:
            step()
        except Exception:
            # Whatever is wrong with one of them comes again each time, and must not hold up the others.
            log.exception("housekeeping failed", step=step.__name__)


def _let_go() -> None:
    with transaction.atomic():
        limits.let_go()


@shared_task(name="executions_app.retention.remove_old", ignore_result=True)
def remove_old() -> None:
    """Twice a minute: one step of taking away what has been kept for long enough."""
    retention.remove_old()


@shared_task(name="executions_app.log_search.index", ignore_result=True)
def index_outputs() -> None:
    """Every few seconds: bring outputs of executions that are over into the index of log search."""
    log_search_index.bring_in()


@shared_task(name=sources.EVALUATE, ignore_result=True)
def evaluate_alerts() -> None:
    """Something was noted: make alerts of it, and send what is due."""
    evaluation.evaluate()
    deliveries.deliver()


@shared_task(name="executions_app.alerts.look", ignore_result=True)
def look_for_alerts() -> None:
    """Every ten seconds: hosts that are silent; and whatever a lost message has left undone."""
    with transaction.atomic():
        sources.note_offline()
    evaluate_alerts()


@shared_task(name="executions_app.alerts.forget", ignore_result=True)
def forget_old_alerts() -> None:
    """Every hour: drop events and messages that have been kept for long enough."""
    evaluation.forget_old_events()
    deliveries.forget_old_deliveries()


@shared_task(name=BUILD, ignore_result=True)
def build_reports() -> None:
    """Somebody asked for a report: build what waits, and send what is built."""
    building.build_waiting()
    mailing.deliver()


@shared_task(name=query.COUNT, ignore_result=True)
def count_figures(*arguments: Any) -> None:
    """A page waits for figures that take longer to count than a page may."""
    query.count_for_pages(*arguments)


@shared_task(name="executions_app.reports.look", ignore_result=True)
def look_for_reports() -> None:
    """Every ten seconds: scheduled reports that are due; and whatever a lost message or a dead worker left undone."""
    schedules.fire_due()
    build_reports()


@shared_task(name="executions_app.reports.forget", ignore_result=True)
def forget_old_reports() -> None:
    """Every hour: drop reports that have been kept for long enough."""
    building.forget_old()
    mailing.forget_old()
