"""Monitoring: what runs now, the history and its filters, trying failures again, and the whole of a log."""

import json
import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.services import SUCCESS, Stack, executions, shell_task, wait_until
from tests.ui.conftest import Visitor

LIST = "/console/executions_app/execution/"
FAILURE = 4
AT_END = """() => {
  const view = document.querySelector(".log-view");
  return view.scrollHeight - view.scrollTop - view.clientHeight <= 2;
}"""
LINES = 4000  # some 19 KB, of which the server keeps 10


def run(api, task: int, status: int = 0) -> int:
    """Run the task; its execution's number, once it has ended so, if that is asked for."""
    before = {row["id"] for row in executions(api, task)}
    api.post(f"/tasks/{task}/trigger", json={}).raise_for_status()

    def new() -> list[int]:
        rows = [row for row in executions(api, task) if row["id"] not in before]
        return [row["id"] for row in rows if status in (0, row["status"])]

    wait_until(new, 30, "an execution")
    return new()[0]


def row_of(page: Page, pk: int) -> Locator:
    return page.locator("#result_list tbody tr", has=page.locator(f"[data-execution='{pk}']"))


def choose(page: Page, title: str, label: str) -> None:
    """Choose from one of the list's filters."""
    host = page.locator("details.filter", has=page.locator("summary", has_text=title))
    host.locator("summary").click()
    host.get_by_role("link", name=label, exact=True).click()


def test_what_runs_now_comes_in_by_itself_and_is_cancelled_from_its_row(visitor: Visitor, stack: Stack):
    page = visitor.log_in()
    with stack.api() as api:
        first = shell_task(api, "监控第一个", "0 0 1 1 *", "true")
        long = shell_task(api, "监控长任务", "0 0 1 1 *", "sleep 60")
        run(api, first, SUCCESS)
        visitor.open(LIST)
        page.evaluate("window.stillTheSamePage = true")
        pk = run(api, long)
    row = row_of(page, pk)
    expect(row).to_contain_text("执行中")
    expect(row).to_contain_text("监控长任务")
    # The menu of a row that came in by itself.
    row.get_by_role("button", name=f"“监控长任务 #{pk}”的操作").click()
    page.get_by_role("menuitem", name="取消").click()
    page.get_by_role("alertdialog").get_by_role("button", name="取消执行").click()
    expect(row).to_contain_text("已取消")
    # It is of what the row is now: there is nothing to cancel any more.
    row.locator(".menu-host > button").click()
    expect(page.get_by_role("menuitem", name="重试")).to_be_visible()
    expect(page.get_by_role("menuitem", name="取消")).to_have_count(0)
    assert page.evaluate("window.stillTheSamePage === true")


def test_history_is_filtered_and_failures_are_tried_again(visitor: Visitor, stack: Stack):
    with stack.api() as api:
        good = shell_task(api, "监控成功", "0 0 1 1 *", "true")
        bad = shell_task(api, "监控失败", "0 0 1 1 *", "exit 3")
        run(api, good, SUCCESS)
        failed = [run(api, bad, FAILURE) for _ in range(3)]
    page = visitor.log_in()
    visitor.open(LIST)
    # Each filter, one after another; the address has all of them, so that the view can be shared.
    page.fill("#searchbar", "监控")
    page.keyboard.press("Enter")
    choose(page, "状态", "失败或超时")
    choose(page, "时间", "今天")
    choose(page, "触发方式", "手动")
    page.locator("details.filter summary", has_text="缩小范围").click()
    page.fill("#filter-task", "监控失")
    expect(page.locator("#task-names option")).to_have_attribute("value", "监控失败")
    page.fill("#filter-task", "监控失败")
    page.fill("#filter-host", "local")
    page.locator("#narrow button").click()
    page.wait_for_url(re.compile("host=local"))
    assert "from=" not in page.url
    for part in ("q=", "status=bad", "time=today", "execution_type", "task="):
        assert part in page.url
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_have_class(re.compile("row-failed"))
    visitor.open(f"{LIST}?task=监控失败&from=2026-01-01&to=2026-01-31")
    expect(page.locator(".empty")).to_contain_text("没有匹配的记录")
    page.locator(".list-tools").get_by_role("link", name="清除").click()
    expect(page).to_have_url(re.compile(r"/execution/\?$"))

    # One is tried again at one click, several after a question.
    visitor.open(f"{LIST}?task=监控失败&status=4")
    row_of(page, failed[0]).get_by_role("button", name=f"重试 监控失败 #{failed[0]}").click()
    expect(page.locator("#toasts")).to_contain_text("“监控失败”已重新")
    for pk in failed[1:]:
        row_of(page, pk).locator("input.action-select").check()
    page.select_option("select[name=action]", "retry_selected")
    page.locator("[data-selection-bar] button").click()
    dialog = page.get_by_role("alertdialog")
    expect(dialog).to_contain_text("2")
    dialog.get_by_role("button", name="重试").click()
    expect(page.locator("#toasts")).to_contain_text("已发起 2 个执行")
    with stack.api() as api:
        wait_until(lambda: len(executions(api, bad)) == 6, 20, "three more")


def test_a_log_is_followed_searched_fetched_whole_and_taken_away(
    visitor: Visitor, stack: Stack, tmp_path: Path
):
    command = f"for n in $(seq {LINES}); do echo line $n; done; echo ERROR: the end; sleep 5; echo after"
    with stack.api() as api:
        task = shell_task(api, "监控日志", "0 0 1 1 *", command)
        pk = run(api, task)
        page = visitor.log_in()
        visitor.open(f"{LIST}{pk}/change/")
        log = page.locator(".log-view")
        follow = page.locator("[data-log=follow]")
        # It follows the end; whoever scrolls up stays there, and says when to go on.
        expect(follow).to_have_attribute("aria-pressed", "true")
        expect(log).to_contain_text("line 1")
        log.hover()
        page.mouse.wheel(0, -3000)
        expect(follow).to_have_attribute("aria-pressed", "false")
        expect(follow).to_contain_text("暂停")
        expect(page.locator("h1 .pill")).to_have_text("成功", timeout=20_000)
        page.wait_for_timeout(1500)  # the stored text comes once more
        expect(follow).to_have_attribute("aria-pressed", "false")
        follow.click()
        expect(follow).to_have_attribute("aria-pressed", "true")
        page.wait_for_function(AT_END)
        expect(follow).to_have_attribute("aria-pressed", "true")
        # Long lines wrap or do not.
        wrap = page.locator("[data-log=wrap]")
        wrap.click()
        expect(wrap).to_have_attribute("aria-pressed", "false")
        expect(log).not_to_have_class(re.compile(r"\bwrap\b"))

    # What the server keeps is the beginning; the host has all of it, which comes with its progress shown.
    visitor.open(f"{LIST}{pk}/change/")
    expect(page.locator("#log-note")).to_contain_text("KB")
    expect(log).not_to_contain_text("ERROR: the end")
    page.evaluate(
        """() => {
          const bar = document.getElementById("log-progress");
          window.shown = [];
          const note = () => window.shown.push([bar.hidden, bar.value]);
          new MutationObserver(note).observe(bar, { attributes: true });
        }"""
    )
    page.get_by_role("button", name="从主机获取完整日志").click()
    expect(page.locator("#log-note")).to_contain_text("来自主机的完整输出")
    expect(page.locator("#log-progress")).to_be_hidden()
    shown = page.evaluate("window.shown")
    assert [False, 100] in shown and shown[-1][0], shown
    expect(log.locator(".log-line")).to_have_count(LINES + 2)
    expect(log.locator(".log-line.trouble")).to_have_text("ERROR: the end")
    search = page.locator("[data-log=search]")
    search.fill("line 3999")
    expect(page.locator("[data-log=count]")).to_have_text("– / 1")
    search.press("Enter")
    expect(page.locator(".log-line.hit")).to_have_text("line 3999")
    expect(page.locator(".log-line.hit")).to_be_in_viewport()
    expect(page.locator("[data-log=count]")).to_have_text("1 / 1")

    whole = "".join(f"line {n}\n" for n in range(1, LINES + 1)) + "ERROR: the end\nafter\n"
    assert taken(page, "TXT", tmp_path) == whole
    facts = json.loads(taken(page, "JSON", tmp_path))
    assert (facts["status"], facts["exit_code"], facts["log"]["output"]) == ("SUCCESS", 0, whole)
    # Before it is fetched, the files have what the server keeps.
    visitor.open(f"{LIST}{pk}/change/")
    assert 9_000 < len(taken(page, "TXT", tmp_path)) < 11_000
    assert json.loads(taken(page, "JSON", tmp_path))["log"]["truncated"] is True


def taken(page: Page, kind: str, directory: Path) -> str:
    """What the download gives."""
    page.locator("[data-menu=log-menu]").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name=kind).click()
    path = directory / download.value.suggested_filename
    assert re.fullmatch(rf"exec_\w[\w.-]*\.{kind.lower()}", path.name), path.name
    download.value.save_as(path)
    return path.read_text()
