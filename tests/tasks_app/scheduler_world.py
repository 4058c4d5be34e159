"""Beat instances over the real tables, with a fake broker and a clock that the tests move."""

from datetime import UTC, datetime, timedelta

import time_machine
from django.db.models.functions import Now
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError

from quartzflow.lease import SCHEDULER, LeaseKeeper
from quartzflow.models import Lease
from tasks_app.models import Task
from tasks_app.scheduler.conductor import Conductor
from tasks_app.scheduler.plan import Plan

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


class World:
    """Time, and a broker that beat instances share."""

    def __init__(self, traveller: time_machine.Traveller) -> None:
        self.traveller = traveller
        self.elapsed = 0.0
        self.messages: list[tuple[list[tuple[int, int]], int]] = []
        self.broker_is_up = True

    def move(self, by: float) -> None:
        self.elapsed += by
        self.traveller.shift(by)

    def publish(self, firings: list[tuple[int, int]], token: int) -> None:
        if not self.broker_is_up:
            raise OperationalError("away")
        self.messages.append((firings, token))

    def instance(self, name: str = "first", **plan: float) -> Conductor:
        keeper = LeaseKeeper(SCHEDULER, holder=name, clock=lambda: self.elapsed)
        return Conductor(self.publish, keeper, Plan(**plan), timer=lambda: self.elapsed)  # type: ignore[arg-type]

    @property
    def fired(self) -> list[tuple[int, int]]:
        """(task id, nominal second after NOON), in the order of sending."""
        return [(task_id, time - seconds(NOON)) for firings, _ in self.messages for task_id, time in firings]

    def run(self, *instances: Conductor, until: float, step: float = 0.5) -> None:
        while self.elapsed < until:
            for instance in instances:
                while instance.step() == 0.0:
                    pass
            self.move(step)


def last_run(task: Task) -> datetime | None:
    return PeriodicTask.objects.get(quartz_task=task).last_run_at


def lose_lease() -> None:
    Lease.objects.update(expires_at=Now() - timedelta(seconds=0.001))
