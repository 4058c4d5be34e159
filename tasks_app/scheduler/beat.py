"""The scheduler class that `celery beat` runs: our own for the tasks, the stock one for all else."""

import time
from typing import Any

import structlog
from celery.beat import SchedulingError
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections
from django.db.models import QuerySet
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry
from kombu.exceptions import OperationalError

from quartzflow.lease import SCHEDULER, LeaseKeeper
from tasks_app.periodic import FIRE_TASK

from .conductor import POLL_EVERY, Conductor
from .plan import Firing, Plan

FIRE_BATCH = "executions_app.tasks.fire_batch"
STOCK_EVERY = 1.0  # seconds between looks at the other periodic tasks, when none of them is due earlier
LONGEST_BACKOFF = 2.0  # seconds; longer ones would let the lease run out

log = structlog.get_logger(__name__)


class QuartzScheduler(DatabaseScheduler):
    """`celery beat -S tasks_app.scheduler:QuartzScheduler`; any number of instances may run.

    Rows of django-celery-beat that belong to a task are left to the Conductor; the others (housekeeping, an
    operator's own) run as the stock scheduler runs them, on the instance that leads. A database or broker that is
    away never ends the process: an error is logged, and the next tick tries again.
    """

    producer = None  # the stock one blocks until the broker is back; without it, celery's pool is used

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.conductor: Conductor | None = None
        self._working = False
        self._failures = 0
        self._stock_ready = False
        self._stock_at = 0.0
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Nothing yet: the stock schedule is read on becoming the leader."""

    def enabled_models_qs(self) -> QuerySet[PeriodicTask]:
        enabled: QuerySet[PeriodicTask] = self.Model.objects.enabled()
        return enabled.exclude(task=FIRE_TASK)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """One round; returns the seconds until the next."""
        self._working = True
        try:
            delay = self._work()
        except Exception as error:
            self._failures += 1
            expected = isinstance(error, (DatabaseError, OperationalError, SchedulingError))
            log.error("scheduler failed", failures=self._failures, error=repr(error), exc_info=not expected)
            self._heap, self._initial_read = None, True
            close_old_connections()
            return min(POLL_EVERY * 2.0 ** min(self._failures - 1, 8), LONGEST_BACKOFF)
        finally:
            self._working = False
        if self._failures:
            log.info("scheduler recovered", failures=self._failures)
            self._failures = 0
        return delay

    def _work(self) -> float:
        if self.conductor is None:
            plan = Plan(
                lookahead=settings.QF_DISPATCH_LOOKAHEAD,
                misfire_threshold=settings.QF_MISFIRE_THRESHOLD,
                fire_all_limit=settings.QF_MISFIRE_LIMIT,
            )
            self.conductor = Conductor(self._publish, LeaseKeeper(SCHEDULER), plan)
        delay = self.conductor.step()
        if not self.conductor.leads:
            self._stock_ready = False
            return delay
        return min(delay, self._tick_stock())

    def _tick_stock(self) -> float:
        if not self._stock_ready:
            self._heap, self._initial_read = None, True  # others may have run them meanwhile
            super().setup_schedule()
            self._stock_ready, self._stock_at = True, 0.0
        wait = self._stock_at - time.monotonic()
        if wait <= 0:
            delay: float = super().tick()
            wait = min(max(delay, 0.0), STOCK_EVERY)
            self._stock_at = time.monotonic() + wait
        return wait

    def apply_entry(self, entry: ModelEntry, producer: object = None) -> None:
        """Send one of the other periodic tasks; if that fails it stays due, and `tick` logs why."""
        # Its new last run time, which the stock code has noted by now, is only saved when it was sent.
        self._dirty.discard(entry.name)
        self.apply_async(entry, producer=producer, advance=False)
        self._dirty.add(entry.name)

    def _publish(self, firings: list[Firing], token: int) -> None:
        self.app.send_task(FIRE_BATCH, args=[firings, token], ignore_result=True)

    def sync(self) -> None:
        """Save last run times; what cannot be saved now is kept for the next time."""
        super().sync()
        try:
            if self.conductor is not None:
                self.conductor.save()
        except DatabaseError as error:
            log.error("last firings not saved", error=repr(error))

    def close(self) -> None:
        """Save, and let another instance take over at once. May be called again."""
        if self._working:
            return  # a signal handler calls this in the middle of a tick; the loop calls again after it
        super().close()
        try:
            if self.conductor is not None:
                self.conductor.close()
        except DatabaseError as error:
            # The lease runs out by itself, and what was not saved is sent again under the same names.
            log.error("scheduler could not save at its end", error=repr(error))
