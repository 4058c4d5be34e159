"""The console's pages of hosts and their tokens, without a browser."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from guardian.shortcuts import assign_perm

from groups_app import presence
from groups_app.models import Client, EnrollmentToken
from tests import people
from tests.quartzflow.test_console import AJAX, browser

pytestmark = pytest.mark.django_db

ADD = "admin:groups_app_enrollmenttoken_add"
LIST = "admin:groups_app_enrollmenttoken_changelist"


def made(user=None, **fields):
    """The page after a token was asked for, and the token."""
    data = {"group": people.group().pk, "max_uses": 2, "hours": 24, "note": "rack 4", **fields}
    page = browser(user).post(reverse(ADD), data)
    return page, EnrollmentToken.objects.first()


def test_a_token_is_made_and_shown_once_in_the_command_that_joins():
    page, token = made()
    assert page.status_code == 200
    command = page.context["commands"][1][1]
    assert command.startswith("quicflow agent join --server ")
    secret = command.split("--token ")[1].split()[0]
    assert secret in page.content.decode()
    assert "no-store" in page.headers["Cache-Control"]
    assert (token.max_uses, token.note, token.group) == (2, "rack 4", people.group())
    assert secret not in browser().get(reverse(LIST)).content.decode()
    people.live() or presence.bridge_started(people.BRIDGE, "127.0.0.1:8474")
    info = presence.RegisterInfo(
        client_id="web-7",
        bridge_id=people.BRIDGE,
        session_id="s",
        ip="192.0.2.7",
        enrollment_token=secret,
    )
    assert presence.register(info).accepted
    answer = browser().get(reverse("admin:groups_app_enrollmenttoken_joined", args=[token.pk])).json()
    assert (answer["uses"], answer["max_uses"]) == (1, 2)
    assert [(host["name"], host["address"]) for host in answer["hosts"]] == [("web-7", "192.0.2.7")]


@pytest.mark.parametrize("fields", [{"max_uses": 0}, {"hours": 5}, {"group": 0}, {"note": "x" * 129}])
def test_a_wrong_field_makes_no_token(fields):
    page, token = made(**fields)
    assert token is None
    assert set(page.context["form"].errors) == set(fields)


def test_only_groups_whose_hosts_one_may_manage_are_offered():
    people.group()
    mine = people.group("mine")
    user = people.stranger()
    assert browser(user).get(reverse(ADD)).status_code == 403
    assert browser(user).get(reverse(LIST)).status_code == 403
    assign_perm("groups_app.manage_hosts", user, mine)
    page = browser(user).get(reverse(ADD))
    assert [name for _pk, name in page.context["form"].fields["group"].choices] == ["mine"]
    refused, token = made(user)
    assert "group" in refused.context["form"].errors
    assert token is None
    _page, other = made()
    assert browser(user).get(reverse(LIST)).context["cl"].result_count == 0
    for name in ("joined", "revoke"):
        url = reverse(f"admin:groups_app_enrollmenttoken_{name}", args=[other.pk])
        assert browser(user).post(url, headers=AJAX).status_code == 404


def test_a_token_is_revoked_from_the_list():
    _page, token = made()
    url = reverse("admin:groups_app_enrollmenttoken_revoke", args=[token.pk])
    assert browser().post(url, headers=AJAX).status_code == 200
    token.refresh_from_db()
    assert token.revoked_at
    assert browser().post(url, headers=AJAX).status_code == 409
    assert "已吊销" in browser().get(reverse(LIST)).content.decode()


def test_the_list_says_what_tokens_are_good_for():
    for fields in ({}, {"uses": 2}, {"expires_at": timezone.now() - timedelta(hours=1)}):
        _page, token = made()
        EnrollmentToken.objects.filter(pk=token.pk).update(**fields)
    content = browser().get(reverse(LIST)).content.decode()
    assert all(word in content for word in ("可用", "已用完", "已过期"))


def test_the_list_of_hosts_leads_to_adding_one():
    people.group()
    assert reverse(ADD) in browser().get(reverse("admin:groups_app_client_changelist")).content.decode()
    assert not Client.objects.exists()


def host_url(verb, client):
    return reverse(f"admin:groups_app_client_{verb}", args=[client.pk])


def test_a_host_is_reset_and_its_credential_renewed():
    client = people.online_client()
    assert browser().post(host_url("rotate", client), headers=AJAX).status_code == 200
    client.refresh_from_db()
    assert client.credential_rotating
    assert browser().post(host_url("revoke", client), headers=AJAX).status_code == 200
    # A credential that is gone cannot be renewed, but a reset lets the host join again.
    assert browser().post(host_url("rotate", client), headers=AJAX).status_code == 409
    assert browser().post(host_url("reset", client), headers=AJAX).status_code == 200
    client.refresh_from_db()
    assert (client.approval, client.credential_hash) == ("approved", "")


def test_a_quic_flow_client_is_approved_into_a_group_at_the_address_shown():
    client = Client.objects.create(client_id="old-1", kind="legacy", approval="pending", ip="192.0.2.9")
    group = people.group()
    page = browser()
    assert "192.0.2.9" in page.get(host_url("change", client)).content.decode()
    url = host_url("approve", client)
    assert page.post(url, {"group": "x", "ip": "192.0.2.9"}, headers=AJAX).status_code == 409
    assert page.post(url, {"group": group.pk, "ip": "192.0.2.8"}, headers=AJAX).status_code == 409
    assert page.post(url, {"group": group.pk, "ip": "192.0.2.9"}, headers=AJAX).status_code == 200
    client.refresh_from_db()
    assert (client.approval, client.group) == ("approved", group)


def test_managers_of_a_group_manage_its_hosts_and_no_others():
    mine, other = (people.online_client(name, people.group(name)) for name in ("mine", "other"))
    user = people.stranger()
    assign_perm("groups_app.view_group", user, mine.group)
    assign_perm("groups_app.manage_hosts", user, mine.group)
    page = browser(user)
    rows = page.get(reverse("admin:groups_app_client_changelist")).context["cl"].result_list
    assert [row.client_id for row in rows] == ["mine"]
    assert [item["label"] for item in rows[0].menu_items if "post" in item] == ["更换凭据", "重置", "吊销"]
    assert page.post(host_url("revoke", mine), headers=AJAX).status_code == 200
    assert page.post(host_url("revoke", other), headers=AJAX).status_code == 404


BOARD = "admin:groups_app_group_hosts"


def test_hosts_are_moved_on_the_board():
    client, web = people.online_client(), people.group("web")
    page = browser().get(reverse(BOARD))
    shown = {column["name"]: [h.client_id for h in column["hosts"]] for column in page.context["columns"]}
    assert shown == {"default": ["web-1"], "web": [], "无分组": []}
    answer = browser().post(reverse(BOARD), {"host": [client.pk], "group": web.pk}, headers=AJAX)
    assert answer.json()["message"] == "已将 1 台主机移到“web”。"
    client.refresh_from_db()
    assert client.group == web
    browser().post(reverse(BOARD), {"host": [client.pk], "group": 0})
    client.refresh_from_db()
    assert client.group is None


@pytest.mark.parametrize("fields", [{}, {"group": 99}, {"host": [1]}, {"host": ["x"], "group": 0}])
def test_a_move_of_nothing_or_to_nowhere_is_said(fields):
    people.online_client()
    answer = browser().post(reverse(BOARD), fields, headers=AJAX)
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_the_board_has_only_what_one_may_manage():
    client = people.online_client()
    web = people.group("web")
    user = people.stranger()
    assert browser(user).get(reverse(BOARD)).status_code == 403
    assign_perm("groups_app.manage_hosts", user, web)
    page = browser(user)
    assert [column["name"] for column in page.get(reverse(BOARD)).context["columns"]] == ["web"]
    answer = page.post(reverse(BOARD), {"host": [client.pk], "group": web.pk}, headers=AJAX)
    assert answer.status_code == 404
    client.refresh_from_db()
    assert client.group == people.group()
