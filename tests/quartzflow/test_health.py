"""Health: alive, and ready only with every part."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from groups_app.models import Bridge
from quartzflow import health
from quartzflow.celery import app
from quartzflow.models import Lease
from tests.services import wait_until

SOON = timedelta(minutes=1)


@pytest.fixture
def a_scheduler_and_a_bridge(transactional_db: None) -> None:
    now = datetime.now(UTC)
    Lease.objects.create(name="scheduler", holder="beat", expires_at=now + SOON)
    Bridge.objects.create(bridge_id="bridge-1", started_at=now, expires_at=now + SOON)


@pytest.fixture
def a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(health.CHECKS, "worker", health.WorkerPing(lambda: True))


def ready_parts() -> tuple[int, dict[str, bool]]:
    response = Client().get("/readyz")
    assert response["Cache-Control"].startswith("max-age=0")
    return response.status_code, {name: part["ok"] for name, part in response.json()["parts"].items()}


def test_healthz_needs_neither_account_nor_database() -> None:
    response = Client().get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_health_answers_only_what_asks_without_changing() -> None:
    assert Client().post("/healthz").status_code == 405
    assert Client().head("/healthz").status_code == 200


@pytest.mark.usefixtures("a_scheduler_and_a_bridge", "a_worker")
def test_ready_when_every_part_is_there() -> None:
    parts = {"database": True, "redis": True, "scheduler": True, "bridge": True, "worker": True}
    assert ready_parts() == (200, parts)


@pytest.mark.usefixtures("a_scheduler_and_a_bridge", "a_worker")
@pytest.mark.parametrize(("model", "part"), [(Lease, "scheduler"), (Bridge, "bridge")])
def test_not_ready_once_a_lease_has_run_out(model: type, part: str) -> None:
    model.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    status, parts = ready_parts()
    assert (status, [name for name, ok in parts.items() if not ok]) == (503, [part])


@pytest.mark.usefixtures("a_scheduler_and_a_bridge")
def test_not_ready_without_a_worker_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PING_TIMEOUT", 0.05)
    monkeypatch.setitem(health.CHECKS, "worker", health.WorkerPing(health.worker_answers._ping))
    status, parts = ready_parts()
    assert (status, [name for name, ok in parts.items() if not ok]) == (503, ["worker"])


@pytest.mark.usefixtures("a_scheduler_and_a_bridge", "a_worker")
def test_not_ready_without_redis_and_the_reason_is_logged_not_told(
    monkeypatch: pytest.MonkeyPatch, settings, tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    class Elsewhere:
        redis_url = f"unix://{tmp_path}/nobody.sock"

    settings.ENV = Elsewhere
    response = Client().get("/readyz")
    assert response.status_code == 503
    assert not response.json()["parts"]["redis"]["ok"]
    assert "nobody.sock" not in response.content.decode()
    assert "nobody.sock" in caplog.text


@pytest.mark.usefixtures("a_worker")
def test_what_is_missing_is_logged_when_it_changes(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "_told", [])
    caplog.set_level("INFO")
    for _ in range(3):
        ready_parts()
    assert [
        record.getMessage().count("not ready") for record in caplog.records if "ready" in record.getMessage()
    ] == [1]


async def test_a_part_that_hangs_counts_as_missing_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "PART_TIMEOUT", 0.05)
    monkeypatch.setitem(health.CHECKS, "redis", lambda: not time.sleep(0.5))
    started = time.monotonic()
    part = await health._examine("redis")
    assert not part["ok"]
    assert time.monotonic() - started < 0.4


def test_workers_are_asked_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    ping = health.WorkerPing(lambda: bool(asked.append(1)) or True)
    assert [ping(), ping(), ping()] == [True, True, True]
    assert len(asked) == 1
    monkeypatch.setattr(health, "PING_KEPT", 0.0)
    assert ping()
    assert len(asked) == 2


def test_a_real_worker_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from celery.contrib.testing.worker import start_worker

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=10):
        wait_until(health.worker_answers._ping, 20, "the worker's answer")
