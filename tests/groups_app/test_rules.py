"""Assignment rules: which hosts they mean, in which order, and what follows when a host joins."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions_app.placement import do_apply_rules
from groups_app import actions, presence, rule_actions, rules
from groups_app.choices import NameSyntax
from groups_app.models import AssignmentRule, Client, Group
from groups_app.rules import Host
from quartzflow.errors import Conflict, InvalidInput, NotAllowed
from quartzflow.models import AuditEntry
from quic_bridge.domain import Domain
from tasks_app.configs import config_delta, current_version
from tests import people

pytestmark = pytest.mark.django_db

WEB = Host("web-1.example.com", "10.1.2.3", {"env": "prod"})


def rule(group="web", **fields):
    data = {"name": f"rule {AssignmentRule.objects.count() + 1}", "group_id": people.group(group).pk}
    return rule_actions.do_save_rule(people.admin(), {**data, **fields})


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"hostname": "web-*"}, True),
        ({"hostname": "WEB-?.example.com"}, True),
        ({"hostname": "db-*, web-*"}, True),
        ({"hostname": "web"}, False),  # the whole name
        ({"hostname": "web-1xexample*"}, False),  # a dot is a dot, and x no wildcard
        ({"hostname": r"web-\d+\..*", "hostname_syntax": "regex"}, True),
        ({"hostname": r"eb-\d", "hostname_syntax": "regex"}, False),
        ({"cidr": "10.0.0.0/8"}, True),
        ({"cidr": "192.0.2.1 2001:db8::/32, 10.1.2.3"}, True),
        ({"cidr": "10.1.3.0/24"}, False),
        ({"labels": {"env": ["test", "prod"]}}, True),
        ({"labels": {"env": "prod", "role": "web"}}, False),
        ({"hostname": "web-*", "cidr": "10.1.3.0/24"}, False),  # all that is given
    ],
)
def test_a_rule_means_hosts_that_meet_all_its_conditions(fields, fits):
    assert rules.matcher(rule(**fields))(WEB) is fits


@pytest.mark.parametrize("ip", ["::ffff:10.1.2.3", "10.1.2.3"])
def test_an_address_counts_however_it_is_written(ip):
    assert rules.matcher(rule(cidr="10.1.2.0/24"))(Host("x", ip))


@pytest.mark.parametrize("ip", ["", "nonsense", "fe80::1%eth0"])
def test_what_is_no_address_is_in_no_network(ip):
    assert not rules.matcher(rule(cidr="10.0.0.0/8"))(Host("x", ip))


def test_a_hostile_pattern_and_name_take_no_time():
    hostile = rule(hostname=r"(a+)+(a|aa)*(a*)*b", hostname_syntax="regex")
    begun = time.perf_counter()
    assert not rules.matcher(hostile)(Host("a" * 128, ""))
    assert time.perf_counter() - begun < 1


@given(st.text(max_size=30), st.sampled_from(NameSyntax))
def test_any_text_is_a_pattern_or_refused(text, syntax):
    try:
        rules.pattern(text, syntax).fullmatch("web-1")
    except ValueError as error:
        assert syntax == NameSyntax.REGEX and str(error)  # noqa: PT017


NAMES = st.characters(exclude_characters="*?,", exclude_categories=["C", "Z"])


@given(st.text(alphabet=NAMES, min_size=1, max_size=20))
def test_a_glob_without_wildcards_means_that_name(text):
    assert rules.pattern(text, NameSyntax.GLOB).fullmatch(text)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, "hostname"),
        ({"name": " ", "cidr": "10.0.0.0/8"}, "name"),
        ({"cidr": "10.0.0.0/40"}, "cidr"),
        ({"hostname": "(", "hostname_syntax": "regex"}, "hostname"),
        ({"hostname": "(?=x)", "hostname_syntax": "regex"}, "hostname"),
        ({"hostname": "x", "hostname_syntax": "sql"}, "hostname_syntax"),
        ({"labels": {"env": 1}}, "labels"),
        ({"labels": []}, "labels"),
        ({"hostname": "x", "group_id": 0}, "group_id"),
        ({"hostname": "x", "group_id": "1"}, "group_id"),
        ({"hostname": "x", "position": 3}, "position"),
        ({"hostname": "x", "is_enabled": 1}, "is_enabled"),
    ],
)
def test_what_is_wrong_is_named(fields, wrong):
    with pytest.raises(InvalidInput) as error:
        rule(**fields)
    assert set(error.value.errors) == {wrong}
    assert not AssignmentRule.objects.exists()


def test_names_of_rules_are_unique_and_networks_written_one_way():
    first = rule(name="a", cidr="10.1.2.3/8 192.0.2.1")
    assert first.cidr == "10.0.0.0/8, 192.0.2.1/32"
    with pytest.raises(InvalidInput) as error:
        rule(name="a", hostname="x")
    assert set(error.value.errors) == {"name"}
    assert rule_actions.do_save_rule(people.admin(), {"name": "a", "hostname": "y"}, first).cidr == first.cidr


def join(token, **info):
    people.live() or presence.bridge_started(people.BRIDGE, "127.0.0.1:8474")
    fields = {"client_id": "web-1", "hostname": WEB.hostname, "ip": WEB.ip, "labels": WEB.labels, **info}
    outcome = Domain().register(
        presence.RegisterInfo(bridge_id=people.BRIDGE, session_id="s", enrollment_token=token, **fields)
    )
    assert outcome.accepted, outcome
    return outcome


def by_rules(**fields):
    return actions.do_create_enrollment_token(people.admin(), None, max_uses=9, **fields)[1]


def test_the_first_rule_that_fits_decides_where_a_host_joins():
    rule("off", hostname="*", is_enabled=False)
    rule("db", hostname="db-*")
    first = rule("web", hostname="web-*")
    rule("any", hostname="*")
    assert join(by_rules()).group == "web"
    entry = AuditEntry.objects.get(action="client.enroll")
    assert (entry.changes["group"], entry.changes["by"]) == ("web", f"rule: {first.name}")


@pytest.mark.parametrize(
    ("allowed", "wish", "group"), [(True, "web", "web"), (False, "web", ""), (True, "no", "")]
)
def test_a_wish_is_followed_where_no_rule_fits_and_the_token_allows_it(allowed, wish, group):
    people.group("web")
    assert join(by_rules(allow_wish=allowed), group=wish).group == group


def test_a_rule_goes_before_a_wish_and_the_tokens_group_before_both():
    rule("web", hostname="*")
    people.group("wish")
    assert join(by_rules(allow_wish=True), group="wish").group == "web"
    _, token = actions.do_create_enrollment_token(people.admin(), people.group("own"))
    assert join(token, client_id="other", group="wish").group == "own"


def test_a_wish_belongs_to_tokens_without_a_group():
    with pytest.raises(InvalidInput) as error:
        actions.do_create_enrollment_token(people.admin(), people.group(), allow_wish=True)
    assert set(error.value.errors) == {"allow_wish"}


@pytest.mark.django_db(transaction=True)
def test_a_host_that_joins_anew_keeps_its_group_or_leaves_its_old_tasks_behind():
    people.task("old")
    client = people.online_client(in_group=people.group())
    actions.do_reset_client(None, client)
    assert join(by_rules()).group == "default"
    version = current_version()
    rule("web", hostname="web-*")
    actions.do_reset_client(None, Client.objects.get())
    assert join(by_rules()).moved
    assert current_version() > version
    held = config_delta("web-1", version)
    assert (held.action, list(held.tasks)) == (2, []) or not held.tasks


def test_rules_are_put_in_order_all_at_once():
    a, b, c = (rule(hostname="*") for _ in range(3))
    user = people.admin()
    rule_actions.do_order_rules(user, [c.pk, a.pk, b.pk])
    assert list(AssignmentRule.objects.all()) == [c, a, b]
    for wrong in ([a.pk, b.pk], [a.pk, a.pk, b.pk], [a.pk, b.pk, c.pk, 99]):
        with pytest.raises(Conflict):
            rule_actions.do_order_rules(user, wrong)
    entry = AuditEntry.objects.get(action="rule.order")
    assert entry.changes["order"] == [[a.name, b.name, c.name], [c.name, a.name, b.name]]
    rule_actions.do_order_rules(user, [c.pk, a.pk, b.pk])  # as it is
    assert AuditEntry.objects.filter(action="rule.order").count() == 1


def test_what_was_done_to_a_rule_is_remembered():
    made = rule(hostname="web-*")
    rule_actions.do_save_rule(people.admin(), {"hostname": "db-*"}, made)
    rule_actions.do_save_rule(people.admin(), {"hostname": "db-*"}, made)
    rule_actions.do_delete_rule(people.admin(), made)
    trail = AuditEntry.objects.filter(action__startswith="rule.").order_by("pk")
    assert [entry.action for entry in trail] == ["rule.create", "rule.update", "rule.delete"]
    assert trail[1].changes == {"hostname": ["web-*", "db-*"]}


def test_only_who_manages_all_groups_may_rule():
    made, user = rule(hostname="*"), people.stranger()
    for forbidden in (
        lambda: rule_actions.do_save_rule(user, {"name": "x", "hostname": "*", "group_id": 1}),
        lambda: rule_actions.do_save_rule(user, {"name": "x"}, made),
        lambda: rule_actions.do_delete_rule(user, made),
        lambda: rule_actions.do_order_rules(user, [made.pk]),
        lambda: do_apply_rules(user),
        lambda: actions.do_create_enrollment_token(user, None),
    ):
        with pytest.raises(NotAllowed):
            forbidden()


def test_a_group_that_rules_lead_to_is_not_deleted():
    made = rule("web", hostname="*")
    with pytest.raises(Conflict, match=made.name):
        actions.do_delete_group(people.admin(), people.group("web"))
    assert Group.objects.filter(name="web").exists()


def hosts():
    for name, ip in (("web-1", "10.0.0.1"), ("web-2", "10.0.0.2"), ("db-1", "10.0.0.3")):
        Client.objects.create(client_id=name, hostname=name, ip=ip, group=people.group())


def test_a_preview_tells_who_is_met_and_who_is_taken_before():
    hosts()
    first = rule("db", name="first", hostname="*-1")
    draft = rule_actions.fill_rule({"name": "draft", "hostname": "web-*", "group_id": people.group("web").pk})
    found = rules.preview(draft)
    assert [client.client_id for client in found.matching] == ["web-1", "web-2"]
    assert {r.name for r in found.earlier.values()} == {"first"}
    assert len(found.earlier) == 1
    assert rules.preview(first).earlier == {}
    assert AssignmentRule.objects.count() == 1


def test_rules_are_applied_to_the_hosts_that_are_there():
    hosts()
    Client.objects.filter(client_id="db-1").update(group=None)
    rule("web", hostname="web-*")
    rule("db", hostname="db-*")
    names = [(move.client.client_id, move.rule.group.name) for move in rules.moves()]
    assert names == [("db-1", "db"), ("web-1", "web"), ("web-2", "web")]
    assert do_apply_rules(people.admin(), only_without_group=True) == 1
    assert do_apply_rules(people.admin()) == 2
    assert do_apply_rules(people.admin()) == 0
    assert dict(Client.objects.values_list("client_id", "group__name")) == {
        "web-1": "web",
        "web-2": "web",
        "db-1": "db",
    }
    assert [e.changes for e in AuditEntry.objects.filter(action="rule.apply").order_by("pk")] == [
        {"moved": 1},
        {"moved": 2},
    ]
    assert AuditEntry.objects.filter(action="client.move").count() == 3


def test_there_may_be_so_many_rules_and_no_more(monkeypatch):
    monkeypatch.setattr(rule_actions, "MAX_RULES", 1)
    rule(hostname="*")
    with pytest.raises(Conflict):
        rule(hostname="*")
