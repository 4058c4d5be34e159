"""Hosts and enrollment tokens over the REST API and on the command line."""

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import translation
from guardian.shortcuts import assign_perm

from groups_app import presence
from groups_app.legacy import register_legacy
from groups_app.models import Client, EnrollmentToken
from quartzflow.models import AuditEntry
from tasks_app.configs import record_client_changes
from tests import people

from .test_api import api

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _english():
    with translation.override("en"):
        yield


def pending(client_id="old-1", ip="10.0.0.9"):
    people.online_client("web-0", people.group("other"))
    info = presence.RegisterInfo(client_id=client_id, bridge_id=people.BRIDGE, session_id="s", ip=ip)
    assert register_legacy(info).accepted
    return Client.objects.get(client_id=client_id)


def ids(answer):
    assert answer.status_code == 200, answer.json()
    return [item["client_id"] for item in answer.json()["data"]["items"]]


def test_hosts_are_listed_filtered_and_shown():
    client = people.online_client()
    pending()
    presence.push_failed(["web-1"], 7, "not acknowledged")
    call = api()
    assert ids(call.get("/api/v1/clients")) == ["old-1", "web-0", "web-1"]
    for query, found in (
        ({"group_id": client.group_id}, ["web-1"]),
        ({"status": 1, "kind": "agent"}, ["web-0", "web-1"]),
        ({"approval": "pending"}, ["old-1"]),
        ({"keyword": "10.0.0"}, ["old-1"]),
        ({"page_size": 1, "page": 2}, ["web-0"]),
    ):
        assert ids(call.get("/api/v1/clients", query)) == found
    assert call.get("/api/v1/clients", {"kind": "x"}).status_code == 400
    shown = call.get(f"/api/v1/clients/{client.pk}").json()["data"]
    assert (shown["push_error"], shown["task_version"]) == ("version 7: not acknowledged", 0)
    assert shown["push_error_at"].endswith("Z") and shown["current_version"] >= 0
    assert not any("hash" in name for name in shown)
    assert call.get("/api/v1/clients/0").status_code == 404


def test_operators_decide():
    call, client, old = api(), people.online_client(), pending()
    url = f"/api/v1/clients/{old.pk}"
    group = people.group()
    assert set(call.post(f"{url}/approve", {}, format="json").json()["errors"]) == {"group_id"}
    assert call.post(f"{url}/approve", {"group_id": group.pk, "x": 1}, format="json").status_code == 400
    body = {"group_id": group.pk, "ip": "10.9.9.9"}
    assert call.post(f"{url}/approve", body, format="json").status_code == 409
    body = {"group_id": group.pk, "ip": "10.0.0.9"}
    shown = call.post(f"{url}/approve", body, format="json").json()["data"]
    assert (shown["approval"], shown["group"], shown["approved_ip"]) == ("approved", "default", "10.0.0.9")
    url = f"/api/v1/clients/{client.pk}"
    assert call.post(f"{url}/rotate").json()["data"]["credential_rotating"] is True
    assert call.post(f"{url}/revoke").json()["data"]["approval"] == "revoked"
    assert call.post(f"{url}/rotate").status_code == 409
    assert call.post(f"{url}/reset").json()["data"]["approval"] == "approved"


def test_rights_on_hosts():
    client = people.online_client()
    pending()
    call = api(people.stranger())
    assert ids(call.get("/api/v1/clients")) == []
    verbs = ("approve", "rotate", "reset", "revoke")
    for verb in verbs:
        assert call.post(f"/api/v1/clients/{client.pk}/{verb}").status_code == 404
    assign_perm("groups_app.view_group", people.stranger(), people.group())
    assert ids(call.get("/api/v1/clients")) == ["web-1"]
    for verb in verbs:
        body = {"group_id": people.group().pk}
        assert call.post(f"/api/v1/clients/{client.pk}/{verb}", body, format="json").status_code == 403
    assign_perm("groups_app.manage_hosts", people.stranger(), people.group())
    assert call.post(f"/api/v1/clients/{client.pk}/rotate").status_code == 200


def test_tokens():
    call, group = api(), people.group()
    made = call.post(
        "/api/v1/enrollment-tokens", {"group_id": group.pk, "max_uses": 3, "note": "rack 7"}, format="json"
    )
    assert made.status_code == 201
    data = made.json()["data"]
    assert data["token"].startswith(data["prefix"]) and (data["max_uses"], data["group"]) == (3, "default")
    listed = call.get("/api/v1/enrollment-tokens").json()["data"]
    assert (listed["total"], "token" in listed["items"][0]) == (1, False)
    assert data["token"] not in json.dumps(listed)
    url = f"/api/v1/enrollment-tokens/{data['id']}/revoke"
    assert call.post(url).json()["data"]["revoked_at"]
    assert call.post(url).status_code == 409
    for body in ({}, {"group_id": 0}, {"group_id": group.pk, "hours": "x"}, {"group_id": group.pk, "max_uses": True},
                 {"group_id": group.pk, "max_uses": 0}, {"group_id": group.pk, "y": 1}):  # fmt: skip
        assert call.post("/api/v1/enrollment-tokens", body, format="json").status_code in (400, 404)
    assert EnrollmentToken.objects.count() == 1


def test_rights_on_tokens():
    call, group = api(people.stranger()), people.group()
    made = api().post("/api/v1/enrollment-tokens", {"group_id": group.pk}, format="json").json()["data"]
    body = {"group_id": group.pk}
    assert call.post("/api/v1/enrollment-tokens", body, format="json").status_code == 404
    assign_perm("groups_app.view_group", people.stranger(), group)
    assert call.post("/api/v1/enrollment-tokens", body, format="json").status_code == 403
    assert call.get("/api/v1/enrollment-tokens").json()["data"]["total"] == 0
    assert call.post(f"/api/v1/enrollment-tokens/{made['id']}/revoke").status_code == 404
    assign_perm("groups_app.manage_hosts", people.stranger(), group)
    assert call.post("/api/v1/enrollment-tokens", body, format="json").status_code == 201
    assert call.post(f"/api/v1/enrollment-tokens/{made['id']}/revoke").status_code == 200


def run(*arguments):
    out = io.StringIO()
    call_command(*arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_tokens_on_the_command_line(capsys):
    people.admin()
    people.group("web")
    (made,) = run("enroll_token", "create", "web", "--uses", "2", "--note", "n")
    assert made["token"].startswith("qfe_") and f"--token {made['token']}" in made["command"]
    assert (made["group"], made["max_uses"], made["note"]) == (
        "web",
        2,
        "n",
    )
    assert [row["id"] for row in run("enroll_token", "list")] == [made["id"]]
    call_command("enroll_token", "list")
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["id", "prefix", "group"] and row.split()[2] == "web"
    assert run("enroll_token", "revoke", str(made["id"]))[0]["revoked_at"]
    for arguments, text in (
        (("revoke", str(made["id"])), "revoked"),
        (("revoke", "0"), "no token 0"),
        (("create", "nope"), "no group 'nope'"),
        (("create", "web", "--uses", "0"), "max_uses"),
    ):
        with pytest.raises(CommandError, match=text):
            call_command("enroll_token", *arguments)


def test_hosts_on_the_command_line(capsys):
    people.admin()
    people.online_client()
    pending()
    web = people.group("web")
    assert [row["client_id"] for row in run("clients", "list")] == ["old-1", "web-0", "web-1"]
    (row,) = run("clients", "approve", "old-1", "--group", "default", "--ip", "10.0.0.9")
    assert (row["approval"], row["group"], row["online"]) == ("approved", "default", True)
    for verb, approval in (("rotate", "approved"), ("revoke", "revoked"), ("reset", "approved")):
        assert run("clients", verb, "web-1")[0]["approval"] == approval
    assert [row["group"] for row in run("clients", "move", "web-1", "old-1", "--group", "web")] == ["web"] * 2
    assert run("clients", "move", "web-1", "--group", "-")[0]["group"] is None
    assert run("clients", "show", "old-1")["group_id"] == web.pk
    call_command("clients", "show", "old-1")
    assert "client_id            old-1" in capsys.readouterr().out
    entry = AuditEntry.objects.filter(action="client.revoke").get()
    assert (entry.actor_name, entry.address.startswith("command:")) == ("admin", True)
    for arguments, text in (
        (("rotate", "web-1"), "no credential"),
        (("rotate", "nope"), "no host 'nope'"),
        (("move", "web-1", "nope", "--group", "web"), "no host 'nope'"),
        (("move", "web-1", "--group", "nope"), "no group 'nope'"),
        (("approve", "old-1", "--group", "nope"), "no group 'nope'"),
        (("approve", "old-1", "--group", "default"), "await"),
    ):
        with pytest.raises(CommandError, match=text):
            call_command("clients", *arguments)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--group", "web"], ["web-9"]),
        (["--group", "-"], ["old-1"]),
        (["--online"], ["old-1", "web-0", "web-1", "web-9"]),
        (["--offline"], []),
        (["--approval", "pending"], ["old-1"]),
    ],
)
def test_hosts_are_found_on_the_command_line(options, found):
    people.admin()
    people.online_client()
    people.online_client("web-9", people.group("web"), session="s9")
    pending()
    assert [row["client_id"] for row in run("clients", "list", *options)] == found


def test_a_user_has_their_rights_to_hosts_and_tokens_on_the_command_line():
    people.admin()
    people.online_client("web-9", people.group("web"))
    people.online_client("db-1", people.group("db"), session="s2")
    user = people.stranger()
    mine = ("--user", user.username)
    (made,) = run("enroll_token", "create", "db")
    assert run("clients", "list", *mine) == [] == run("enroll_token", "list", *mine)
    for arguments in (
        ("clients", "revoke", "web-9"),
        ("enroll_token", "create", "web"),
        ("enroll_token", "revoke", str(made["id"])),
    ):
        with pytest.raises(CommandError, match="there is no"):
            call_command(*arguments, *mine)
    assign_perm("groups_app.view_group", user, people.group("web"))
    assert [row["client_id"] for row in run("clients", "list", *mine)] == ["web-9"]
    for arguments in (("clients", "revoke", "web-9"), ("enroll_token", "create", "web")):
        with pytest.raises(CommandError, match="permission"):
            call_command(*arguments, *mine)
    assign_perm("groups_app.manage_hosts", user, people.group("web"))
    assert run("clients", "revoke", "web-9", *mine)[0]["approval"] == "revoked"
    assert run("enroll_token", "create", "web", *mine)[0]["group"] == "web"


def test_which_hosts_do_not_hold_a_task_yet():
    client, task = people.online_client(), people.task()
    people.online_client("web-2")
    people.online_client("web-3", people.group("other"))
    call, url = api(), f"/api/v1/tasks/{task.pk}/push-state"
    presence.push_applied([("web-2", task.version)])
    presence.push_failed(["web-1"], task.version, "not acknowledged")
    state = call.get(url).json()["data"]
    assert (state["version"], state["online"], state["behind"]) == (task.version, 2, 1)
    (behind,) = state["clients"]
    assert (behind["client_id"], behind["task_version"]) == ("web-1", 0)
    assert behind["push_error"] == f"version {task.version}: not acknowledged" and behind["push_error_at"]
    presence.push_applied([("web-1", task.version)])
    assert call.get(url).json()["data"]["behind"] == 0
    with transaction.atomic():
        record_client_changes(["web-1"])  # moved into the group later: it must have pulled since
    assert [c["client_id"] for c in call.get(url).json()["data"]["clients"]] == ["web-1"]
    Client.objects.filter(pk=client.pk).update(status=0)
    assert call.get(url).json()["data"]["online"] == 1
    assert api(people.stranger()).get(url).status_code == 404
