"""Idempotency-Key on trigger, and how often one may ask."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from executions_app.models import Execution
from quartzflow.api import idempotency
from quartzflow.api.throttling import RateLimit
from quartzflow.models import IdempotencyKey
from quartzflow.system_settings import do_change_settings
from tests import people


@pytest.fixture
def on(each_database):
    """Both databases."""


def api(user=None):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user or people.admin())[1]}")
    return client


def trigger(call, task, key, **params):
    headers = {"Idempotency-Key": key} if key is not None else {}
    return call.post(f"/api/v1/tasks/{task.pk}/trigger", {"params": params}, format="json", headers=headers)


@pytest.fixture
def task(on):
    people.online_client()
    return people.task()


class TestKeys:
    def test_the_same_request_is_done_once_and_answered_the_same(self, task):
        call = api()
        first, again = trigger(call, task, "k1", a="1"), trigger(call, task, "k1", a="1")
        assert first.status_code == again.status_code == 200
        assert first.json() == again.json()
        assert again.headers["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers
        assert Execution.objects.count() == 1
        trigger(call, task, "k2", a="1")
        trigger(call, task, None, a="1")
        assert Execution.objects.count() == 3

    def test_another_request_with_the_key_is_refused(self, task):
        call = api()
        trigger(call, task, "k1", a="1")
        for other in (trigger(call, task, "k1", a="2"), trigger(call, people.task("other"), "k1", a="1")):
            assert other.status_code == 409
            assert "Idempotency-Key" in other.json()["message"]
        assert Execution.objects.count() == 1

    def test_keys_are_each_persons_own(self, task):
        trigger(api(), task, "k1")
        trigger(api(people.admin("second")), task, "k1")
        assert Execution.objects.count() == 2

    def test_a_request_that_failed_may_be_sent_again(self, task):
        call = api()
        assert trigger(call, task, "k1", **{"1bad": "x"}).status_code == 400
        assert not IdempotencyKey.objects.exists()
        assert trigger(call, task, "k1", good="x").status_code == 200

    def test_it_holds_for_a_day(self, task):
        call = api()
        trigger(call, task, "k1")
        IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=23))
        trigger(call, task, "k1")
        assert (Execution.objects.count(), idempotency.forget_old_keys()) == (1, 0)
        IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
        trigger(call, task, "k1")
        assert Execution.objects.count() == 2
        IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
        assert idempotency.forget_old_keys() == 1

    @pytest.mark.parametrize("key", ["", "a b", "é", "x" * 129])
    def test_a_key_that_is_none_is_refused(self, task, key):
        answer = trigger(api(), task, key)
        assert answer.status_code == 400
        assert list(answer.json()["errors"]) == ["Idempotency-Key"]

    def test_who_may_not_see_the_task_any_more_gets_no_answer_kept_for_another_key(self, task):
        stranger = api(people.stranger())
        assert trigger(stranger, task, "k1").status_code == 404
        assert not IdempotencyKey.objects.exists()

    def test_requests_at_the_same_moment_run_it_once(self, task):
        calls = [api() for _ in range(4)]
        barrier = Barrier(len(calls))

        def ask(call):
            barrier.wait(10)
            try:
                return trigger(call, task, "k1").json()
            finally:
                connection.close()

        with ThreadPoolExecutor(len(calls)) as pool:
            answers = list(pool.map(ask, calls))
        assert answers[0]["code"] == 0
        assert all(answer == answers[0] for answer in answers)
        assert Execution.objects.count() == 1


@pytest.mark.django_db
class TestRate:
    @pytest.fixture(autouse=True)
    def _minute(self, monkeypatch):
        """The clock stands 17 s before the next minute."""
        monkeypatch.setattr("quartzflow.api.throttling.time.time", lambda: 1_000_000 * 60 + 43.0)

    def test_beyond_it_the_answer_says_when_to_come_again(self):
        do_change_settings(people.admin(), {"api_rate": 2})
        call, other = api(), api()
        assert [call.get("/api/v1/groups").status_code for _ in range(3)] == [200, 200, 429]
        refused = call.get("/api/v1/groups")
        assert refused.json()["code"] == 1029
        assert refused.headers["Retry-After"] == "18"
        assert other.get("/api/v1/groups").status_code == 200  # another token of the same person
        session = APIClient()
        session.force_login(people.admin())
        assert [session.get("/api/v1/groups").status_code for _ in range(3)] == [200, 200, 429]

    def test_the_next_minute_begins_anew(self, monkeypatch):
        do_change_settings(people.admin(), {"api_rate": 1})
        call = api()
        assert [call.get("/api/v1/groups").status_code for _ in range(2)] == [200, 429]
        monkeypatch.setattr("quartzflow.api.throttling.time.time", lambda: 1_000_001 * 60 + 1.0)
        assert call.get("/api/v1/groups").status_code == 200

    def test_zero_is_no_limit_and_costs_no_count(self, monkeypatch):
        do_change_settings(people.admin(), {"api_rate": 0})
        monkeypatch.setattr(RateLimit, "_who", lambda *_: pytest.fail("nobody is counted"))
        assert api().get("/api/v1/groups").status_code == 200

    def test_without_redis_everybody_is_served(self, settings):
        settings.CACHES = {
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": "unix:///nowhere/redis.sock",
            }
        }
        assert api().get("/api/v1/groups").status_code == 200
