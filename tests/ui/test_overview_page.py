"""The overview: live figures, ranges, and that every mark leads to the list behind it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.services import SUCCESS, Stack, executions, shell_task, wait_until
from tests.ui.conftest import Visitor

COUNT = re.compile(r'<span class="count num">(\d+)')
# Every mark that says a number: its address, the number, and what it is of.
MARKS = """() => {
  const lines = [...document.querySelectorAll(".bars-line[href]")].map((link) => [
    link.href, Number(link.querySelector(".num").textContent), link.querySelector(".bars-name").textContent,
  ]);
  const columns = [...document.querySelectorAll("a.column")].map((link) => {
    const label = link.getAttribute("aria-label");
    return [new URL(link.getAttribute("href"), location.href).href, Number(label.split(": ").pop()), label];
  });
  return [...lines, ...columns];
}"""


@pytest.fixture(scope="module")
def history(stack: Stack) -> Iterator[int]:
    """Two that succeeded, one that failed, and a task that waits for a file."""
    with stack.api() as api:
        good, bad = (
            shell_task(api, "总览成功", "0 0 1 1 *", "true"),
            shell_task(api, "总览失败", "0 0 1 1 *", "exit 3"),
        )
        for task in (good, good, bad):
            assert api.post(f"/tasks/{task}/trigger", json={}).status_code == 200
        wait_until(
            lambda: (
                [row["status"] for task in (good, bad) for row in executions(api, task)]
                == [SUCCESS, SUCCESS, 4]
            ),
            30,
            "three ends",
        )
        at = datetime.now(UTC) + timedelta(minutes=20)
        soon = [shell_task(api, f"总览将执行 {n}", f"{at.minute} {at.hour} * * *", "true") for n in (1, 2)]
        for task in soon:
            api.patch(f"/tasks/{task}", json={"timezone": "UTC"}).raise_for_status()
        yield shell_task(api, "总览长任务", "0 0 1 1 *", "sleep 60")
        for task in soon:
            api.post(f"/tasks/{task}/disable").raise_for_status()


def figure(page: Page, label: str) -> int:
    return int(re.findall(r"\d+", page.locator(".kpi", has_text=label).locator("strong").inner_text())[0])


def test_figures_follow_what_happens(visitor: Visitor, stack: Stack, history: int):
    page = visitor.log_in()
    page.evaluate("window.stillTheSamePage = true")
    running, today = figure(page, "正在执行"), figure(page, "今日执行")
    with stack.api() as api:
        run = api.post(f"/tasks/{history}/trigger", json={}).json()["data"]
        expect(page.locator("#kpi-running")).to_have_text(str(running + 1))
        expect(page.locator("#latest li").first).to_contain_text("总览长任务")
        expect(page.locator("#latest li").first).to_contain_text("执行中")
        api.post(f"/executions/{run['execution_id']}/cancel")
        expect(page.locator("#kpi-running")).to_have_text(str(running))
        expect(page.locator("#latest li").first).to_contain_text("已取消")
    expect(page.locator(".kpi", has_text="今日执行").locator("strong")).to_have_text(str(today + 1))
    expect(page.locator(".kpi", has_text="在线主机")).to_contain_text(re.compile(r"1\s*/ 1"))
    expect(page.locator(".kpi", has_text="已启用任务")).to_contain_text("调度器运行中")
    assert page.evaluate("window.stillTheSamePage === true")


@pytest.mark.parametrize("range_", ["", "?days=7", "?days=30&by=week"])
def test_every_mark_leads_to_the_list_behind_it(visitor: Visitor, history: int, range_: str):
    page = visitor.log_in()
    visitor.open(f"/console/{range_}")

    def count(url: str) -> int:
        answer = page.request.get(url)
        assert answer.status == 200, url
        if url.endswith("/detail/"):
            return 1  # a minute with one firing leads to its task
        found = COUNT.search(answer.text())
        assert found, url
        return int(found[1])

    cards = page.locator("a.kpi").evaluate_all("(links) => links.map((link) => [link.href, link.innerText])")
    numbers = [[int(number) for number in re.findall(r"\d+", text)] for _url, text in cards]
    listed = [count(url) for url, _text in cards]
    total, failed, timed_out = numbers[1]
    succeeded = numbers[2][-1]
    wanted = [sum(numbers[0]), total, failed + timed_out, succeeded, numbers[4][0], numbers[5][0]]
    assert listed == wanted, cards

    marks = page.evaluate(MARKS)
    names = " ".join(text for _url, _number, text in marks)
    for part in ("总览成功", "总览失败", "default", "local", "退出码", "总览将执行 1, 总览将执行 2"):
        assert part in names, part
    assert [text for url, number, text in marks if count(url) != number] == []


def test_ranges_are_chosen_quickly_or_day_by_day(visitor: Visitor, history: int):
    page = visitor.log_in()
    ranges = page.get_by_role("navigation", name="统计范围")
    for label, days in (("最近 7 天", "7"), ("最近 30 天", "30"), ("今天", "1")):
        ranges.get_by_role("link", name=label).click()
        expect(page).to_have_url(re.compile(rf"days={days}\b"))
        expect(ranges.locator("[aria-current]")).to_have_text(label)
    page.locator(".page-actions summary").click()
    page.fill("#period-from", "2026-01-01")
    page.fill("#period-to", "2026-01-31")
    page.locator(".page-actions form button").click()
    expect(ranges.locator("[aria-current]")).to_have_count(0)
    expect(page.locator(".page-actions summary")).to_contain_text("2026-01-01")
    expect(page.locator(".board")).to_contain_text("这段时间没有执行")
