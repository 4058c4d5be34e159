"""Log search by API and in the console."""

import pytest
from django.urls import reverse
from django.utils import translation
from guardian.shortcuts import assign_perm
from rest_framework.test import APIClient

from executions_app import log_search, log_search_index, retention
from executions_app.log_search_index import Mode, State
from executions_app.models import Execution, ExecutionLog
from quartzflow import system_settings
from quartzflow.execution_status import ExecutionStatus
from quartzflow.preferences import do_save_preferences
from tests import people
from tests.executions_app.test_log_search import NOON, ran
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db
PAGE = "admin:executions_app_executionlog_changelist"


def call(query, user=None):
    client = APIClient()
    client.force_authenticate(user or people.admin())
    return client.get("/api/v1/logs/search", query)


def page(user=None, **query):
    return browser(user).get(reverse(PAGE), query)


def english():
    do_save_preferences(people.admin(), {"language": "en"})
    return browser()


def test_the_api_tells_where_it_is():
    task = people.task()
    pk = ran("one\ntwo <needle> needle\n", error="Needle!", task_id=task.pk, status=ExecutionStatus.FAILURE)
    answer = call(
        {"q": "needle", "from": "2026-03-01T00:00:00Z", "task": task.pk, "client": "web-1", "status": "4"}
    )
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert data["items"] == [
        {
            "execution_id": pk, "task_id": task.pk, "task_name": "job", "client_id": "web-1", "status": 4,
            "scheduled_time": "2026-03-01T12:00:00.000Z", "count": 3,
            "lines": [
                {"where": "output", "line": 2, "text": "two <needle> needle", "marks": [[5, 11], [13, 19]]},
                {"where": "error", "line": 1, "text": "Needle!", "marks": [[0, 6]]},
            ],
        }
    ]  # fmt: skip
    assert (data["further"], data["reached"], data["took_too_long"]) == (None, None, False)
    assert data["index"] == {"mode": "trigrams", "waiting": 1}


def test_the_api_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr(log_search, "PAGE", 2)
    monkeypatch.setattr(log_search.search, "__defaults__", (2,))
    pks = [ran("needle") for _n in range(3)]
    first = call({"q": "needle"}).json()["data"]
    assert [item["execution_id"] for item in first["items"]] == [pks[2], pks[1]]
    rest = call({"q": "needle", "before": first["further"]}).json()["data"]
    assert ([item["execution_id"] for item in rest["items"]], rest["further"]) == ([pks[0]], None)


def test_the_api_names_what_is_wrong():
    answer = call({"q": "x", "status": "dead", "page": "1"})
    assert answer.status_code == 400
    assert answer.json()["errors"].keys() == {"q", "status", "page"}


def test_what_takes_too_long_says_what_to_do(monkeypatch):
    def late(*args):
        raise log_search.TooLong

    monkeypatch.setattr(log_search, "search", late)
    answer = call({"q": "needle"})
    assert (answer.status_code, answer.json()["code"]) == (503, 1016)
    with translation.override("en"):
        assert "Narrow the time range" in str(log_search.TooLong.default_message)
    shown = page(q="needle")
    assert (shown.status_code, str(log_search.TooLong.default_message) in shown.content.decode()) == (
        200,
        True,
    )


def test_the_page_shows_hits_with_links_to_their_lines():
    task = people.task()
    pk = ran("one\n<script>needle</script> & needle\n" + "needle\n" * 3, task_id=task.pk)
    ran("hay")
    ran("", error="needle")
    text = page(q="needle").content.decode()
    url = reverse("admin:executions_app_execution_change", args=[pk])
    assert f"{url}?find=needle&amp;line=2#log" in text
    assert "&lt;script&gt;<mark>needle</mark>&lt;/script&gt; &amp; <mark>needle</mark>" in text
    assert "<script>needle" not in text
    assert "#error" in text
    assert [result["more"] for result in page(q="needle").context["results"]] == [0, 2]


def test_the_page_keeps_what_was_chosen_and_goes_on(monkeypatch):
    monkeypatch.setattr(log_search.search, "__defaults__", (1,))
    for minutes in range(2):
        ran("needle", minutes=minutes)
    shown = page(q="needle", status="3", time="", task="")
    further = shown.context["found"].further
    assert f"?q=needle&amp;status=3&amp;time=&amp;task=&amp;before={further}" in shown.content.decode()
    rest = page(q="needle", status="3", before=further)
    assert len(rest.context["results"]) == 1
    assert "?q=needle&amp;status=3" in rest.content.decode()


def test_a_chosen_time_has_its_beginning_and_ones_own_comes_first():
    ran("needle")
    for query, count in (
        ({}, 1),
        ({"time": "hour"}, 0),
        ({"time": "today"}, 0),
        ({"time": "30"}, 0),
        ({"time": "7", "from": "2026-03-01T00:00"}, 1),
        ({"to": NOON.isoformat()}, 0),
    ):
        assert len(page(q="needle", **query).context["results"]) == count, query


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "What did it print?"),
        ({"q": "x"}, "From 2 to 200 characters."),
        ({"q": "needle", "from": "x"}, "A moment such as"),
        ({"q": "needle"}, "No output has this text. Try a shorter one."),
        ({"q": "needle", "status": "bad"}, "within these limits"),
    ],
)
def test_the_page_says_what_is_going_on(query, words):
    answer = english().get(reverse(PAGE), query)
    assert (answer.status_code, words in answer.content.decode()) == (200, True)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State(Mode.WORDS, 0), "Only whole words are found"),
        (State(Mode.NONE, 0), "only the newest outputs are searched"),
        (State(Mode.TRIGRAMS, 1), "1 is still being indexed"),
        (State(Mode.TRIGRAMS, 10_000), "More than 10000 are still being indexed"),
    ],
)
def test_the_page_says_what_the_index_lacks(state, words, monkeypatch):
    monkeypatch.setattr(log_search_index, "state", lambda: state)
    assert words in english().get(reverse(PAGE)).content.decode()


def test_what_was_not_searched_is_said(monkeypatch):
    monkeypatch.setattr(log_search, "READ_WITHOUT", 1)
    monkeypatch.setattr(log_search, "AT_A_TIME", 1)
    ran("hay")
    ran("hay")
    text = english().get(reverse(PAGE), {"q": "ab"}).content.decode()
    assert "Nothing found so far" in text and "Searched back to" in text and "Two characters" in text


class TestRights:
    def test_the_page_is_for_those_who_may_read_some_log(self):
        user, task = people.stranger(), people.task()
        pk = ran("needle", task_id=task.pk)
        assert page(user, q="needle").status_code == 403
        assert reverse(PAGE) not in browser(user).get(reverse("admin:index")).content.decode()
        assign_perm("tasks_app.view_task", user, task)
        assert page(user, q="needle").status_code == 403
        assign_perm("tasks_app.view_logs_task", user, task)
        assert [result["execution"].pk for result in page(user, q="needle").context["results"]] == [pk]
        assert reverse(PAGE) in browser(user).get(reverse("admin:index")).content.decode()
        assert call({"q": "needle"}, user).json()["data"]["items"][0]["execution_id"] == pk

    def test_nothing_is_changed_there(self):
        pk = ran("needle")
        for name in ("change", "delete", "history"):
            answer = browser().get(reverse(f"admin:executions_app_executionlog_{name}", args=[pk]))
            assert answer.status_code in (302, 403)
        assert browser().get(reverse("admin:executions_app_executionlog_add")).status_code == 403
        assert ExecutionLog.objects.filter(pk=pk).exists()


def test_a_search_costs_the_same_whatever_is_there(django_assert_max_num_queries):
    for _n in range(30):
        ran("needle")
    with django_assert_max_num_queries(12):
        assert len(log_search.search(people.admin(), log_search.Wanted("needle")).hits) == 20
    page(q="needle")
    with django_assert_max_num_queries(45):
        assert len(page(q="needle").context["results"]) == 20


def test_an_execution_says_that_its_output_is_gone():
    pk = ran("needle")
    ExecutionLog.objects.all().delete()
    url = reverse("admin:executions_app_execution_change", args=[pk])
    words = "Its output has left the database"
    assert words in english().get(url).content.decode()
    system_settings.assume({"output_days": 0})
    assert words not in english().get(url).content.decode()
    assert not retention.output_is_gone(Execution.objects.get(pk=pk))
