"""Metrics and the scheduler's health, with the real Redis; nothing of it without an account."""

import time

import pytest
from knox.models import AuthToken
from quartzflow_agent.protocol import task_pb2 as pb
from rest_framework.test import APIClient

from executions_app.dispatch import Firing, fire
from executions_app.ingest import Progress, Result, ingest
from quartzflow import metrics
from quartzflow.api import observe
from quartzflow.lease import SCHEDULER, LeaseKeeper
from quartzflow.metrics import Metrics
from tasks_app.scheduler.conductor import Conductor
from tasks_app.scheduler.plan import Plan
from tests import people

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_url")]
NOON = people.at(2026, 3, 1, 12, 0)


def api(user=None):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user or people.admin())[1]}")
    return client


def shown() -> dict[str, float]:
    metrics.metrics.flush()
    page = api().get("/metrics")
    assert page.status_code == 200 and page["Content-Type"].startswith("text/plain")
    lines = [line for line in page.content.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.fixture(autouse=True)
def _fresh():
    metrics.metrics.flush()
    with metrics.connect() as client:
        client.delete(metrics.COUNTS_KEY, metrics.PROCESSES_KEY)


def test_nothing_is_shown_without_an_account_that_may_see_all():
    for path in ("/metrics", "/api/v1/scheduler"):
        assert APIClient().get(path).status_code == 401
        assert api(people.stranger()).get(path).status_code == 403


def test_a_beat_instance_at_work_is_seen():
    people.task(cron_expr="* * * * * *")
    beat = Conductor(lambda firings, token: None, LeaseKeeper(SCHEDULER, holder="first"), Plan())
    for _ in range(2):
        beat.step()
        beat._reported_at = float("-inf")
    found = shown()
    assert found["quartzflow_scheduler_up"] == 1
    assert found['quartzflow_scheduler_leader{instance="beat:first"}'] == 1
    assert found['quartzflow_scheduler_tasks{instance="beat:first"}'] == 1
    assert found['quartzflow_scheduler_backlog{instance="beat:first"}'] == 0
    assert found["quartzflow_firings_total"] == found["quartzflow_firing_batch_sum"] >= 1
    health = api().get("/api/v1/scheduler").json()["data"]
    assert (health["alive"], health["leader"], health["token"]) == (True, "first", 1)
    assert health["instances"]["beat:first"]["leader"] is True


def test_how_late_executions_begin_and_how_they_end_is_counted():
    people.online_client()
    (execution,) = fire([Firing(people.task().pk, NOON)])
    begun = int(NOON.timestamp() * 1000) + 30
    name = execution.execution_id
    started = pb.TaskProgress(execution_id=name, status=pb.RUNNING, started_at=begun)
    ingest([Progress("web-1", started)])
    ingest([Progress("web-1", started)])  # again
    assert shown()['quartzflow_executions_live{hold="",status="RUNNING"}'] == 1
    ingest([Result("web-1", pb.TaskResult(execution_id=name, status=pb.FAILURE, started_at=begun))])
    found = shown()
    assert found["quartzflow_start_lateness_seconds_count"] == 1
    assert found["quartzflow_start_lateness_seconds_sum"] == pytest.approx(0.03)
    assert found['quartzflow_start_lateness_seconds_bucket{le="0.05"}'] == 1
    assert found['quartzflow_start_lateness_seconds_bucket{le="0.02"}'] == 0
    assert found['quartzflow_executions_ended_total{status="failure"}'] == 1
    assert api().get("/api/v1/scheduler").json()["data"]["lateness_p99"] == 0.05


def test_counts_of_several_processes_add_up_and_are_written_by_themselves():
    one, two = Metrics(0.05), Metrics(0.05)
    for process in (one, two):
        process.count("firings", 2)
        process.count("firings", 0)
        process.observe("firing_batch", [1, 7, 20_000])
        process.observe("firing_batch", [])
    deadline = time.monotonic() + 5
    while metrics.read_counts().get("firing_batch|+Inf") != 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    counts = metrics.read_counts()
    assert counts["firings|"] == 4
    assert metrics.histogram(counts, "firing_batch") == (
        [("1", 2), ("10", 4), ("100", 4), ("500", 4), ("1000", 4), ("5000", 4), ("10000", 4), ("+Inf", 6)],
        40_016,
    )
    assert metrics.quantile(counts, "firing_batch", 0.5) == 10
    assert metrics.quantile(counts, "firing_batch", 0.99) is None
    assert metrics.quantile({}, "firing_batch", 0.5) is None


def test_processes_that_no_longer_report_are_left_out(monkeypatch):
    process = Metrics()
    process.report("beat:old", {"leader": True})
    process.flush()
    assert list(metrics.read_processes()) == ["beat:old"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 40)
    assert metrics.read_processes() == {}
    monkeypatch.setattr(time, "time", lambda: now + 4000)
    assert metrics.read_processes() == {}
    with metrics.connect() as client:
        assert not client.hexists(metrics.PROCESSES_KEY, "beat:old")


def test_a_redis_that_is_away_hides_only_what_it_holds(monkeypatch, settings):
    import redis

    def away(*args, **kwargs):
        raise redis.ConnectionError("away")

    monkeypatch.setattr(metrics, "connect", away)
    process = Metrics()
    process.count("firings")
    process.flush()  # does not raise
    process.count("firings")
    process.flush()
    page = api().get("/metrics").content.decode()
    assert "quartzflow_redis_up 0.0" in page and "quartzflow_scheduler_up 0.0" in page
    assert api().get("/api/v1/scheduler").json()["data"]["queue_length"] is None
    assert observe.QUEUE == "qf.celery"
