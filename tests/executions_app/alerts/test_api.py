"""Alerts by API: what one sees, what one may do, what never comes out."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from guardian.shortcuts import assign_perm
from rest_framework.test import APIClient

from executions_app.alerts.models import Alert, AlertDelivery, AlertRule
from tests import people

from .conftest import SECRET, Receiver, rule, webhook

pytestmark = pytest.mark.django_db
AT = datetime(2026, 3, 2, tzinfo=UTC)


def client(user: User) -> APIClient:
    call = APIClient()
    call.force_authenticate(user)
    return call


def alert(of: AlertRule, key: str, **fields: Any) -> Alert:
    return Alert.objects.create(rule=of, key=key, kind=of.kind, first_at=AT, last_at=AT, **fields)


@pytest.fixture
def _own_keys(settings, tmp_path):
    settings.QF_DATA_DIR = tmp_path


def test_one_sees_the_alerts_of_tasks_and_hosts_that_one_may_see():
    found = rule("failure")
    mine, other = people.task(), people.task("other")
    host, _elsewhere = people.online_client(), people.online_client("db-1", people.group("db"), session="s2")
    for task in (mine, other):
        alert(found, f"task:{task.pk}", task_id=task.pk)
    for name in ("web-1", "db-1"):
        alert(found, f"client:{name}", client_id=name)
    user = people.stranger()
    assert client(user).get("/api/v1/alerts").json()["data"]["total"] == 0
    assign_perm("tasks_app.view_task", user, mine)
    assign_perm("groups_app.view_group", user, host.group)
    items = client(user).get("/api/v1/alerts").json()["data"]["items"]
    assert {(item["task_id"], item["client_id"]) for item in items} == {(mine.pk, ""), (None, "web-1")}


def test_open_alerts_come_first_and_the_list_costs_the_same_however_long(django_assert_max_num_queries):
    found = rule("failure")
    for number in range(8):
        state = ("open", "resolved", "acknowledged")[number % 3]
        alert(found, f"task:{number}", task_id=number, state=state)
    with django_assert_max_num_queries(3):
        items = client(people.admin()).get("/api/v1/alerts").json()["data"]["items"]
    states = [item["state"] for item in items]
    assert states == ["open"] * 3 + ["acknowledged"] * 2 + ["resolved"] * 3
    chosen = client(people.admin()).get("/api/v1/alerts?state=open&task_id=3").json()["data"]["items"]
    assert [item["task_id"] for item in chosen] == [3]


def test_acknowledge_then_resolve_and_not_twice():
    one = alert(rule("failure"), "task:1", task_id=1)
    call = client(people.admin())
    assert call.post(f"/api/v1/alerts/{one.pk}/acknowledge").json()["data"]["acknowledged_by"] == "admin"
    assert call.post(f"/api/v1/alerts/{one.pk}/acknowledge").status_code == 409
    assert call.post(f"/api/v1/alerts/{one.pk}/resolve").json()["data"]["state"] == "resolved"


def test_a_rule_is_made_changed_and_deleted(receiver: Receiver):
    channel, task = webhook(receiver), people.task()
    call = client(people.admin())
    body = {
        "name": "r",
        "kind": "failure",
        "scope": "tasks",
        "task_ids": [task.pk],
        "channel_ids": [channel.pk],
    }
    made = call.post("/api/v1/alert-rules", body, format="json")
    assert made.status_code == 201 and made.json()["data"]["task_ids"] == [task.pk]
    url = f"/api/v1/alert-rules/{made.json()['data']['id']}"
    changed = call.patch(url, {"severity": "critical"}, format="json").json()["data"]
    assert changed["severity"] == "critical" and changed["channel_ids"] == [channel.pk]
    wrong = call.patch(url, {"title": "{{ nothing }}"}, format="json")
    assert wrong.status_code == 400 and "title" in wrong.json()["errors"]
    assert call.delete(url).status_code == 200 and call.get(url).status_code == 404


def test_a_rule_names_only_what_its_maker_may_see():
    user, hidden = people.stranger(), people.task()
    assign_perm("executions_app.add_alertrule", user)
    call = client(user)
    for body in ({"scope": "global"}, {"scope": "tasks", "task_ids": [hidden.pk]}):
        answer = call.post("/api/v1/alert-rules", {"name": "r", "kind": "failure", **body}, format="json")
        assert answer.status_code == 400


@pytest.mark.usefixtures("_own_keys")
def test_what_a_channel_knows_never_comes_out_and_its_messages_can_be_followed(receiver: Receiver):
    call = client(people.admin())
    config = {"url": receiver.url, "secret": SECRET}
    made = call.post(
        "/api/v1/alert-channels", {"name": "c", "kind": "webhook", "config": config}, format="json"
    )
    assert made.status_code == 201
    url = f"/api/v1/alert-channels/{made.json()['data']['id']}"
    assert call.post(f"{url}/test").status_code == 200 and len(receiver.got) == 1
    receiver.status = 500
    failed = call.post(f"{url}/test")
    assert failed.status_code == 409 and "500" in failed.json()["message"]
    AlertDelivery.objects.create(channel_id=made.json()["data"]["id"], title="T", error="E")
    log = call.get(f"{url}/deliveries")
    assert log.json()["data"]["items"][0]["error"] == "E"
    for answer in (made, call.get(url), call.get("/api/v1/alert-channels"), failed, log):
        assert SECRET not in answer.content.decode() and receiver.url not in answer.content.decode()


def test_a_silence_is_made_and_changed_by_one_field():
    call = client(people.admin())
    body = {
        "name": "n",
        "weekdays": [5, 6],
        "time_begins": "00:00",
        "time_ends": "08:00",
        "zone": "Asia/Shanghai",
    }
    made = call.post("/api/v1/alert-silences", body, format="json")
    assert made.status_code == 201, made.json()
    url = f"/api/v1/alert-silences/{made.json()['data']['id']}"
    changed = call.patch(url, {"weekdays": [6]}, format="json").json()["data"]
    assert changed["weekdays"] == [6] and changed["time_ends"] == "08:00:00"
