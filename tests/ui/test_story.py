"""The whole story in a browser: log in, make a task in the form, watch it run, read its log, all without a reload."""

import re
import socket
from datetime import date

from playwright.sync_api import Page, expect

from tests.services import Stack
from tests.ui.conftest import Visitor

NAME = "每五秒打印"
# Marks the page: it is gone after a reload.
MARK = "window.stillTheSamePage = true"
MARKED = "window.stillTheSamePage === true"
# Which states each execution's pill has gone through, in the order in which the page showed them.
WATCH = """() => {
  window.seen = {};
  const note = () => document.querySelectorAll("#result_list [data-execution]").forEach((pill) => {
    const states = (window.seen[pill.dataset.execution] = window.seen[pill.dataset.execution] || []);
    if (states[states.length - 1] !== pill.dataset.status) states.push(pill.dataset.status);
  });
  new MutationObserver(note).observe(document.body, { subtree: true, childList: true, attributes: true });
}"""
SAW_IT_ALL = """() => Object.values(window.seen).some((states) => states.join() === "1,2,3")"""


def make_task(visitor: Visitor, name: str, command: str, cron: str) -> None:
    page = visitor.open("/console/tasks_app/task/add/")
    page.fill("#id_name", name)
    page.fill("#id_cron_expr", cron)
    expect(page.locator("#fires li")).to_have_count(5)
    page.fill("#id_config_command", command)
    page.get_by_role("checkbox", name=re.compile("^default")).check()
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#toasts")).to_contain_text(f"“{name}”已保存。")


def disable(page: Page, name: str) -> None:
    row = page.locator("#result_list tbody tr", has_text=name)
    row.get_by_role("button", name=f"“{name}”的操作").click()
    page.get_by_role("menuitem", name="禁用").click()
    page.get_by_role("alertdialog").get_by_role("button", name="禁用").click()
    expect(page.locator("#toasts")).to_contain_text("已禁用")
    expect(row.locator(".field-status_cell")).to_contain_text("已禁用")


def test_from_log_in_to_a_live_log(visitor: Visitor):
    page = visitor.log_in()
    expect(page.locator("h1")).to_have_text("概览")

    make_task(visitor, NAME, "echo hello; hostname; date; sleep 1; echo bye", "*/5 * * * * *")
    row = page.locator("#result_list tbody tr", has_text=NAME)
    expect(row).to_contain_text("每隔 5 秒")
    # The list shows the first execution as soon as there is one.
    expect(row.locator(".last-execution")).to_contain_text("成功", timeout=20_000)

    page.get_by_role("link", name="执行监控").click()
    page.evaluate(MARK)
    page.evaluate(WATCH)
    page.wait_for_function(SAW_IT_ALL, timeout=25_000)
    states = page.evaluate("Object.values(window.seen)")
    assert all(s == sorted(s) for s in states), states  # a status only moves forward
    assert page.evaluate(MARKED)

    # The newest execution, opened while it still runs where that is to be had.
    page.locator("#result_list tbody tr", has_text=NAME).first.get_by_role("link").click()
    page.evaluate(MARK)
    log = page.locator(".log-view")
    expect(log).to_contain_text("hello")
    expect(log).to_contain_text(socket.gethostname())
    expect(log).to_contain_text(str(date.today().year))
    expect(log).to_contain_text("bye")
    expect(page.locator("h1 .pill")).to_have_text("成功")
    expect(page.locator("[data-fact=exit]")).to_have_text("0")
    assert page.evaluate(MARKED)

    visitor.open("/console/tasks_app/task/")
    disable(page, NAME)


def test_run_now_is_watched_line_by_line(visitor: Visitor):
    page = visitor.log_in()
    make_task(visitor, "逐行输出", "for i in 1 2 3; do echo line $i; sleep 1; done", "0 0 1 1 *")
    row = page.locator("#result_list tbody tr", has_text="逐行输出")
    row.get_by_role("button", name="“逐行输出”的操作").click()
    page.get_by_role("menuitem", name="立即执行").click()
    page.locator("#toasts").get_by_role("link", name="查看").click()
    page.evaluate(MARK)
    log = page.locator(".log-view")
    expect(log).to_contain_text("line 1")
    expect(page.locator("h1 .pill")).to_have_text("执行中")
    expect(log).not_to_contain_text("line 3")  # it has not been printed yet
    expect(log).to_contain_text("line 3")
    expect(page.locator("h1 .pill")).to_have_text("成功")
    assert log.locator(".log-line").all_inner_texts() == ["line 1", "line 2", "line 3"]
    assert page.evaluate(MARKED)

    # It can be searched and run again from here.
    page.fill("[data-log=search]", "line 2")
    expect(page.locator("[data-log=count]")).to_contain_text("1")
    expect(log.locator("mark")).to_have_text("line 2")
    page.get_by_role("button", name="重新执行").click()
    expect(page.locator("#toasts")).to_contain_text("已重新执行")


def test_a_running_execution_is_cancelled_after_a_question(visitor: Visitor):
    page = visitor.log_in()
    make_task(visitor, "长任务", "echo begun; sleep 60", "0 0 1 1 *")
    row = page.locator("#result_list tbody tr", has_text="长任务")
    row.get_by_role("button", name="“长任务”的操作").click()
    page.get_by_role("menuitem", name="立即执行").click()
    page.locator("#toasts").get_by_role("link", name="查看").click()
    expect(page.locator("h1 .pill")).to_have_text("执行中")
    page.locator(".page-actions").get_by_role("button", name="取消").click()
    page.get_by_role("alertdialog").get_by_role("button", name="取消执行").click()
    expect(page.locator("h1 .pill")).to_have_text("已取消")
    expect(page.locator("#reason")).to_contain_text("被用户取消")


def test_a_page_reconnects_and_catches_up_when_the_server_was_away(visitor: Visitor, stack: Stack):
    page = visitor.log_in()
    make_task(visitor, "断线", "echo $QF_SCHEDULED_TIME", "*/3 * * * * *")
    visitor.open("/console/executions_app/execution/")
    rows = page.locator("#result_list tbody tr", has_text="断线")
    expect(rows.first).to_be_visible()
    stack.programs()["daphne"].kill()
    expect(page.locator("#live-state")).to_have_text("正在重新连接…")
    expect(page.locator("#live-state")).to_be_hidden(timeout=30_000)
    before = page.locator("[data-execution]").first.get_attribute("data-execution")
    page.wait_for_function(NEWER_THAN, arg=int(before or 0), timeout=15_000)
    # The browser says that the connection was lost; that is what happened.
    visitor.complaints[:] = [
        text for text in visitor.complaints if "WebSocket" not in text and "ERR_" not in text
    ]
    visitor.open("/console/tasks_app/task/")
    disable(page, "断线")


NEWER_THAN = "(id) => Number(document.querySelector('#result_list [data-execution]').dataset.execution) > id"


def test_the_form_says_what_is_wrong_with_a_cron_expression_before_saving(visitor: Visitor):
    page = visitor.log_in()
    visitor.open("/console/tasks_app/task/add/")
    page.fill("#id_cron_expr", "61 * * * *")
    expect(page.locator("#cron-words")).to_contain_text("超出 0 到 59 的范围")
    expect(page.locator("#fires li")).to_have_count(0)
    page.get_by_role("button", name="每天 2 点").click()
    expect(page.locator("#cron-words")).to_contain_text("02:00")
    expect(page.locator("#fires li")).to_have_count(5)
    page.select_option("#id_timezone", "Europe/Berlin")
    expect(page.locator("#fires-zone")).to_have_text("Europe/Berlin")
    expect(page.locator("#fires time").first).to_contain_text("02:00:00")
    # The fields follow the executor.
    expect(page.locator("#id_config_url")).to_be_hidden()
    page.get_by_text("HTTP", exact=True).click()
    expect(page.locator("#id_config_url")).to_be_visible()
    expect(page.locator("#id_config_command")).to_be_hidden()
    page.on("dialog", lambda dialog: dialog.accept())  # leaving with changes asks
