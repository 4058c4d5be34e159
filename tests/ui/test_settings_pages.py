"""In a browser: a setting that is in force at once, a secret that stays secret, a token of one's own."""

import re
import time

import httpx
from playwright.sync_api import expect

from tests.services import Stack
from tests.ui.conftest import Visitor

VALUE = "swordfish-in-the-shop"


def test_a_setting_a_secret_and_a_token(visitor: Visitor, stack: Stack):
    page = visitor.log_in()
    page.get_by_role("link", name="系统配置").click()
    page.get_by_label("API 每页行数").fill("0")
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_role("alert")).to_contain_text("1 个字段")
    expect(page.locator(".field.errors")).to_contain_text("必须在 1 到 200 之间")
    page.get_by_label("API 每页行数").fill("7")
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#toasts")).to_contain_text("设置已保存")

    page.get_by_role("link", name="密钥").click()
    page.get_by_role("link", name="新建密钥").first.click()
    page.get_by_label("名称").fill("SHOP")
    page.get_by_label("值").fill(VALUE)
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#use")).to_have_text("{{ secrets.SHOP }}")
    expect(page.get_by_label("值")).to_have_value("")
    assert VALUE not in page.content()

    page.goto(f"{visitor.base}/console/profile/")
    page.get_by_label("名称").fill("流水线")
    page.get_by_role("checkbox", name=re.compile("执行与取消")).check()
    page.get_by_role("button", name="生成令牌").click()
    text = page.locator("#token-text").inner_text()
    with httpx.Client(base_url=f"{stack.url}/api/v1", headers={"Authorization": f"Token {text}"}) as api:
        with stack.api() as admin:  # whose token it is; other tests share the installation
            assert api.get("/secrets").json() == admin.get("/secrets").json()
        assert "SHOP" in {secret["name"] for secret in api.get("/secrets").json()["data"]["items"]}
        assert api.delete("/secrets/1").status_code == 403  # no scope for that
        run_with_the_secret(stack, api)
        page.goto(f"{visitor.base}/console/profile/")
        assert text not in page.content()
        row = page.locator("#tokens tbody tr", has_text="流水线")
        expect(row).to_contain_text("127.0.0.1")
        row.get_by_role("button", name="吊销 流水线").click()
        page.get_by_role("alertdialog").get_by_role("button", name="吊销").click()
        expect(page.locator("#toasts")).to_contain_text("令牌已吊销")
        assert api.get("/secrets").status_code == 401
    with stack.api() as admin:
        admin.patch("/settings", json={"page_size": None})  # other tests share the installation


def run_with_the_secret(stack: Stack, api: httpx.Client) -> None:
    """A task that prints its secret in every way it can shows the mask, in the log and in the full log."""
    with stack.api() as admin:
        group = admin.get("/groups").json()["data"][0]["id"]
        task = {
            "name": "with a secret", "executor_type": 1, "cron_expr": "0 0 1 1 *", "group_ids": [group],
            "executor_config": {
                # At once, in two pieces, and as an error.
                "command": "echo out $T; printf %.9s $T; sleep 0.3; printf %s $T | tail -c +10; echo; echo $T >&2",
                "env": {"T": "{{ secrets.SHOP }}"},
            },
        }  # fmt: skip
        pk = admin.post("/tasks", json=task).json()["data"]["id"]
    answers = [
        api.post(f"/tasks/{pk}/trigger", json={}, headers={"Idempotency-Key": "ui-1"}).json()
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    execution = answers[0]["data"]["execution_id"]
    deadline = time.monotonic() + 20
    while api.get(f"/executions/{execution}").json()["data"]["status"] != 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    log = api.get(f"/executions/{execution}/logs").json()["data"]
    full = api.get(f"/executions/{execution}/logs/full").text
    assert log["output"].count("••••••") == 3
    for text in (log["output"], log["error"], full):
        assert "••••••" in text and "swordfish" not in text
