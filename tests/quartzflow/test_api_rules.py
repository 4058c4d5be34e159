"""Assignment rules, moves and tokens by rules over the API."""

import pytest
from guardian.shortcuts import assign_perm
from rest_framework.test import APIClient

from groups_app.models import AssignmentRule, Client, EnrollmentToken
from tests import people

pytestmark = pytest.mark.django_db
RULES = "/api/v1/assignment-rules"


def api(user=None) -> APIClient:
    client = APIClient()
    client.force_authenticate(user or people.admin())
    return client


def call(method, path, body=None, user=None, expect=200):
    answer = getattr(api(user), method)(path, body, format="json")
    assert answer.status_code == expect, answer.content
    return answer.json().get("data", answer.json())


def made(**fields):
    data = {"name": "web", "hostname": "web-*", "group_id": people.group("web").pk, **fields}
    return call("post", RULES, data, expect=201)


def test_rules_are_made_listed_changed_ordered_and_deleted():
    first, second = made(), made(name="db", hostname="db-*")
    assert (first["position"], second["position"], first["group"]) == (1, 2, "web")
    assert call("put", f"{RULES}/{first['id']}", {"cidr": "10.0.0.0/8"})["cidr"] == "10.0.0.0/8"
    assert call("patch", f"{RULES}/{first['id']}/", {"is_enabled": False})["is_enabled"] is False
    ordered = call("post", f"{RULES}/order", {"ids": [second["id"], first["id"]]})
    assert [rule["name"] for rule in ordered] == ["db", "web"] == [r["name"] for r in call("get", RULES)]
    call("delete", f"{RULES}/{first['id']}")
    call("get", f"{RULES}/{first['id']}", expect=404)
    assert AssignmentRule.objects.count() == 1


@pytest.mark.parametrize("ids", [None, "1", [True], ["1"]])
def test_an_order_is_a_list_of_ids(ids):
    assert "ids" in call("post", f"{RULES}/order", {"ids": ids}, expect=400)["errors"]


def test_an_order_that_is_not_of_all_rules_is_a_conflict():
    made()
    call("post", f"{RULES}/order", {"ids": []}, expect=409)


def test_a_preview_of_a_new_rule_and_of_a_changed_one():
    Client.objects.create(client_id="web-1", hostname="web-1", ip="10.0.0.1")
    first = made()
    body = {"name": "any", "hostname": "*", "group_id": people.group().pk}
    found = call("post", f"{RULES}/preview", body)
    assert (found["total"], found["earlier"], found["hosts"][0]["taken_by"]) == (1, 1, "web")
    found = call("post", f"{RULES}/preview", {"id": first["id"], "hostname": "nobody"})
    assert found == {"total": 0, "earlier": 0, "hosts": []}
    assert "cidr" in call("post", f"{RULES}/preview", {**body, "cidr": "x"}, expect=400)["errors"]


def test_applying_is_previewed_and_done():
    Client.objects.create(client_id="web-1", hostname="web-1", group=people.group())
    made()
    found = call("get", f"{RULES}/apply")
    assert (found["total"], found["hosts"][0]["group"], found["hosts"][0]["to"]) == (1, "default", "web")
    assert call("get", f"{RULES}/apply?only_without_group=1")["total"] == 0
    assert call("post", f"{RULES}/apply", {"only_without_group": True}) == {"moved": 0}
    assert call("post", f"{RULES}/apply", {}) == {"moved": 1}
    assert Client.objects.get().group == people.group("web")
    call("post", f"{RULES}/apply", {"only_without_group": 1}, expect=400)


def test_rules_are_closed_to_who_manages_some_groups_only():
    rule, user = made(), people.stranger()
    assign_perm("groups_app.manage_hosts", user, people.group("web"))
    for method, path in (
        ("get", RULES),
        ("post", RULES),
        ("get", f"{RULES}/{rule['id']}"),
        ("put", f"{RULES}/{rule['id']}"),
        ("delete", f"{RULES}/{rule['id']}"),
        ("post", f"{RULES}/order"),
        ("post", f"{RULES}/preview"),
        ("get", f"{RULES}/apply"),
        ("post", f"{RULES}/apply"),
    ):
        body = {"ids": []} if path.endswith("order") else {}
        call(method, path, None if method == "get" else body, user=user, expect=403)
    call("post", "/api/v1/enrollment-tokens", {"group_id": None}, user=user, expect=403)


def test_a_token_by_rules():
    token = call("post", "/api/v1/enrollment-tokens", {"group_id": None, "allow_wish": True}, expect=201)
    assert (token["group"], token["allow_wish"]) == (None, True)
    assert EnrollmentToken.objects.get().group is None
    assert [row["id"] for row in call("get", "/api/v1/enrollment-tokens")["items"]] == [token["id"]]
    call("post", f"/api/v1/enrollment-tokens/{token['id']}/revoke", {})
    wrong = {"group_id": None, "allow_wish": 1}
    assert "allow_wish" in call("post", "/api/v1/enrollment-tokens", wrong, expect=400)["errors"]


def test_many_hosts_are_moved_at_once():
    web = people.group("web")
    ids = [Client.objects.create(client_id=f"h{n}", group=people.group()).pk for n in range(3)]
    assert call("post", "/api/v1/clients/move", {"ids": ids, "group_id": web.pk}) == {"moved": 3}
    assert call("post", "/api/v1/clients/move/", {"ids": ids[:1], "group_id": None}) == {"moved": 1}
    assert web.clients.count() == 2
    for body, field in (
        ({"ids": [], "group_id": 1}, "ids"),
        ({"ids": ids}, "group_id"),
        ({"ids": ids, "group_id": None, "stop_running": 1}, "stop_running"),
        ({"ids": ids, "group_id": None, "x": 1}, "x"),
    ):
        assert field in call("post", "/api/v1/clients/move", body, expect=400)["errors"]
    call("post", "/api/v1/clients/move", {"ids": [*ids, 10**6], "group_id": None}, expect=404)
    user = people.stranger()
    call("post", "/api/v1/clients/move", {"ids": ids, "group_id": web.pk}, user=user, expect=404)
    assign_perm("groups_app.view_group", user, web)
    mine = list(web.clients.values_list("pk", flat=True))
    call("post", "/api/v1/clients/move", {"ids": mine, "group_id": None}, user=user, expect=403)


def test_groups_are_found_by_words_and_tags():
    call("post", "/api/v1/groups", {"name": "web", "tags": ["prod", "front"]}, expect=201)
    call("post", "/api/v1/groups", {"name": "db", "tags": ["production"]}, expect=201)
    assert [g["name"] for g in call("get", "/api/v1/groups?tag=prod")] == ["web"]
    assert [g["name"] for g in call("get", "/api/v1/groups?keyword=PROD")] == ["db", "web"]
    group = call("get", "/api/v1/groups?keyword=web")[0]["id"]
    assert call("patch", f"/api/v1/groups/{group}", {"tags": ["x"]})["tags"] == ["x"]
