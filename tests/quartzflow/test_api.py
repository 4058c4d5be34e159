"""The REST API in the PRD's words (PRD §8)."""

from datetime import UTC, timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from guardian.shortcuts import assign_perm
from knox.models import AuthToken
from rest_framework.test import APIClient

from executions_app.dispatch import Firing, fire
from executions_app.models import Execution, ExecutionLog
from tests import people

pytestmark = pytest.mark.django_db


def api(user=None):
    client = APIClient()
    token = AuthToken.objects.create(user or people.admin())[1]
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    return client


BODY = {
    "name": "日志清理",
    "description": "清理过期日志",
    "executor_type": 1,
    "executor_config": {"command": "find /var/log ...", "work_dir": "/var/log"},
    "cron_expr": "0 2 * * *",
    "timeout": 300,
    "retry_count": 3,
    "retry_interval": 60,
}


def test_the_examples_of_the_requirements():
    call = api()
    group = people.group()
    created = call.post("/api/v1/tasks", {**BODY, "group_ids": [group.pk]}, format="json")
    assert created.status_code == 201, created.json()
    task_id = created.json()["data"]["id"]

    listed = call.get(
        "/api/v1/tasks", {"page": 1, "page_size": 20, "status": 1, "group_id": group.pk, "keyword": "清理"}
    )
    body = listed.json()
    assert (body["code"], body["data"]["total"]) == (0, 1)
    item = body["data"]["items"][0]
    assert {k: item[k] for k in ("id", "name", "description", "executor_type", "cron_expr", "groups", "status")} == {
        "id": task_id, "name": "日志清理", "description": "清理过期日志", "executor_type": 1, "cron_expr": "0 2 * * *",
        "groups": ["default"], "status": 1,
    }  # fmt: skip
    assert item["next_exec_time"].endswith("T18:00:00Z")  # 02:00 in Shanghai

    changed = call.put(
        f"/api/v1/tasks/{task_id}", {**BODY, "timeout": 60, "group_ids": [group.pk]}, format="json"
    )
    assert changed.json()["data"]["timeout"] == 60
    assert call.post(f"/api/v1/tasks/{task_id}/disable").json()["data"]["status"] == 0
    assert call.post(f"/api/v1/tasks/{task_id}/enable").json()["data"]["status"] == 1
    parsed = call.get("/api/v1/tasks/cron/parse", {"expr": "0 2 * * *", "timezone": "UTC"}).json()["data"]
    assert len(parsed["next_executions"]) == 5 and parsed["next_executions"][0].endswith("T02:00:00Z")

    people.online_client()
    ran = call.post(f"/api/v1/tasks/{task_id}/trigger", {"params": {"key": "value"}}, format="json").json()
    execution_id = ran["data"]["execution_id"]
    ExecutionLog.objects.create(execution_id=execution_id, output="[2025-01-10 02:00:00] 开始执行...\n")
    found = call.get(
        "/api/v1/executions", {"task_id": task_id, "client_id": "web-1", "status": 1, "page": 1}
    ).json()["data"]
    assert (found["total"], found["items"][0]["id"], found["items"][0]["task_name"]) == (
        1,
        execution_id,
        "日志清理",
    )
    found = call.get(f"/api/v1/executions/{execution_id}").json()["data"]
    assert found["params"] == {"key": "value"}
    scheduled = Execution.objects.get().scheduled_time.astimezone(UTC)
    assert found["scheduled_time"] == f"{scheduled:%Y-%m-%dT%H:%M:%S}.{scheduled.microsecond // 1000:03}Z"
    log = call.get(f"/api/v1/executions/{execution_id}/logs").json()["data"]
    assert (log["output"], log["error"], log["truncated"]) == (
        "[2025-01-10 02:00:00] 开始执行...\n",
        "",
        False,
    )
    assert call.post(f"/api/v1/executions/{execution_id}/cancel").json()["data"]["status"] == 6
    assert call.post(f"/api/v1/executions/{execution_id}/cancel").status_code == 409

    assert call.delete(f"/api/v1/tasks/{task_id}").json() == {"code": 0, "data": None}
    assert call.get(f"/api/v1/tasks/{task_id}").status_code == 404
    assert call.get(f"/api/v1/executions/{execution_id}").status_code == 200


def test_groups():
    call = api()
    created = call.post(
        "/api/v1/groups", {"name": "production", "description": "生产环境", "tags": ["prod"]}, format="json"
    )
    pk = created.json()["data"]["id"]
    people.online_client("client-01", people.group("production"))
    (group,) = call.get("/api/v1/groups").json()["data"]
    assert group == {
        "id": pk, "name": "production", "description": "生产环境", "tags": ["prod"], "online_count": 1,
        "client_count": 1, "task_count": 0,
    }  # fmt: skip
    clients = call.get(f"/api/v1/groups/{pk}/clients").json()["data"]
    assert [c["client_id"] for c in clients["items"]] == ["client-01"]
    assert "credential_hash" not in clients["items"][0]
    assert (
        call.put(f"/api/v1/groups/{pk}", {"description": "x"}, format="json").json()["data"]["description"]
        == "x"
    )
    assert call.delete(f"/api/v1/groups/{pk}").status_code == 200


def test_statistics():
    people.online_client()
    task = people.task()
    now = people.at(2026, 1, 1)
    from django.utils import timezone

    before = timezone.now().replace(microsecond=0) - timedelta(
        minutes=1
    )  # what was due before the schedule began
    for n, status in enumerate([3] * 6 + [4]):
        fire([Firing(task.pk, before - timedelta(seconds=n))])
        Execution.objects.filter(pk=Execution.objects.first().pk).update(
            status=status, duration=2300, start_time=now
        )
    data = api().get("/api/v1/executions/stats", {"task_id": task.pk, "date_range": "7d"}).json()["data"]
    assert {k: data[k] for k in ("total_count", "success_count", "failure_count", "success_rate", "avg_duration")} == {
        "total_count": 7, "success_count": 6, "failure_count": 1, "success_rate": 85.7, "avg_duration": 2300,
    }  # fmt: skip
    assert api().get("/api/v1/executions/stats", {"date_range": "a week"}).status_code == 400


@pytest.mark.parametrize("slash", ["", "/"])
def test_paths_answer_with_and_without_the_slash(slash):
    for path in ("tasks", "groups", "executions"):
        assert api().get(f"/api/v1/{path}{slash}").status_code == 200


def test_errors_name_the_field_in_the_envelope():
    answer = api().post("/api/v1/tasks", {"name": "", "cron_expr": "99 * * * *"}, format="json")
    body = answer.json()
    assert answer.status_code == 400 and body["code"] != 0 and body["message"]
    assert set(body["errors"]) == {"name", "cron_expr", "executor_config", "group_ids"}
    assert "data" not in body


def test_what_is_not_json_or_not_an_object_is_refused():
    call = api()
    assert call.post("/api/v1/tasks", "{", content_type="application/json").status_code == 400
    assert call.post("/api/v1/tasks", [1], format="json").status_code == 400
    assert call.get("/api/v1/tasks/abc").status_code == 404
    assert call.get("/api/v1/tasks/99999999999999999999999").status_code == 404
    assert call.get("/api/v1/nothing").json()["code"] != 0
    assert call.get("/api/v1/tasks/cron/parse", {"expr": "x"}).json()["errors"]["expr"]


def test_nobody_gets_in_without_a_token():
    for path in ("tasks", "groups", "executions", "tasks/1", "nothing"):
        answer = APIClient().get(f"/api/v1/{path}")
        assert (answer.status_code, answer.json()["code"]) == (401, 1002)


def test_a_stranger_sees_nothing_and_what_is_granted_is_seen():
    people.online_client()
    task = people.task()
    fire([Firing(task.pk, people.at(2026, 1, 1))])
    pk = Execution.objects.get().pk
    call = api(people.stranger())
    for path in ("tasks", "executions"):
        assert call.get(f"/api/v1/{path}").json()["data"]["total"] == 0
    assert call.get("/api/v1/groups").json()["data"] == []
    for path in (
        f"tasks/{task.pk}",
        f"executions/{pk}",
        f"executions/{pk}/logs",
        f"groups/{people.group().pk}",
    ):
        assert call.get(f"/api/v1/{path}").status_code == 404
    assign_perm("tasks_app.view_task", people.stranger(), task)
    assert call.get(f"/api/v1/executions/{pk}").status_code == 200
    assert call.get(f"/api/v1/executions/{pk}/logs").status_code == 403
    assert call.post(f"/api/v1/executions/{pk}/cancel").status_code == 403
    assert call.delete(f"/api/v1/tasks/{task.pk}").status_code == 403


def test_the_command_prints_a_token_that_works(capsys):
    people.admin()
    call_command("api_token", "admin")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {capsys.readouterr().out.strip()}")
    assert client.get("/api/v1/tasks").status_code == 200
    with pytest.raises(CommandError, match="no active user"):
        call_command("api_token", "nobody")
    with pytest.raises(CommandError, match="--days"):
        call_command("api_token", "admin", days=0)
