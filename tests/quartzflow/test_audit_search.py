"""Finding entries in an audit log that has many."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from quartzflow import audit, audit_search
from quartzflow.models import AuditEntry
from tests import people
from tests.quartzflow.test_api import api
from tests.quartzflow.test_console import browser

LIST = "admin:quartzflow_auditentry_changelist"
NOW = people.at(2026, 3, 1, 12)
DAY = timedelta(days=1)


def write(count, **fields):
    """Entries of one a minute, the last of them a minute before NOW, and no others."""
    QuerySet(AuditEntry).delete()  # the model's own refuses
    usual = {"action": "task.update", "actor_name": "li", "object_type": "tasks_app.task", "object_id": "7"}
    rows = [
        AuditEntry(
            at=NOW - timedelta(minutes=count - n),
            object_name=f"job-{n:05}",
            address=f"10.0.{n // 250}.{n % 250}",
            request_id=f"request-{n}",
            **{**usual, **fields},
        )
        for n in range(count)
    ]
    AuditEntry.objects.bulk_create(rows)


def names(rows):
    return list(rows.order_by("-id").values_list("object_name", flat=True))


def plans(get):
    """What the database says of each SELECT of the audit log that a request asks."""
    with CaptureQueriesContext(connection) as captured:
        assert get().status_code == 200
    found = []
    for query in captured.captured_queries:
        if "tb_audit_log" in query["sql"] and query["sql"].startswith("SELECT"):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {query['sql'].replace('%', '%%')}", [])
                found.append("\n".join(row[0] for row in cursor.fetchall()))
    return found


@pytest.mark.parametrize(
    ("path", "query", "index"),
    [
        ("page", {"q": "job-01234"}, "idx_audit_search"),
        ("page", {"q": "nothing is called so"}, "idx_audit_search"),
        ("page", {"q": "10.0.3.77"}, "idx_audit_search"),
        ("page", {"q": "REQUEST-1234"}, "idx_audit_search"),
        ("api", {"object_name": "job-01234"}, "idx_audit_search"),
        ("api", {"address": "10.0.3.77"}, "idx_audit_address"),
        ("api", {"request_id": "request-1234"}, "idx_audit_request"),
        ("api", {"object_id": "8"}, "idx_audit_object_id"),
        ("api", {"action": "group."}, "idx_audit_action"),
    ],
)
def test_postgresql_finds_by_an_index_and_never_reads_all(postgres_db, path, query, index):
    write(20_000)
    audit.record("li", "group.create", None, {}, name="web")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tb_audit_log")
    url = reverse(LIST) if path == "page" else "/api/v1/audit"
    caller = browser() if path == "page" else api()
    found = plans(lambda: caller.get(url, query))
    assert any(index in plan for plan in found), found
    # A list without conditions ends with its first rows.
    assert not [plan for plan in found if "Seq Scan" in plan and "Filter:" in plan], found


@pytest.mark.parametrize("path", ["page", "api"])
def test_days_long_ago_are_read_by_their_time(postgres_db, path):
    write(20_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tb_audit_log")
    day = NOW - 10 * DAY
    if path == "page":
        query = {"from": f"{day:%Y-%m-%d}", "to": f"{day:%Y-%m-%d}"}
        found = plans(lambda: browser().get(reverse(LIST), query))
    else:
        query = {"since": day.isoformat(), "until": (day + DAY).isoformat()}
        found = plans(lambda: api().get("/api/v1/audit", query))
        items = api().get("/api/v1/audit", query).json()["data"]["items"]
        assert items[0]["object_name"] == f"job-{20_000 - 9 * 1440 - 1:05}"
    assert len([plan for plan in found if "idx_audit_at" in plan]) == 2, found  # the count and the rows


@pytest.mark.django_db
class TestWithoutAnIndex:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch):
        monkeypatch.setattr(audit_search, "LOOKED_AT", 100)

    def test_the_newest_are_looked_at_and_the_page_says_so(self):
        write(1000)
        page = browser().get(reverse(LIST), {"q": "job-0000"})
        assert len(page.context["cl"].result_list) == 0
        assert "只查找了最新的 100 条记录" in page.content.decode()
        page = browser().get(reverse(LIST), {"q": "job-00999"})
        assert [row.object_name for row in page.context["cl"].result_list] == ["job-00999"]

    def test_days_further_back_are_looked_at_when_they_are_chosen(self):
        write(3000)
        day = NOW - 2 * DAY
        page = browser().get(reverse(LIST), {"q": "job-0", "to": f"{day:%Y-%m-%d}", "from": "2026-01-01"})
        assert len(page.context["cl"].result_list)
        assert page.context["cl"].result_list[0].at < day + DAY
        found = api().get("/api/v1/audit", {"object_name": "job-0", "until": day.isoformat()}).json()["data"]
        assert found["total"] == 100

    def test_an_export_of_a_part_is_refused(self):
        write(1000)
        count = AuditEntry.objects.filter(action="audit.export").count()
        answer = api().get("/api/v1/audit/export", {"object_name": "job-"})
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["object_name"])
        export = reverse("admin:quartzflow_auditentry_export")
        page = browser().post(f"{export}?q=job-", {"format": "csv"}, follow=True)
        assert "100" in str(next(iter(page.context["messages"])))
        assert AuditEntry.objects.filter(action="audit.export").count() == count
        whole = api().get("/api/v1/audit/export", {"object_name": "job-", "since": NOW.isoformat()})
        assert whole.status_code == 200

    def test_where_all_were_looked_at_nothing_is_said(self):
        write(50)
        assert "只查找了最新的" not in browser().get(reverse(LIST), {"q": "nothing"}).content.decode()


@pytest.mark.parametrize(
    ("text", "indexed"),
    [("备份", False), ("ab", False), ("---", False), ("备份任务", True), ("a job", True), ("10.0.7.7", True)],
)
def test_postgresql_has_an_index_for_what_has_trigrams(postgres_db, text, indexed):
    assert audit_search._is_indexed(text) is indexed
    audit_search.remove()
    assert audit_search._is_indexed(text) is False
    audit_search.prepare()
    assert audit_search._is_indexed(text) is indexed


@pytest.mark.usefixtures("each_database")
def test_all_actions_that_begin_so():
    for action in ("task.update", "task.delete", "task_x.update", "group.create"):
        audit.record("li", action, None, {}, name=action)
    rows = AuditEntry.objects.filter(actor_name="li")
    assert set(names(audit_search.by_action(rows, "task."))) == {"task.update", "task.delete"}
    assert names(audit_search.by_action(rows, "task.update")) == ["task.update"]
    assert names(audit_search.by_action(rows, "nothing.")) == []
    assert list(audit.verify()) == []
