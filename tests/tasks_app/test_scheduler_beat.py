"""The class that `celery beat` runs, with the real broker."""

import base64
import json
import time
from datetime import timedelta

import pytest
import redis
from celery import Celery
from celery.beat import Service
from django.conf import settings
from django.db import DatabaseError
from django.db.models.functions import Now
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions_app.tasks import fire_batch
from quartzflow.celery import app
from quartzflow.lease import current, scheduler_alive
from quartzflow.models import Lease
from tasks_app.models import Task
from tasks_app.scheduler import QuartzScheduler
from tasks_app.scheduler.beat import FIRE_BATCH, LONGEST_BACKOFF
from tests import people

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def beat(redis_url):
    scheduler = QuartzScheduler(app=app)
    yield scheduler
    scheduler.close()


@pytest.fixture
def queue(redis_url):
    """What lies in the queue: (task name, its arguments), oldest first; taken out by looking."""
    with redis.Redis.from_url(redis_url) as client:

        def messages() -> list[tuple[str, list]]:
            found = []
            while (raw := client.rpop("qf.celery")) is not None:
                message = json.loads(raw)
                found.append((message["headers"]["task"], json.loads(base64.b64decode(message["body"]))[0]))
            return found

        yield messages


def every_second(name: str = "t") -> Task:
    task = people.task(name, cron_expr="* * * * * *")
    Task.objects.filter(pk=task.pk).update(schedule_since=timezone.now() - timedelta(seconds=3))
    return task


def operators_own(name: str = "their own", task: str = "reports.weekly") -> PeriodicTask:
    interval = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.SECONDS)
    long_ago = timezone.now() - timedelta(hours=1)
    return PeriodicTask.objects.create(name=name, task=task, interval=interval, last_run_at=long_ago)


def ticks(scheduler: QuartzScheduler, count: int = 8) -> None:
    for _ in range(count):
        scheduler.tick()


def test_due_tasks_reach_the_queue_as_one_message_for_the_worker(beat, queue):
    task = every_second()
    before = int(time.time())
    assert 0.0 <= beat.tick() <= 0.5
    (arguments,) = [args for name, args in queue() if name == FIRE_BATCH]
    firings, token = arguments
    assert {task_id for task_id, _ in firings} == {task.pk}
    assert before + 1 <= firings[-1][1] <= before + 3
    assert token == current("scheduler").token == 1
    assert fire_batch.name == FIRE_BATCH


def test_rows_of_tasks_are_left_out_of_the_stock_schedule_and_others_are_run(beat, queue):
    every_second()
    own = operators_own()
    ticks(beat)
    assert set(beat.schedule) == {"celery.backend_cleanup", *settings.CELERY_BEAT_SCHEDULE, own.name}
    names = [name for name, _ in queue()]
    assert "reports.weekly" in names
    assert "executions_app.tasks.fire" not in names
    beat.close()
    own.refresh_from_db()
    assert own.last_run_at > timezone.now() - timedelta(seconds=5)


def test_an_instance_that_stands_by_sends_nothing_at_all(beat, queue):
    every_second()
    operators_own()
    ticks(beat)
    queue()
    second = QuartzScheduler(app=app)
    ticks(second)
    assert (second.conductor.leads, queue()) == (False, [])
    Lease.objects.update(expires_at=Now() - timedelta(seconds=1))
    time.sleep(1)
    ticks(second)
    assert {FIRE_BATCH, "reports.weekly"} <= {name for name, _ in queue()}
    second.close()


def test_it_is_made_lazily_so_that_celery_may_make_one_just_to_look(django_assert_num_queries):
    with django_assert_num_queries(0):
        scheduler = Service(app, scheduler_cls="tasks_app.scheduler:QuartzScheduler").get_scheduler(lazy=True)
        QuartzScheduler(app=app).close()
    assert scheduler.max_interval == 0.5


def test_an_error_is_logged_and_the_next_tick_tries_again(beat, monkeypatch, caplog):
    beat.tick()
    with monkeypatch.context() as patch:

        def away():
            raise DatabaseError("the database is away")

        patch.setattr(beat.conductor, "step", away)
        delays = [beat.tick() for _ in range(5)]
        assert delays == [0.5, 1.0, 2.0, 2.0, 2.0]
        assert max(delays) == LONGEST_BACKOFF
        assert "the database is away" in caplog.text
        assert "Traceback" not in caplog.text
    beat.tick()
    assert "scheduler recovered" in caplog.text
    assert beat._failures == 0


def test_an_unexpected_error_is_logged_with_its_place(beat, monkeypatch, caplog):
    beat.tick()
    monkeypatch.setattr(beat.conductor, "step", lambda: 1 / 0)
    assert beat.tick() == 0.5
    assert "ZeroDivisionError" in caplog.text
    assert "_work" in caplog.text


def test_while_the_broker_is_away_the_lease_is_kept_and_nothing_is_lost(beat, queue):
    task = every_second()
    beat.app = Celery(broker="redis://127.0.0.1:1/0")
    assert beat.tick() == 0.5
    assert beat._failures == 1
    assert scheduler_alive()
    beat.app = app
    ticks(beat)
    firings = [f for name, args in queue() if name == FIRE_BATCH for f in args[0]]
    assert {task_id for task_id, _ in firings} == {task.pk}
    assert len(firings) >= 4


def test_another_periodic_task_that_could_not_be_sent_stays_due(beat, queue, caplog):
    ticks(beat)
    queue()
    own = operators_own()
    time.sleep(1)
    beat.app = Celery(broker="redis://127.0.0.1:1/0")
    beat.tick()
    assert "apply scheduled task their own" in caplog.text
    assert "Traceback" not in caplog.text
    beat.sync()
    own.refresh_from_db()
    assert own.last_run_at < timezone.now() - timedelta(minutes=1)
    beat.app = app
    ticks(beat)
    assert "reports.weekly" in [name for name, _ in queue()]


def test_a_signal_in_the_middle_of_a_tick_saves_nothing_until_it_has_ended(beat, monkeypatch):
    beat.tick()
    closed = []
    monkeypatch.setattr(beat.conductor, "step", lambda: closed.append(beat.close()) or 0.1)
    beat.tick()
    assert closed == [None]
    assert scheduler_alive()
    beat.close()
    assert not scheduler_alive()


def test_close_survives_a_database_that_is_away(beat, monkeypatch, caplog):
    beat.tick()

    def away():
        raise DatabaseError("away")

    with monkeypatch.context() as patch:
        patch.setattr(beat.conductor, "save", away)
        beat.close()
    assert "could not save at its end" in caplog.text
