"""The console's audit log, without a browser."""

import csv
import io
import json
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone
from openpyxl import load_workbook

from quartzflow import audit_export
from quartzflow.audit import record
from quartzflow.audit_export import neutral
from quartzflow.models import AuditEntry
from tests import people
from tests.quartzflow.test_api import api
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db

LIST = "admin:quartzflow_auditentry_changelist"
EXPORT = "admin:quartzflow_auditentry_export"


def found(query):
    return [row.object_name for row in browser().get(reverse(LIST), query).context["cl"].result_list]


def test_entries_are_searched_and_filtered():
    people.admin()
    record("alice", "task.update", None, {"timeout": [10, 20]}, name="backup")
    record("bob", "group.create", None, {"name": "web"}, name="web")
    assert found({"q": "backup"}) == ["backup"]
    assert found({"q": "bob"}) == ["web"]
    assert found({"action": "group.create"}) == ["web"]
    assert found({"actor": "alice"}) == ["backup"]
    assert "backup" in found({"time": "1"})
    old = AuditEntry.objects.get(object_name="backup")
    old.pk, old.at, old.object_name = None, timezone.now() - timedelta(days=8), "old"
    old._state.adding = True
    old.save(force_insert=True)
    assert "old" not in found({"time": "7"})
    assert "old" in found({"time": "30"})


def test_what_was_and_what_is_are_shown():
    record("alice", "task.update", None, {"timeout": [10, 20]}, name="<b>backup</b>")
    record("alice", "group.create", None, {"tags": ["a", "b"]})
    content = browser().get(reverse(LIST)).content.decode()
    assert "<del>10</del>" in content
    assert "<ins>20</ins>" in content
    assert "<del>a</del>" not in content
    assert "<b>backup" not in content
    assert "任务 · 已修改" in content


def test_only_those_with_the_right_see_and_export_it():
    user = people.stranger()
    assert browser(user).get(reverse(LIST)).status_code == 403
    assert browser(user).post(reverse(EXPORT)).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_auditentry"))
    user = User.objects.get(pk=user.pk)
    assert browser(user).get(reverse(LIST)).status_code == 200
    assert browser(user).post(reverse(EXPORT)).status_code == 200
    assert browser(user).get(reverse(EXPORT)).status_code == 405


def test_the_export_has_the_filtered_entries_and_no_formula():
    record("alice", "task.update", None, {"a": [1, 2]}, name="=HYPERLINK(1)")
    record("bob", "task.update", None, {}, name="other")
    answer = browser().post(reverse(EXPORT) + "?actor=alice")
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["object"] for row in rows] == ["'=HYPERLINK(1)"]
    taken = AuditEntry.objects.get(action="audit.export")
    assert taken.changes == {"query": {"actor": "alice"}, "format": "csv"}


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\tx", "\rx"])
def test_what_a_spreadsheet_would_run_is_text(text):
    assert neutral(text) == f"'{text}"
    assert neutral("plain") == "plain"


def test_an_objects_history_is_a_link_away():
    group, other = people.group("web"), people.group("db")
    record("alice", "group.update", group, {"name": ["w", "web"]})
    record("alice", "group.update", other, {"name": ["d", "db"]})
    key = f"groups_app.group:{group.pk}"
    assert found({"object": key}) == ["web"]
    assert f"?object={key}" in browser().get(reverse(LIST)).content.decode()
    assert set(found({"kind": "groups_app.group"})) == {"web", "db"}


def test_a_range_of_days_counts_in_the_persons_time_zone(settings):
    record("alice", "task.update", None, {}, name="old")
    old = AuditEntry.objects.get(object_name="old")
    old.pk, old.at, old.object_name = None, people.at(2026, 3, 1, 17, 0), "march 2 in Shanghai"
    old._state.adding = True
    old.save(force_insert=True)
    assert found({"from": "2026-03-02", "to": "2026-03-02"}) == ["march 2 in Shanghai"]
    assert found({"to": "2026-03-01"}) == []
    assert "old" in found({"from": "2026-03-03"})
    assert "old" in found({"from": "nonsense"})


def test_the_other_formats_and_their_limits(monkeypatch):
    record("alice", "task.update", None, {"命令": [1, 2]}, name="=HYPERLINK(1)\x01")
    lines = (
        b"".join(browser().post(reverse(EXPORT), {"format": "jsonl"}).streaming_content).decode().splitlines()
    )
    entry = next(json.loads(line) for line in lines if "HYPERLINK" in line)
    assert entry["changes"] == {"命令": [1, 2]}
    assert len(entry["hash"]) == 64
    data = b"".join(browser().post(reverse(EXPORT), {"format": "xlsx"}).streaming_content)
    sheet = load_workbook(io.BytesIO(data)).active
    rows = [row for row in sheet.iter_rows(min_row=2) if "HYPERLINK" in str(row[8].value)]
    assert (rows[0][8].value, rows[0][8].data_type) == ("=HYPERLINK(1)", "s")
    assert isinstance(rows[0][1].value, datetime) and sheet.freeze_panes == "A2"
    assert browser().post(reverse(EXPORT), {"format": "exe"}).status_code == 302
    write, mime, _limit = audit_export.FORMATS["csv"]
    monkeypatch.setitem(audit_export.FORMATS, "csv", (write, mime, 1))
    count = AuditEntry.objects.filter(action="audit.export").count()
    person = browser()
    refused = person.post(reverse(EXPORT) + "?q=", {"format": "csv"}, follow=True)
    assert "1" in str(next(iter(refused.context["messages"])))
    assert AuditEntry.objects.filter(action="audit.export").count() == count


class TestApi:
    def test_it_is_searched_by_everything(self):
        group = people.group("web")
        record("alice", "group.update", group, {"token": ["a", "b"]})
        record("bob", "task.update", None, {}, name="备份")
        call = api()
        entry = call.get("/api/v1/audit", {"action": "group.update"}).json()["data"]["items"][0]
        assert entry["changes"] == {"token": "••••••"} and len(entry["hash"]) == 64
        now = timezone.now()
        for query, names in (
            ({"actor": "alice"}, ["web"]),
            ({"action": "group.", "actor": "alice"}, ["web"]),
            ({"object_type": "groups_app.group", "object_id": group.pk, "actor": "alice"}, ["web"]),
            ({"object_name": "份"}, ["备份"]),
            ({"actor": "bob", "since": (now - timedelta(hours=1)).isoformat()}, ["备份"]),
            ({"actor": "bob", "until": (now - timedelta(hours=1)).isoformat()}, []),
            ({"address": "10.0.0.1"}, []),
            ({"request_id": "none"}, []),
        ):
            items = call.get("/api/v1/audit/", query).json()["data"]["items"]
            assert [item["object_name"] for item in items] == names, query
        assert call.get(f"/api/v1/audit/{entry['id']}").json()["data"]["object_name"] == "web"
        assert call.get("/api/v1/audit", {"since": "yesterday"}).status_code == 400

    def test_it_is_taken_away_as_a_file(self):
        record("bob", "task.update", None, {}, name="-1")
        call = api()
        answer = call.get("/api/v1/audit/export", {"actor": "bob"})
        rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
        assert [row["object"] for row in rows] == ["'-1"]
        lines = call.get("/api/v1/audit/export", {"actor": "bob", "format": "jsonl"})
        assert json.loads(b"".join(lines.streaming_content))["object"] == "-1"
        wrong = call.get("/api/v1/audit/export", {"format": "pdf"})
        assert (wrong.status_code, list(wrong.json()["errors"])) == (400, ["format"])

    def test_only_with_the_right_and_nobody_writes(self):
        stranger = api(people.stranger())
        assert [stranger.get(f"/api/v1/audit{end}").status_code for end in ("", "/1", "/export")] == [403] * 3
        entry = AuditEntry.objects.latest("pk")
        for method in ("post", "put", "patch", "delete"):
            assert getattr(api(), method)(f"/api/v1/audit/{entry.pk}").status_code == 405

    def test_a_page_costs_the_same_for_many_entries(self, django_assert_num_queries):
        call = api()
        call.get("/api/v1/audit")
        for _ in range(10):
            record("bob", "task.update", None, {})
        with django_assert_num_queries(5):
            call.get("/api/v1/audit")
