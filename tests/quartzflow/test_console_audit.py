"""The console's audit log, without a browser."""

import csv
import io
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone

from quartzflow.admin_audit import neutral
from quartzflow.audit import record
from quartzflow.models import AuditEntry
from tests import people
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
    assert AuditEntry.objects.filter(action="audit.export", changes__query={"actor": "alice"}).exists()


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\tx", "\rx"])
def test_what_a_spreadsheet_would_run_is_text(text):
    assert neutral(text) == f"'{text}"
    assert neutral("plain") == "plain"
