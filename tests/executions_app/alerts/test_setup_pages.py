"""The console's pages of alert rules and channels."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from guardian.shortcuts import assign_perm

from executions_app.alerts.channels import config_of
from executions_app.alerts.models import AlertChannel, AlertDelivery, AlertRule, AlertSilence
from quartzflow.models import AuditEntry
from tests import people

from .conftest import SECRET, Receiver, rule, webhook
from .test_pages import signed_in

pytestmark = pytest.mark.django_db
RULES = "/console/executions_app/alertrule/"
CHANNELS = "/console/executions_app/alertchannel/"
SILENCES = "/console/executions_app/alertsilence/"
SCRIPT = {"x-requested-with": "fetch"}


@pytest.fixture(autouse=True)
def _own_keys(settings, tmp_path):
    settings.QF_DATA_DIR = tmp_path


def rule_form(**fields: Any) -> dict[str, Any]:
    """What the browser sends."""
    return {
        "name": "nights", "is_enabled": "on", "kind": "failure", "severity": "critical", "scope": "global",
        "task_ids": [""], "repeat_minutes": "30", "escalate_minutes": "0", "escalate_events": "", "title": "",
        "body": "", "threshold_consecutive_failures": "3", "threshold_agent_offline": "", "threshold_late_start": "60",
        **fields,
    }  # fmt: skip


def channel_form(receiver: Receiver | None = None, **fields: Any) -> dict[str, Any]:
    url = f"{receiver.url}/in" if receiver else ""
    return {
        "name": "hook", "kind": "webhook", "is_enabled": "on", "language": "en", "rate_per_hour": "60",
        "config_webhook_url": url, "config_webhook_secret": SECRET, **fields,
    }  # fmt: skip


def member(role: str):
    user = people.stranger(role)
    user.groups.add(people.role(role))
    return user


# --- rules ---


@pytest.mark.parametrize(
    ("kind", "stored"), [("failure", 0), ("consecutive_failures", 3), ("late_start", 60)]
)
def test_a_rule_goes_through_the_form_and_back(receiver: Receiver, kind: str, stored: int):
    hook, task = webhook(receiver), people.task("nightly")
    browser = signed_in(people.admin())
    sent = rule_form(
        kind=kind, scope="tasks", task_ids=["nightly", ""], channel_ids=[hook.pk], escalate_minutes="15",
        escalation_channel_ids=[hook.pk], title="{{ task.name }}!",
    )  # fmt: skip
    answer = browser.post(f"{RULES}add/", sent)
    assert answer.status_code == 302, answer.context["form"].errors
    made = AlertRule.objects.get()
    assert (made.kind, made.threshold, made.scope, made.severity) == (kind, stored, "tasks", "critical")
    assert list(made.tasks.all()) == [task] and list(made.channels.all()) == [hook] and made.is_enabled
    form = browser.get(answer["Location"]).context["form"]
    again = {name: form[name].value() for name in form.fields if form[name].value() is not None}
    assert browser.post(answer["Location"], {**again, "repeat_minutes": "45"}).status_code == 302
    made.refresh_from_db()
    assert (made.repeat_minutes, made.threshold, made.title) == (45, stored, "{{ task.name }}!")
    assert list(made.escalation_channels.all()) == [hook]
    changes = AuditEntry.objects.get(action="alert_rule.update").changes
    assert changes == {"repeat_minutes": [30, 45]}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "taken"}, "name"),
        ({"kind": "agent_offline", "threshold_agent_offline": "5"}, "threshold_agent_offline"),
        ({"kind": "agent_offline", "scope": "tasks", "task_ids": ["known"]}, "scope"),
        ({"scope": "tasks"}, "task_ids"),
        ({"scope": "tasks", "task_ids": ["unknown"]}, "task_ids"),
        ({"scope": "groups"}, "group_ids"),
        ({"channel_ids": ["99"]}, "channel_ids"),
        ({"escalate_minutes": "5"}, "escalation_channel_ids"),
        ({"body": "{{ task.owner }}"}, "body"),
        ({"repeat_minutes": "0"}, "repeat_minutes"),
    ],
)
def test_an_error_names_its_field_and_keeps_what_was_typed(fields: dict[str, Any], field: str):
    rule("timeout", name="taken")
    people.task("known")
    browser = signed_in(people.admin())
    sent = {**rule_form(title="Kept {{ task.name }}"), **fields}
    assert list(browser.post(f"{RULES}check/", sent).json()["errors"]) == [field]
    page = browser.post(f"{RULES}add/", sent)
    assert page.status_code == 200 and list(page.context["form"].errors) == [field]
    assert "Kept {{ task.name }}" in page.content.decode()
    assert AlertRule.objects.count() == 1


def test_a_rule_is_checked_while_one_writes_and_nothing_is_stored():
    browser = signed_in(people.admin())
    assert browser.post(f"{RULES}check/", rule_form()).json() == {"errors": {}}
    made = rule("failure", name="mine")
    assert browser.post(f"{RULES}{made.pk}/check/", rule_form(name="mine")).json() == {"errors": {}}
    assert AlertRule.objects.count() == 1 and browser.get(f"{RULES}check/").status_code == 405
    assert signed_in(people.stranger()).post(f"{RULES}check/", rule_form()).status_code == 403


def test_the_preview_is_the_message_in_the_first_channels_language(receiver: Receiver):
    hook, browser = webhook(receiver), signed_in(people.admin())
    shown = browser.post(f"{RULES}preview/", rule_form(channel_ids=[hook.pk])).json()
    assert shown["title"] == "[Critical] An execution failed: nightly-backup" and shown["language"] == "en"
    shown = browser.post(
        f"{RULES}preview/", rule_form(kind="agent_offline", threshold_agent_offline="90")
    ).json()
    assert shown["title"] == "[严重] 主机离线: web-1" and "90" in shown["body"]
    people.task("<b>mine</b>")
    own = rule_form(scope="tasks", task_ids=["<b>mine</b>"], title="{{ task.name }} {{ alert.count }}")
    assert browser.post(f"{RULES}preview/", own).json()["title"] == "<b>mine</b> 1"
    assert (
        "task.owner" in browser.post(f"{RULES}preview/", rule_form(title="{{ task.owner }}")).json()["error"]
    )
    page = browser.post(f"{RULES}add/", {**own, "name": ""}).content.decode()
    assert "&lt;b&gt;mine&lt;/b&gt; 1" in page and "<b>mine" not in page
    assert browser.get(f"{RULES}preview/").status_code == 405
    assert signed_in(people.stranger()).post(f"{RULES}preview/", own).status_code == 403


def test_a_rule_is_switched_in_the_list():
    made, browser = rule("failure"), signed_in(people.admin())
    assert f"{RULES}{made.pk}/disable/" in browser.get(RULES).content.decode()
    assert browser.post(f"{RULES}{made.pk}/disable/", headers=SCRIPT).json()["reload"]
    assert browser.post(f"{RULES}{made.pk}/disable/", headers=SCRIPT).status_code == 200  # as it is already
    made.refresh_from_db()
    assert not made.is_enabled and f"{RULES}{made.pk}/enable/" in browser.get(RULES).content.decode()
    assert browser.post(f"{RULES}{made.pk}/enable/").status_code == 302
    made.refresh_from_db()
    switched = (
        AuditEntry.objects.filter(action="alert_rule.update").order_by("pk").values_list("changes", flat=True)
    )
    assert made.is_enabled and list(switched) == [
        {"is_enabled": [True, False]},
        {"is_enabled": [False, True]},
    ]


def test_a_rule_is_deleted_from_its_menu():
    made, browser = rule("failure"), signed_in(people.admin())
    assert browser.get(f"{RULES}{made.pk}/remove/").status_code == 405
    assert browser.post(f"{RULES}{made.pk}/remove/", headers=SCRIPT).json()["url"] == RULES
    assert not AlertRule.objects.exists()


@pytest.mark.parametrize("named", ["task", "channel", "escalation"])
def test_a_rule_that_names_what_one_may_not_see_is_only_shown(receiver: Receiver, named: str):
    task, user, hook = people.task("secret task"), people.stranger(), webhook(receiver, name="secret hook")
    fields: dict[str, Any] = {
        "task": {"scope": "tasks", "task_ids": [task.pk]},
        "channel": {"channel_ids": [hook.pk]},
        "escalation": {"escalate_events": 3, "escalation_channel_ids": [hook.pk]},
    }[named]
    made = rule("failure", **fields)
    for right in ("view_alertrule", "change_alertrule"):
        assign_perm(f"executions_app.{right}", user, made)
    browser = signed_in(user)
    page = browser.get(f"{RULES}{made.pk}/change/").content.decode()
    assert "notice-warning" in page and "submit-row" not in page
    listed = browser.get(RULES).content.decode()
    assert "secret task" not in listed and "secret hook" not in listed and "secret" not in page
    assert browser.post(f"{RULES}{made.pk}/change/", rule_form()).status_code == 403
    made.refresh_from_db()
    assert made.name == "on failure"


def test_a_new_rule_begins_with_the_task_or_group_of_the_link():
    task, browser = people.task("nightly"), signed_in(people.admin())
    form = browser.get(f"{RULES}add/?task={task.pk}").context["form"]
    assert (form["scope"].value(), form["task_ids"].value()) == ("tasks", ["nightly"])
    form = browser.get(f"{RULES}add/?group={people.group().pk}").context["form"]
    assert (form["scope"].value(), form["group_ids"].value()) == ("groups", [people.group().pk])
    user = people.stranger()
    assign_perm("executions_app.add_alertrule", user)
    for query in (f"task={task.pk}", "task=x", "group=99999999999999999999"):
        assert signed_in(user).get(f"{RULES}add/?{query}").context["form"]["scope"].value() == "global"


# --- channels ---


def test_what_a_channel_knows_is_in_no_page(receiver: Receiver):
    browser = signed_in(people.admin())
    answer = browser.post(f"{CHANNELS}add/", channel_form(receiver))
    assert answer.status_code == 302, answer.context["form"].errors
    made = AlertChannel.objects.get()
    assert config_of(made) == {"url": f"{receiver.url}/in", "secret": SECRET}
    wrong = browser.post(f"{CHANNELS}add/", channel_form(receiver, name=""))
    kept = browser.post(answer["Location"], {**channel_form(receiver), "rate_per_hour": "0"})
    assert (
        list(wrong.context["form"].errors) == ["name"] and wrong.context["form"]["language"].value() == "en"
    )
    for page in (browser.get(answer["Location"]), browser.get(CHANNELS), wrong, kept):
        assert page.status_code == 200
        assert SECRET not in page.content.decode() and receiver.url not in page.content.decode()
    assert SECRET not in str(list(AuditEntry.objects.values("changes")))


def test_a_channel_keeps_what_is_left_empty(receiver: Receiver):
    made, browser = webhook(receiver), signed_in(people.admin())
    sent = channel_form(name="renamed", config_webhook_secret="")
    assert browser.post(f"{CHANNELS}{made.pk}/change/", {**sent, "kind": "email"}).status_code == 302
    made.refresh_from_db()
    assert (made.name, made.kind, config_of(made)["secret"]) == ("renamed", "webhook", SECRET)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "taken"}, "name"),
        ({"kind": "wecom", "config_wecom_token": "short"}, "config_wecom_token"),
        ({"kind": "dingtalk"}, "config_dingtalk_token"),
        ({"config_webhook_url": "http://192.168.0.1/"}, "config_webhook_url"),
        ({"config_webhook_secret": "short"}, "config_webhook_secret"),
        ({"kind": "email", "config_email_recipients": "a@example.com"}, "kind"),
        ({"kind": "pigeon"}, "kind"),
    ],
)
def test_a_channels_error_names_its_field(receiver: Receiver, fields: dict[str, Any], field: str):
    webhook(receiver, name="taken")
    browser, sent = signed_in(people.admin()), channel_form(receiver, **fields)
    assert list(browser.post(f"{CHANNELS}check/", sent).json()["errors"]) == [field]
    assert list(browser.post(f"{CHANNELS}add/", sent).context["form"].errors) == [field]
    assert AlertChannel.objects.count() == 1


@pytest.mark.parametrize(
    ("kind", "address", "token"),
    [
        (
            "dingtalk",
            "https://oapi.dingtalk.com/robot/send?access_token=0123456789abcdef",
            "0123456789abcdef",
        ),
        ("wecom", "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a91f6-7xxx", "693a91f6-7xxx"),
        ("feishu", "https://open.feishu.cn/open-apis/bot/v2/hook/aaaa-bbbb-cccc", "aaaa-bbbb-cccc"),
        ("slack", "https://hooks.slack.com/services/T0/B0/abc", "T0/B0/abc"),
    ],
)
def test_the_whole_address_may_be_pasted(kind: str, address: str, token: str):
    sent = channel_form(kind=kind, **{f"config_{kind}_token": f" {address} "})
    assert signed_in(people.admin()).post(f"{CHANNELS}add/", sent).status_code == 302
    assert config_of(AlertChannel.objects.get())["token"] == token


def test_recipients_are_shown_to_whoever_may_change_them(settings):
    settings.QF_MAIL = True
    sent = channel_form(kind="email", config_email_recipients="a@example.com，b@example.com")
    browser = signed_in(people.admin())
    url = browser.post(f"{CHANNELS}add/", sent)["Location"]
    assert "a@example.com" in browser.get(url).content.decode()
    user = people.stranger()
    assign_perm("executions_app.view_alertchannel", user, AlertChannel.objects.get())
    page = signed_in(user).get(url).content.decode()
    assert "a@example.com" not in page and "submit-row" not in page and "test-channel" not in page
    AlertChannel.objects.update(ciphertext="gone")
    assert browser.get(url).status_code == 200


def test_a_test_message_tells_how_it_went_and_stays_in_the_log(receiver: Receiver):
    made, browser = webhook(receiver), signed_in(people.admin())
    answer = browser.post(f"{CHANNELS}{made.pk}/test/", headers=SCRIPT)
    assert answer.status_code == 200 and "hook" in answer.json()["message"] and "url" not in answer.json()
    receiver.status = 500
    answer = browser.post(f"{CHANNELS}{made.pk}/test/", headers=SCRIPT)
    assert answer.status_code == 409 and "500" in answer.json()["message"]
    sent = AlertDelivery.objects.order_by("id").values_list("state", "attempts", "alert")
    assert list(sent) == [("sent", 1, None), ("failed", 1, None)] and len(receiver.got) == 2
    page = browser.get(f"{CHANNELS}{made.pk}/change/").content.decode()
    assert "pill-failure" in page and "500" in page
    assert "500" in browser.get(CHANNELS).content.decode()  # the last one
    user = people.stranger()
    assign_perm("executions_app.view_alertchannel", user, made)
    assert signed_in(user).post(f"{CHANNELS}{made.pk}/test/", headers=SCRIPT).status_code == 403
    assert browser.get(f"{CHANNELS}{made.pk}/test/").status_code == 405 and len(receiver.got) == 2


def test_a_channel_that_rules_name_is_not_deleted(receiver: Receiver):
    made, browser = webhook(receiver), signed_in(people.admin())
    rule("failure", made)
    answer = browser.post(f"{CHANNELS}{made.pk}/remove/", headers=SCRIPT)
    assert answer.status_code == 409 and answer.json()["message"]
    AlertRule.objects.all().delete()
    assert browser.post(f"{CHANNELS}{made.pk}/remove/", headers=SCRIPT).status_code == 200
    assert not AlertChannel.objects.exists()


def test_a_channel_is_switched_in_the_list(receiver: Receiver):
    made, browser = webhook(receiver), signed_in(people.admin())
    assert browser.post(f"{CHANNELS}{made.pk}/disable/", headers=SCRIPT).status_code == 200
    made.refresh_from_db()
    assert not made.is_enabled and "已关闭" in browser.get(f"{RULES}add/").content.decode()


# --- all of them ---


@pytest.mark.parametrize("url", [RULES, CHANNELS, SILENCES])
def test_lists_cost_the_same_however_long(receiver: Receiver, url: str):
    browser = signed_in(people.admin())

    def fill(number: int) -> None:
        hook = webhook(receiver, name=f"hook {number}")
        AlertDelivery.objects.create(channel=hook, title="t", state="sent")
        task, group = people.task(f"task {number}"), people.group(f"group {number}")
        rule("failure", hook, name=f"rule {number}", scope="tasks", task_ids=[task.pk])
        rule("failure", hook, name=f"of groups {number}", scope="groups", group_ids=[group.pk])
        window = AlertSilence.objects.create(
            name=f"window {number}", scope="tasks", begins=people.at(2026, 1, 1), ends=people.at(2026, 1, 2)
        )
        window.tasks.add(task)

    fill(0)
    browser.get(url)
    with CaptureQueriesContext(connection) as few:
        browser.get(url)
    for number in range(1, 5):
        fill(number)
    with CaptureQueriesContext(connection) as many:
        page = browser.get(url).content.decode()
    assert len(many) <= len(few) and " 4" in page


@pytest.mark.parametrize("role", ["viewer", "developer", "operator", "admin"])
def test_operators_and_administrators_set_alerts_up_and_nobody_else(receiver: Receiver, role: str):
    made = {RULES: rule("failure"), CHANNELS: webhook(receiver)}
    made[SILENCES] = AlertSilence.objects.create(
        name="window", begins=people.at(2026, 1, 1), ends=people.at(2026, 1, 2)
    )
    browser = signed_in(member(role))
    may = role in ("operator", "admin")
    navigation = browser.get("/console/").content.decode()
    for url, row in made.items():
        assert (f'href="{url}"' in navigation) is may
        for path in ("", "add/", f"{row.pk}/change/"):
            wanted = (200,) if may else (403, 404, 302)
            assert browser.get(url + path).status_code in wanted, url + path
        for path in ("add/", f"{row.pk}/change/", f"{row.pk}/check/", "check/", f"{row.pk}/remove/"):
            answer = browser.post(url + path, {}, headers=SCRIPT)
            assert answer.status_code in ((200,) if may else (403, 404, 302)), url + path
        assert type(row).objects.filter(pk=row.pk).exists() is not may


def test_rights_on_one_rule_show_that_one_alone():
    mine, other, user = rule("failure", name="mine"), rule("timeout", name="other"), people.stranger()
    assign_perm("executions_app.view_alertrule", user, mine)
    browser = signed_in(user)
    page = browser.get(RULES).content.decode()
    assert ">mine<" in page and ">other<" not in page and 'role="switch"' not in page
    assert browser.get(f"{RULES}{mine.pk}/change/").status_code == 200
    assert browser.get(f"{RULES}{other.pk}/change/").status_code in (302, 404)
    for path in ("change/", "remove/", "disable/", "check/"):
        assert browser.post(f"{RULES}{mine.pk}/{path}", rule_form(), headers=SCRIPT).status_code == 403
    assert AlertRule.objects.filter(is_enabled=True).count() == 2


def test_every_change_needs_the_csrf_token(receiver: Receiver):
    ids = {RULES: rule("failure").pk, CHANNELS: webhook(receiver).pk}
    browser = signed_in(people.admin())
    browser.handler.enforce_csrf_checks = True
    for url, pk in ids.items():
        for path in ("add/", "check/", f"{pk}/change/", f"{pk}/remove/", f"{pk}/disable/"):
            assert browser.post(url + path, rule_form()).status_code == 403, path
    for path in (
        f"{RULES}preview/",
        f"{CHANNELS}{ids[CHANNELS]}/test/",
        f"{SILENCES}for/task/1/4/",
        f"{SILENCES}add/",
    ):
        assert browser.post(path, {}).status_code == 403
    assert AlertRule.objects.filter(is_enabled=True).exists() and not receiver.got
