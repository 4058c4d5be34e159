"""The console's pages of alerts."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from guardian.shortcuts import assign_perm

from executions_app.alerts.models import Alert, AlertDelivery
from tests import people

from .conftest import Receiver, rule, webhook

pytestmark = pytest.mark.django_db
AT = datetime(2026, 3, 2, tzinfo=UTC)
LIST = "/console/executions_app/alert/"


def signed_in(user) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


def alert(name: str = "job", **fields) -> Alert:
    task, found = people.task(name), rule("failure", name=f"rule of {name}")
    row = {
        "rule": found,
        "key": f"task:{task.pk}",
        "kind": "failure",
        "first_at": AT,
        "last_at": AT,
        "count": 1,
    }
    return Alert.objects.create(**{**row, "task_id": task.pk, "task_name": name, **fields})


def test_the_list_shows_what_is_open_first_and_costs_the_same_however_long():
    alert("over", state="resolved", resolved_by="kim")
    browser = signed_in(people.admin())
    browser.get(LIST)
    with CaptureQueriesContext(connection) as few:
        browser.get(LIST)
    for number in range(6):
        alert(f"open-{number}", silenced_count=1)
    with CaptureQueriesContext(connection) as many:
        page = browser.get(LIST).content.decode()
    assert len(many) <= len(few)
    assert page.index("open-0") < page.index(">over<") and "已静默" in page and "kim" in page


def test_an_alert_is_acknowledged_and_resolved_from_its_menu():
    one, browser = alert(), signed_in(people.admin())
    assert f"{LIST}{one.pk}/acknowledge/" in browser.get(LIST).content.decode()
    script = {"x-requested-with": "fetch"}
    assert browser.post(f"{LIST}{one.pk}/acknowledge/", headers=script).json()["reload"]
    assert browser.post(f"{LIST}{one.pk}/acknowledge/", headers=script).status_code == 409
    assert browser.get(f"{LIST}{one.pk}/resolve/").status_code == 405
    assert browser.post(f"{LIST}{one.pk}/resolve/", headers=script).status_code == 200
    one.refresh_from_db()
    assert one.state == "resolved" and one.resolved_by == "admin"


def test_who_may_only_see_a_task_sees_its_alerts_and_cannot_touch_them():
    mine, user = alert("mine"), people.stranger()
    other = alert("other")
    assign_perm("tasks_app.view_task", user, people.Task.objects.get(name="mine"))
    browser = signed_in(user)
    page = browser.get(LIST).content.decode()
    assert ">mine<" in page and ">other<" not in page and "/acknowledge/" not in page
    script = {"x-requested-with": "fetch"}
    assert browser.post(f"{LIST}{mine.pk}/acknowledge/", headers=script).status_code == 403
    assert browser.post(f"{LIST}{other.pk}/resolve/", headers=script).status_code in (403, 404)
    assert Alert.objects.filter(state="open").count() == 2


def test_the_log_of_messages_is_for_those_who_see_channels(receiver: Receiver):
    channel = webhook(receiver)
    AlertDelivery.objects.create(channel=channel, title="<b>Title</b>", state="failed", error="It broke")
    url = "/console/executions_app/alertdelivery/"
    page = signed_in(people.admin()).get(url).content.decode()
    assert "&lt;b&gt;Title" in page and "It broke" in page and receiver.url not in page
    other = webhook(receiver, name="other")
    AlertDelivery.objects.create(channel=other, title="Another", state="sent")
    page = signed_in(people.admin()).get(f"{url}?channel__id__exact={other.pk}").content.decode()
    assert "Another" in page and "It broke" not in page and "<b>other</b>" not in page
    assert signed_in(people.stranger()).get(url).status_code == 403


@pytest.mark.parametrize("way", ["{pk}/change/", "{pk}/delete/", "add/"])
def test_nothing_is_written_past_the_actions(way: str):
    one, browser = alert(), signed_in(people.admin())
    url = LIST + way.format(pk=one.pk)
    assert browser.get(url).status_code in (302, 403)
    assert browser.post(url, {"state": "resolved", "post": "yes"}).status_code in (302, 403)
    one.refresh_from_db()
    assert one.state == "open" and Alert.objects.count() == 1


def test_empty_lists_say_what_to_do_first(receiver: Receiver):
    browser = signed_in(people.admin())
    add_rule, add_channel = (
        reverse("admin:executions_app_alertrule_add"),
        "/console/executions_app/alertchannel/add/",
    )
    assert add_rule in browser.get("/console/executions_app/alert/").content.decode()
    page = browser.get("/console/executions_app/alertrule/").content.decode()
    assert add_channel in page and add_rule in page
    assert add_channel in browser.get(add_rule).content.decode()
    rule("failure")
    assert "notice-warning" in browser.get("/console/executions_app/alertrule/").content.decode()
    webhook(receiver)
    assert "notice-warning" not in browser.get("/console/executions_app/alertrule/").content.decode()
    alert("job")
    assert add_rule not in browser.get("/console/executions_app/alert/").content.decode()
