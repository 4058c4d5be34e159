"""The console's pages of assignment rules, without a browser."""

import pytest
from django.urls import reverse
from guardian.shortcuts import assign_perm

from groups_app.models import AssignmentRule, Client
from tests import people
from tests.quartzflow.test_console import AJAX, browser

pytestmark = pytest.mark.django_db


def url(name, *arguments):
    return reverse(f"admin:groups_app_assignmentrule_{name}", args=arguments)


def fields(**more):
    return {
        "name": "web",
        "group_id": people.group("web").pk,
        "hostname": "web-*",
        "is_enabled": "on",
        **more,
    }


def made(**more):
    answer = browser().post(url("add"), fields(**more))
    assert answer.status_code == 302, answer.context["form"].errors
    return AssignmentRule.objects.latest("pk")


def test_a_rule_is_made_shown_changed_and_deleted():
    assert "还没有规则" in browser().get(url("changelist")).content.decode()
    rule = made(labels="env=prod, role=web|db", cidr="10.0.0.1")
    assert rule.labels == {"env": "prod", "role": ["web", "db"]}
    shown = browser().get(url("changelist")).content.decode()
    assert all(words in shown for words in ("web-*", "10.0.0.1/32", "role=web|db"))
    page = browser().get(url("change", rule.pk))
    assert page.context["form"]["labels"].value() == "env=prod, role=web|db"
    data = {name: page.context["form"][name].value() for name in page.context["form"].fields}
    assert browser().post(url("change", rule.pk), {**data, "is_enabled": ""}).status_code == 302
    rule.refresh_from_db()
    assert (rule.is_enabled, rule.hostname, rule.cidr) == (False, "web-*", "10.0.0.1/32")
    assert browser().post(url("remove", rule.pk), headers=AJAX).json()["reload"]
    assert browser().post(url("remove", rule.pk)).status_code == 404


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"labels": "env"}, "labels"),
        ({"cidr": "10.0.0.0/99"}, "cidr"),
        ({"hostname": "(", "hostname_syntax": "regex"}, "hostname"),
        ({"hostname": ""}, "hostname"),
        ({"group_id": 0}, "group_id"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_saved(wrong, field):
    page = browser().post(url("add"), fields(**wrong))
    assert set(page.context["form"].errors) == {field}
    assert not AssignmentRule.objects.exists()


def test_the_order_is_saved():
    a, b = made(name="a"), made(name="b")
    answer = browser().post(url("order"), {"rule": [b.pk, a.pk]}, headers=AJAX)
    assert answer.status_code == 200
    assert list(AssignmentRule.objects.all()) == [b, a]
    assert browser().post(url("order"), {"rule": [b.pk]}, headers=AJAX).status_code == 409
    assert browser().get(url("order")).status_code == 405


def test_a_preview_without_a_name_and_with_mistakes():
    Client.objects.create(client_id="web-1", hostname="web-1", ip="10.0.0.7", group=people.group())
    found = browser().post(url("preview"), fields(name="", rule=""), headers=AJAX).json()
    assert found["hosts"] == [{"name": "web-1", "address": "10.0.0.7", "group": "default", "taken_by": ""}]
    made(name="first")
    found = browser().post(url("preview"), fields(name="", rule=""), headers=AJAX).json()
    assert found["hosts"][0]["taken_by"] == "first"
    assert found["message"] == "1 台主机符合条件。 其中 1 台已被前面的规则取走。"
    assert browser().post(url("preview"), fields(name="first", rule=""), headers=AJAX).status_code == 200
    wrong = browser().post(url("preview"), fields(cidr="x"), headers=AJAX)
    assert wrong.status_code == 400
    assert "x" in wrong.json()["message"]


def test_the_rules_are_applied_after_a_look():
    made()
    Client.objects.create(client_id="web-1", hostname="web-1", group=people.group())
    assert "web-1" in browser().get(url("apply")).content.decode()
    assert "无需移动" in browser().get(url("apply"), {"only_without_group": 1}).content.decode()
    browser().post(url("apply"), {"only_without_group": 1})
    assert Client.objects.get().group == people.group()
    browser().post(url("apply"))
    assert Client.objects.get().group == people.group("web")


def test_pages_are_for_who_manages_all_groups():
    rule, user = made(), people.stranger()
    assign_perm("groups_app.manage_hosts", user, people.group("web"))
    page = browser(user)
    for name, arguments in (
        ("changelist", ()), ("add", ()), ("change", (rule.pk,)), ("apply", ()),
    ):  # fmt: skip
        assert page.get(url(name, *arguments)).status_code == 403, name
    for name, arguments in (("preview", ()), ("remove", (rule.pk,)), ("apply", ()), ("add", ())):
        assert page.post(url(name, *arguments), fields()).status_code == 403, name
    assert page.post(url("order"), {"rule": [rule.pk]}).status_code == 403
    assert AssignmentRule.objects.count() == 1


def test_a_list_of_rules_takes_the_same_queries_whatever_their_number(django_assert_num_queries):
    page = browser()
    made(name="a")
    page.get(url("changelist"))
    with django_assert_num_queries(QUERIES):
        page.get(url("changelist"))
    made(name="b")
    made(name="c")
    with django_assert_num_queries(QUERIES):
        page.get(url("changelist"))


QUERIES = 5
