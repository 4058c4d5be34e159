"""Errors that pages report: who may, how much, and that they reach the log."""

import pytest
import redis
import time_machine
from django.core.cache import cache
from django.test import Client as Browser
from django.urls import reverse

from tests import people

pytestmark = pytest.mark.django_db


def browser(user) -> Browser:
    found = Browser()
    found.force_login(user)
    return found


def test_errors_of_pages_reach_the_log(caplog):
    page = browser(people.stranger())
    report = {"message": "x is not defined", "source": "a.js:3", "stack": "at a", "page": "/console/"}
    url = reverse("admin:client_error")
    assert page.post(url, report, content_type="application/json").status_code == 204
    assert "x is not defined" in caplog.text
    for body in ("[1]", "no json", "x" * 9000):
        assert page.post(url, body, content_type="application/json").status_code == 400
    assert page.get(url).status_code == 400


def test_errors_of_pages_come_from_our_own_pages_only():
    url = reverse("admin:client_error")
    report = {"message": "x"}
    assert Browser().post(url, report, content_type="application/json").status_code == 302  # to the log-in
    page = Browser(enforce_csrf_checks=True)
    page.force_login(people.stranger())
    assert page.post(url, report, content_type="application/json").status_code == 403


def test_errors_of_pages_do_not_flood_the_log(caplog):
    page, url = browser(people.stranger()), reverse("admin:client_error")
    with time_machine.travel("2026-03-01T00:00:10Z", tick=False):
        answers = [page.post(url, {"message": "again"}, content_type="application/json") for _ in range(31)]
    assert [answer.status_code for answer in answers] == [204] * 30 + [429]
    assert answers[-1].headers["Retry-After"] == "60"
    assert caplog.text.count("again") == 30
    with time_machine.travel("2026-03-01T00:01:10Z", tick=False):
        assert page.post(url, {"message": "x"}, content_type="application/json").status_code == 204


def test_errors_of_pages_are_dropped_when_they_cannot_be_counted(monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(cache, "incr", fail)
    answer = browser(people.stranger()).post(
        reverse("admin:client_error"), {"message": "x is not defined"}, content_type="application/json"
    )
    assert answer.status_code == 429
    assert "not counted" in caplog.text
    assert "x is not defined" not in caplog.text
