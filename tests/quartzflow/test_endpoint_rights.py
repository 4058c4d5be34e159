"""Every endpoint of the API for every role, on objects that are the caller's own and on foreign ones.

endpoint_rights.TABLE says who may. The URL conf is walked, so that an endpoint without a row fails.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.generators import EndpointEnumerator
from guardian.shortcuts import assign_perm
from knox.models import AuthToken
from rest_framework.test import APIClient
from rest_framework.views import APIView

from executions_app.alerts import actions as alert_actions
from executions_app.alerts import channels
from executions_app.alerts.models import Alert
from executions_app.alerts.silences import do_save_silence
from executions_app.control import do_trigger_task
from executions_app.full_log import FullLog
from executions_app.models import Execution
from executions_app.replays import do_start_replay
from executions_app.reports.actions import do_request_report, do_save_schedule
from groups_app.actions import do_create_enrollment_token
from groups_app.models import Group
from groups_app.rule_actions import do_save_rule
from quartzflow.api.urls import UnknownPath
from quartzflow.errors import Conflict
from quartzflow.models import AuditEntry
from quartzflow.permissions import codename
from quartzflow.tokens import do_create_token
from tasks_app.calendars import do_save_calendar
from tasks_app.models import Task
from tasks_app.secret_actions import do_create_secret
from tests import people

from .endpoint_rights import TABLE, Row

pytestmark = pytest.mark.django_db
DENIED = (400, 401, 403, 404)
TASK_RIGHTS = ("view", "change", "delete", "trigger_task", "cancel_task", "view_logs_task")
GROUP_RIGHTS = ("view", "change", "delete", "manage_hosts")


@pytest.fixture(autouse=True)
def _no_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may read a whole log gets as far as the host, which is not there."""

    async def away(self: FullLog) -> None:
        raise Conflict

    monkeypatch.setattr(FullLog, "open", away)
    # Nor does a test message leave this machine.
    monkeypatch.setattr(channels, "send", lambda channel, message: None)


def endpoints() -> Iterator[str]:
    """`METHOD path` of all that REST framework serves, and of what stands beside it under /api/."""
    found: list[tuple[str, Any]] = []

    def walk(patterns: list[Any], prefix: str) -> None:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                walk(pattern.url_patterns, path)
            elif isinstance(pattern, URLPattern):
                found.append((path, pattern))

    walk(get_resolver().url_patterns, "")
    enumerator = EndpointEnumerator()
    for regex, pattern in found:
        view = getattr(pattern.callback, "cls", None)
        path = enumerator.get_path_from_regex(regex).rstrip("/")
        if view is not None and issubclass(view, APIView) and view is not UnknownPath:
            for method in enumerator.get_allowed_methods(pattern.callback):
                yield f"{method} {path}"
        elif pattern.name == "execution-full-log":
            yield f"GET {path}"


def shape(endpoint: str) -> str:
    """The same for a row and for what the URL conf calls it."""
    names = endpoint.partition("?")[0].split("/")
    return "/".join("{}" if name.startswith("{") else name for name in names)


def test_every_endpoint_has_its_row():
    there, rows = {shape(endpoint) for endpoint in endpoints()}, set(map(shape, TABLE))
    assert (there - rows, rows - there) == (set(), set())


def world(name: str) -> dict[str, Any]:
    """One of each, by the names that the table uses. Writing is the administrator's."""
    admin = people.admin()
    group = people.group(name)
    client = people.online_client(f"host-{name}", group, session=name)
    calendar = do_save_calendar(admin, {"name": name, "rules": {"dates": ["2026-01-01"]}})
    rule = do_save_rule(admin, {"name": name, "hostname": "web-*", "group_id": group.pk})
    task = people.task(name, group_ids=[group.pk])
    (execution,) = do_trigger_task(admin, task)
    Execution.objects.filter(pk=execution.pk).update(status=4)
    channel = alert_actions.do_save_channel(
        admin, None, {"name": name, "kind": "feishu", "config": {"token": "12345678"}}
    )
    alert_rule = alert_actions.do_save_rule(admin, None, {"name": name, "kind": "failure"})
    alert = Alert.objects.create(
        rule=alert_rule, key=f"task:{task.pk}", kind="failure", task_id=task.pk, first_at=execution.scheduled_time,
        last_at=execution.scheduled_time,
    )  # fmt: skip
    window = {"begins": "2026-01-01T00:00:00Z", "ends": "2026-01-02T00:00:00Z"}
    silence = do_save_silence(admin, None, {"name": name, **window})
    hidden = do_create_secret(admin, {"name": name.upper(), "value": "s3cret-value"})
    replay = do_start_replay(admin, task, people.at(2026, 1, 1), people.at(2026, 1, 1, 0, 5))
    return {
        "task": task.pk, "number": 1, "group": group.pk, "group_name": name, "client": client.pk,
        "calendar": calendar.pk, "rule": rule.pk, "execution": execution.pk, "run": execution.run_id,
        "replay": replay.pk, "entry": AuditEntry.objects.order_by("pk")[0].pk,
        "token": do_create_enrollment_token(admin, group)[0].pk, "secret": hidden.pk,
        "alert": alert.pk, "alertrule": alert_rule.pk, "alertchannel": channel.pk, "silence": silence.pk,
        "report": do_request_report(admin, {}).pk,
        "reportschedule": do_save_schedule(admin, None, {"name": name, "recipients": ["ops@example.com"]}).pk,
        "apitoken": do_create_token(admin, {"name": name, "scopes": ["read"]})[0].pk,
    }  # fmt: skip


def filled(value: Any, ids: dict[str, Any]) -> Any:
    """The body with ids in it."""
    if isinstance(value, dict):
        return {key: filled(item, ids) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, ids) for item in value]
    return ids[value[1:-1]] if isinstance(value, str) and value[:1] == "{" else value


def ask(user: User | None, endpoint: str, row: Row, ids: dict[str, Any]) -> int:
    """The status of the answer; nothing of it stays."""
    method, path = endpoint.split(" ")
    call = APIClient()
    with transaction.atomic():
        if user:
            call.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user=user)[1]}")
        answer = call.generic(
            method,
            path.format(**ids),
            b"" if row.body is None else json.dumps(filled(row.body, ids)),
            content_type="application/json",
        )
        transaction.set_rollback(True)
    return answer.status_code


def problems(user: User | None, expect: Any, ids: dict[str, Any]) -> list[str]:
    """The endpoints that answer otherwise than expected; 0: anything but a denial."""
    wrong = []
    for endpoint, row in TABLE.items():
        status, wanted = ask(user, endpoint, row, ids), expect(row)
        fine = status == wanted if wanted else status not in DENIED and status < 500
        if not fine and not (wanted == 200 and status == 201):
            wrong.append(f"{endpoint}: {status}, expected {wanted or 'to get through'}")
    return wrong


def somebody(name: str, role: str = "") -> User:
    user = people.stranger(name)
    if role:
        user.groups.add(people.role(role))
    return user


@pytest.mark.parametrize("role", ["admin", "operator", "developer", "viewer"])
def test_a_role_gets_through_where_it_may(role):
    ids, user = world("own"), somebody("somebody", role)

    def expected(row: Row) -> int:
        if role in row.roles:
            return 0
        return row.denied or (403 if role in row.seeing else 404)

    assert problems(user, expected, ids) == []


def test_who_has_no_right_gets_nothing():
    ids = world("own")
    assert problems(somebody("somebody"), lambda row: row.stranger, ids) == []


def test_without_an_account_there_is_nothing_at_all():
    assert problems(None, lambda row: 401, world("own")) == []


def test_rights_on_single_objects_are_for_these_and_no_others():
    own, foreign, user = world("own"), world("foreign"), somebody("somebody")
    for model, pk, rights in ((Task, own["task"], TASK_RIGHTS), (Group, own["group"], GROUP_RIGHTS)):
        for right in rights:
            assign_perm(codename(model, right), user, model.objects.get(pk=pk))
    assert problems(user, lambda row: row.owner or (0 if row.stranger != 200 else 200), own) == []
    assert problems(user, lambda row: row.stranger, foreign) == []


def test_lists_hold_what_one_may_see_and_counts_do_not_tell_of_more():
    own, user = world("own"), somebody("somebody")
    world("foreign")
    assign_perm("tasks_app.view_task", user, Task.objects.get(pk=own["task"]))
    assign_perm("groups_app.view_group", user, Group.objects.get(pk=own["group"]))
    call = APIClient()
    call.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user=user)[1]}")

    def seen(path: str) -> Any:
        data = call.get(f"/api/v1/{path}").json()["data"]
        return [item["id"] for item in (data if isinstance(data, list) else data["items"])]

    assert (seen("tasks"), seen("groups"), seen("clients")) == (
        [own["task"]],
        [own["group"]],
        [own["client"]],
    )
    assert seen("executions") == list(
        Execution.objects.filter(task_id=own["task"]).order_by("-id").values_list("pk", flat=True)
    )
    assert seen("replays") == [own["replay"]]
    assert (seen("calendars"), seen("enrollment-tokens"), seen("secrets")) == ([], [], [])
    assert call.get("/api/v1/executions/stats").json()["data"]["total_count"] == 1  # that has ended
    assert len(call.get("/api/v1/tasks/export").json()["tasks"]) == 1
