"""Stories of the pages around tasks: the form's help, test runs, calendars, replays, runs, one's own list."""

import re

from playwright.sync_api import Page, expect

from tests.services import Stack
from tests.ui.conftest import Visitor

TASKS = "/console/tasks_app/task/"


def new_task(visitor: Visitor, name: str) -> Page:
    page = visitor.open(f"{TASKS}add/")
    page.fill("#id_name", name)
    return page


def make(stack: Stack, name: str, **fields) -> int:
    """A task of the group `default`, made by the API; its id."""
    with stack.api() as api:
        group = api.get("/groups").json()["data"][0]["id"]
        task = {
            "name": name, "executor_type": 1, "executor_config": {"command": "echo ok"}, "cron_expr": "0 0 1 1 *",
            "group_ids": [group], **fields,
        }  # fmt: skip
        return api.post("/tasks", json=task).json()["data"]["id"]


def test_a_definition_is_tried_out_before_it_is_saved(visitor: Visitor):
    visitor.log_in()
    page = new_task(visitor, "试运行任务")
    page.fill("#id_cron_expr", "0 3 * * *")
    page.fill("#id_config_command", "echo tried; exit 3")
    page.get_by_role("checkbox", name=re.compile("^default")).check()
    expect(page.locator("#hosts-chosen")).to_contain_text("1")
    page.fill("#test-host", "local")
    page.click("#test-start")
    expect(page.locator("#test-output")).to_contain_text("tried")
    expect(page.locator("#test-pill")).to_contain_text("失败")
    expect(page.locator("#test-note")).to_contain_text("exit 3")
    # Mended, and ended by hand.
    page.fill("#id_config_command", "echo waits; sleep 60")
    page.click("#test-start")
    expect(page.locator("#test-output")).to_contain_text("waits", timeout=20_000)
    page.click("#test-stop")
    expect(page.locator("#test-pill")).to_contain_text("已取消")
    page.on("dialog", lambda dialog: dialog.accept())
    visitor.open(TASKS)
    expect(page.locator("#result_list, .empty")).not_to_contain_text("试运行任务")


def test_the_server_says_what_is_wrong_on_leaving_a_field(visitor: Visitor, stack: Stack):
    make(stack, "名称已被占用")
    visitor.log_in()
    page = new_task(visitor, "名称已被占用")
    page.fill("#id_cron_expr", "0 3 * * *")
    page.fill("#id_config_command", "date")
    page.get_by_role("checkbox", name=re.compile("^default")).check()
    page.focus("#id_name")
    page.focus("#id_description")
    expect(page.locator("[data-field=name] .errorlist")).to_be_visible()
    page.fill("#id_name", "名称没有被占用")
    page.focus("#id_description")
    expect(page.locator("[data-field=name] .errorlist")).to_have_count(0)
    page.on("dialog", lambda dialog: dialog.accept())


def test_an_expression_is_put_together_and_a_script_is_edited_by_keys(visitor: Visitor):
    visitor.log_in()
    page = new_task(visitor, "生成器")
    page.click("#cron-builder summary")
    page.select_option("[data-cron=kind]", "week")
    page.check("[data-cron-day='5']")
    page.fill("[data-cron=time]", "07:30")
    page.click("[data-cron=use]")
    expect(page.locator("#id_cron_expr")).to_have_value("30 7 * * 1,5")
    expect(page.locator("#fires li")).to_have_count(5)
    command = page.locator("#id_config_command")
    command.fill("if true; then\necho a\necho b\nfi")
    command.evaluate("(area) => area.setSelectionRange(14, 26)")
    page.keyboard.press("Tab")
    expect(command).to_have_value("if true; then\n    echo a\n    echo b\nfi")
    page.keyboard.press("Shift+Tab")
    expect(command).to_have_value("if true; then\necho a\necho b\nfi")
    expect(page.locator(".editor-gutter")).to_have_text("1\n2\n3\n4")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(command).not_to_be_focused()
    page.on("dialog", lambda dialog: dialog.accept())


def test_a_task_after_another_makes_a_chain_that_is_drawn(visitor: Visitor, stack: Stack):
    make(stack, "上游")
    visitor.log_in()
    page = new_task(visitor, "下游")
    page.get_by_text("不调度", exact=True).click()
    page.click("#add-dependency")
    page.fill("input[name=dependencies_task]", "上游")
    page.fill("#id_config_command", "echo after")
    page.get_by_role("checkbox", name=re.compile("^default")).check()
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#toasts")).to_contain_text("已保存")
    page.locator("#result_list").get_by_role("link", name="上游").click()
    expect(page.locator("svg.graph")).to_contain_text("下游")
    page.get_by_role("button", name="立即执行").click()
    page.locator("#toasts").get_by_role("link", name="查看").click()
    page.locator("dl.facts").get_by_role("link", name=re.compile("主机")).click()
    expect(page.locator("h1 .pill")).to_have_text("成功")
    # The chain's page follows its own task live; the other run is there when it is opened anew.
    page.wait_for_function(
        "() => document.querySelector('svg.graph') || (location.reload(), false)", polling=1500
    )
    expect(page.locator("svg.graph")).to_contain_text("下游")
    page.locator("svg.graph a").click()
    expect(page.locator("h1")).to_contain_text("下游")


def test_a_calendar_shows_its_days_and_cannot_go_while_a_task_keeps_to_it(visitor: Visitor, stack: Stack):
    page = visitor.log_in()
    visitor.open("/console/tasks_app/calendar/add/")
    page.fill("#id_name", "维护窗口")
    page.select_option("#id_working_days", "week")
    expect(page.locator("#days")).to_contain_text("全天")
    expect(page.locator("#days > div > div").nth(1).locator("li")).to_have_count(10)
    page.locator("[data-rows=cron] [data-add]").click()
    rows = page.locator("[data-rows=cron] .form-row-line")
    expect(rows).to_have_count(2)
    rows.nth(1).locator("input[name=cron-1-start]").fill("0 2 * * 6")
    expect(page.locator("#days")).to_contain_text("02:00–03:00")
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#toasts")).to_contain_text("“维护窗口”已保存")
    pk = int(re.search(r"/(\d+)/change/", page.url)[1])  # type: ignore[index]
    make(stack, "守日历的任务", calendar_id=pk)
    visitor.open("/console/tasks_app/calendar/")
    page.get_by_role("button", name="“维护窗口”的操作").click()
    page.get_by_role("menuitem", name="删除").click()
    page.get_by_role("alertdialog").get_by_role("button", name="删除").click()
    expect(page.locator("#toasts")).to_contain_text("守日历的任务")
    visitor.complaints[:] = [text for text in visitor.complaints if "409" not in text]


def test_a_past_window_is_looked_at_and_replayed(visitor: Visitor, stack: Stack):
    pk = make(stack, "回放任务", cron_expr="0 * * * *")
    page = visitor.log_in()
    visitor.open(f"{TASKS}{pk}/detail/")
    page.get_by_role("link", name="补跑历史时段").click()
    page.get_by_role("button", name="预览").click()
    expect(page.locator(".replay-times li")).to_have_count(20)
    page.get_by_role("button", name="开始补跑").click()
    expect(page.locator("[data-part=progress] progress")).to_have_attribute("value", "100", timeout=30_000)
    expect(page.locator("[data-part=progress] .pills")).to_contain_text(
        re.compile("成功 2[45]"), timeout=20_000
    )
    expect(page.locator("h1 .pill")).to_have_text("完成")


def test_columns_and_filters_are_ones_own(visitor: Visitor, stack: Stack):
    make(stack, "有标签的任务", labels={"team": "billing"})
    make(stack, "没有标签的任务")
    page = visitor.log_in()
    visitor.open(f"{TASKS}?label=team%3Dbilling")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.click("#list-view summary")
    page.get_by_role("button", name="默认使用当前筛选").click()
    expect(page.locator("#toasts")).to_contain_text("列表视图已保存")
    visitor.open("/console/")
    page.locator("#sidebar").get_by_role("link", name="任务", exact=True).click()
    page.wait_for_url("**label=team**")
    page.click("#list-view summary")
    page.locator("#list-view").get_by_text("负责人").click()
    page.locator("#list-view").get_by_role("button", name="应用").click()
    expect(page.locator("#result_list thead")).to_contain_text("负责人")
    page.click("#list-view summary")
    page.get_by_role("button", name="取消默认筛选").click()
    expect(page.locator("#toasts")).to_contain_text("列表视图已保存")
    page.get_by_role("link", name="清除").click()
    expect(page.locator("#result_list")).to_contain_text("没有标签的任务")
