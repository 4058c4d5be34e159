"""A PostgreSQL server that drops its connections under a running beat."""

from contextlib import closing
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from quartzflow.celery import app
from quartzflow.lease import scheduler_alive
from tasks_app.models import Task
from tasks_app.scheduler import QuartzScheduler
from tests import people

DROP_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.mark.usefixtures("postgres_db")
def test_dropped_connections_cost_one_tick_and_no_firing(monkeypatch, caplog):
    caplog.set_level("INFO", logger="tasks_app.scheduler.beat")
    sent: list[int] = []
    monkeypatch.setattr(
        QuartzScheduler, "_publish", lambda self, firings, token: sent.extend(t for _, t in firings)
    )
    monkeypatch.setattr(QuartzScheduler, "_tick_stock", lambda self: 0.5)
    task = people.task("t", cron_expr="* * * * * *")
    Task.objects.filter(pk=task.pk).update(schedule_since=timezone.now() - timedelta(seconds=2))
    beat = QuartzScheduler(app=app)
    beat.tick()

    with closing(connection.copy()) as other, other.cursor() as cursor:
        cursor.execute(DROP_OTHERS)
        assert cursor.fetchall()
    beat.conductor._polled_at = float("-inf")  # look at the database right now
    assert beat.tick() == 0.5
    assert "scheduler failed" in caplog.text

    beat.tick()
    assert "scheduler recovered" in caplog.text
    assert sent
    assert sent == list(range(sent[0], sent[0] + len(sent)))
    assert scheduler_alive()
    beat.close()
    assert not scheduler_alive()
