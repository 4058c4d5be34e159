"""The page of figures where counting takes long, or what it leans on is away."""

import json

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from executions_app.reports import figures, query
from executions_app.tasks import count_figures
from tests import people

from .conftest import NOON, ok
from .test_pages import DAYS, STATISTICS, signed_in

pytestmark = pytest.mark.django_db


def test_what_takes_longer_than_a_page_may_is_counted_by_a_worker(monkeypatch):
    sent: list[tuple[str, list]] = []
    monkeypatch.setattr(
        query.app, "send_task", lambda name, arguments, **more: sent.append((name, arguments))
    )
    monkeypatch.setattr(figures, "AT_ONCE", 1)
    ok(NOON)
    ok(NOON)
    browser = signed_in()
    for _ in range(2):
        page = browser.get(STATISTICS, {**DAYS, "host": "web-1"})
        assert page.context["too_many"] and "正在统计" in page.content.decode()
        assert 'data-every="1500"' in page.content.decode()
    ((name, arguments),) = sent  # asked once
    assert name == count_figures.name
    count_figures(*json.loads(json.dumps(arguments)))
    page = browser.get(STATISTICS, {**DAYS, "host": "web-1"})
    assert page.context["figures"].total.total == 2 and "data-every" not in page.content.decode()
    count_figures(10**6, *arguments[1:])  # whoever has asked is gone


def test_a_broker_that_is_away_costs_the_page_nothing(monkeypatch):
    def away(*args, **more):
        raise OperationalError("connection refused")

    monkeypatch.setattr(query.app, "send_task", away)
    monkeypatch.setattr(figures, "AT_ONCE", 0)
    ok(NOON)
    assert signed_in().get(STATISTICS, DAYS).context["too_many"]


def test_what_takes_long_to_count_is_counted_once_for_a_while(monkeypatch):
    monkeypatch.setattr(query, "WORTH", 1e6)
    ok(NOON)
    browser = signed_in()
    assert browser.get(STATISTICS, DAYS).context["figures"].total.total == 1
    ok(NOON)
    assert browser.get(STATISTICS, DAYS).context["figures"].total.total == 1
    assert signed_in(people.stranger()).get(STATISTICS, DAYS).context["figures"].total.total == 0
    assert browser.get(STATISTICS, {**DAYS, "host": "web-1"}).context["figures"].total.total == 2


def test_without_redis_the_page_counts_for_itself(monkeypatch):
    def away(*args, **kwargs):
        raise RedisError("connection refused")

    monkeypatch.setattr(query, "WORTH", 1e6)
    monkeypatch.setattr(query.cache, "get", away)
    monkeypatch.setattr(query.cache, "set", away)
    ok(NOON)
    assert signed_in().get(STATISTICS, DAYS).context["figures"].total.total == 1
