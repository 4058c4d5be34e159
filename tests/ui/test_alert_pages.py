"""Alerts in the browser: from no channel to a message that has arrived; and by keys alone."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.services import Stack, wait_until
from tests.ui.conftest import Visitor
from tests.ui.test_accessibility import findings, reach

RULES = "/console/executions_app/alertrule/"
CHANNELS = "/console/executions_app/alertchannel/"
SECRET = "what-both-sides-know-well"


class Listener(ThreadingHTTPServer):
    """A webhook's receiver on loopback."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/alerts"

    def titles(self) -> list[str]:
        return [json.loads(body)["title"] for _headers, body in self.got]


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Not into the test's output."""


@pytest.fixture
def listener(stack: Stack) -> Iterator[Listener]:
    """The receiver, which the settings allow."""
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    with stack.api() as api:
        assert api.patch("/settings", json={"alert_networks": ["127.0.0.0/8"]}).status_code == 200
        yield server
        assert api.patch("/settings", json={"alert_networks": None}).status_code == 200
    server.shutdown()
    thread.join()
    server.server_close()


def save(page: Page) -> None:
    page.click(".submit-row button[type=submit]")
    expect(page.locator("#toasts")).to_contain_text("已保存")


def choose(page: Page, name: str, value: str) -> None:
    page.locator(f"input[name={name}][value={value}]").check(force=True)


def test_from_no_channel_to_a_message_that_has_arrived(visitor: Visitor, stack: Stack, listener: Listener):
    with stack.api() as api:
        task = {
            "name": "told of", "executor_type": 1, "executor_config": {"command": "exit 3"}, "cron_expr": "0 0 1 1 *",
            "group_ids": [api.get("/groups").json()["data"][0]["id"]],
        }  # fmt: skip
        pk = api.post("/tasks", json=task).json()["data"]["id"]
    page = visitor.log_in()

    # A channel: the fields of its kind, a check while one writes, a test message and how it went.
    visitor.open(f"{CHANNELS}add/")
    expect(page.locator("#id_config_dingtalk_token")).to_be_visible()
    choose(page, "kind", "webhook")
    expect(page.locator("#id_config_dingtalk_token")).to_be_hidden()
    assert findings(page) == []
    page.fill("#id_name", "on call")
    page.fill("#id_config_webhook_url", "http://10.1.2.3/")
    page.fill("#id_config_webhook_secret", SECRET)
    page.locator("#id_rate_per_hour").focus()
    expect(page.locator("[data-field=config_webhook_url] .errorlist")).to_contain_text("10.1.2.3")
    page.fill("#id_config_webhook_url", listener.url)
    page.locator("#id_rate_per_hour").focus()
    expect(page.locator("[data-field=config_webhook_url] .errorlist")).to_have_count(0)
    save(page)
    assert SECRET not in page.content() and listener.url not in page.content()
    page.click("#test-channel")
    expect(page.locator("#test-outcome .notice-success")).to_contain_text("on call")
    expect(page.locator(".deliveries li")).to_have_count(1)

    # A rule, from the task's page; the message is shown as one writes.
    visitor.open(f"/console/tasks_app/task/{pk}/detail/")
    page.get_by_role("link", name="新建告警规则").click()
    expect(page.locator("#id_name")).to_have_value("told of 的告警")
    expect(page.locator("input[name=task_ids]").first).to_have_value("told of")
    page.select_option("#id_kind", "consecutive_failures")
    expect(page.locator("#id_threshold_consecutive_failures")).to_be_visible()
    assert findings(page) == []
    page.select_option("#id_kind", "failure")
    expect(page.locator("#id_threshold_consecutive_failures")).to_be_hidden()
    page.locator("#id_title").focus()
    page.click("[data-insert='task.name']")
    page.keyboard.type("!")
    expect(page.locator("#preview strong")).to_have_text("told of!")
    page.get_by_label("on call").first.check()
    save(page)

    # The task fails: an alert, a message, signed.
    with stack.api() as api:
        assert api.post(f"/tasks/{pk}/trigger", json={}).status_code == 200
    wait_until(lambda: "told of!" in listener.titles(), 30, lambda: f"a message: {listener.titles()}")
    headers, body = listener.got[-1]
    signed = headers["X-Quartz-Timestamp"].encode() + b"." + body
    assert (
        headers["X-Quartz-Signature"]
        == f"sha256={hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()}"
    )
    visitor.open("/console/executions_app/alertdelivery/")
    expect(page.locator("tr", has_text="told of!").locator(".pill-success")).to_be_visible()

    # It is acknowledged and silenced from its row.
    visitor.open("/console/executions_app/alert/?q=told+of")
    row = page.locator("#result_list tbody tr")
    row.locator("[data-menu]").click()
    row.get_by_role("menuitem", name="静默 4 小时").click()
    expect(page.locator("#toasts")).to_contain_text("不再通知")
    row.locator("[data-menu]").click()
    row.get_by_role("menuitem", name="确认").click()
    expect(row.locator(".pill-running")).to_be_visible()
    visitor.open(f"/console/tasks_app/task/{pk}/detail/")
    expect(page.locator(".notice-row")).to_contain_text("told of")

    # And the rule is switched off in the list.
    visitor.open(f"{RULES}?q=told+of")
    switch = page.get_by_role("switch")
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    expect(page.locator("#toasts")).to_contain_text("已关闭")
    expect(page.get_by_role("switch")).to_have_attribute("aria-checked", "false")


def test_a_rule_and_a_silence_are_made_by_keys_alone(visitor: Visitor, stack: Stack):
    with stack.api() as api:
        task = {
            "name": "by keys alone", "executor_type": 1, "executor_config": {"command": "true"},
            "cron_expr": "0 0 1 1 *", "group_ids": [api.get("/groups").json()["data"][0]["id"]],
        }  # fmt: skip
        api.post("/tasks", json=task)
    page = visitor.log_in()
    press = page.keyboard.press
    visitor.open(RULES)
    page.wait_for_load_state()
    press("n")
    page.wait_for_selector("#alert-form")
    reach(page, "#id_name")
    page.keyboard.type("only keys")
    reach(page, "input[name=scope]")
    press("ArrowRight")
    reach(page, "input[name=task_ids]")
    page.keyboard.type("by keys alone")
    reach(page, "#add-task")
    press("Enter")
    expect(page.locator("input[name=task_ids]")).to_have_count(2)
    press("Tab")
    press("Enter")  # takes the row away again
    expect(page.locator("input[name=task_ids]")).to_have_count(1)
    reach(page, ".submit-row button")
    press("Enter")
    expect(page.locator("#toasts")).to_contain_text("已保存")

    visitor.open("/console/executions_app/alertsilence/add/")
    page.wait_for_load_state()
    reach(page, "input[name=window]")
    for label in ("起止时间", "每周"):
        page.locator(".segments").get_by_text(label).click()
        assert findings(page) == []
    page.locator("input[name=window][value='1']").check(force=True)
    reach(page, ".submit-row button")
    press("Enter")
    expect(page.locator("h1 .pill")).to_have_text("静默中")
    page.wait_for_load_state()
    reach(page, "button[formaction$='/end/']")
    press("Enter")
    expect(page.locator("h1 .pill")).to_have_text("已结束")
