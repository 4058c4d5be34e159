"""Users, roles and rights on single objects: given by one, seen to work by another, written down for all."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.services import Stack
from tests.ui.conftest import Visitor
from tests.ui.doing import python
from tests.ui.test_task_pages import TASKS, make

NAMES = ("lin", "night")


@pytest.fixture
def another(chrome: Browser, visitor: Visitor) -> Iterator[Visitor]:
    """A window of somebody else; what its pages complain about is looked at together with the first one's."""
    context = chrome.new_context(viewport={"width": 1366, "height": 768}, locale="en-US")
    context.set_default_timeout(15_000)
    page = context.new_page()
    other = Visitor(page, visitor.base, visitor.password, visitor.complaints)
    page.on("pageerror", lambda error: visitor.complaints.append(f"{page.url}: {error}"))
    yield other
    context.close()


@pytest.fixture
def nobody_left(stack: Stack) -> Iterator[None]:
    yield
    python(
        stack,
        "from django.contrib.auth.models import Group, User\n"
        f"User.objects.filter(username__in={NAMES!r}).delete(); Group.objects.filter(name__in={NAMES!r}).delete()",
    )


def save(page: Page) -> None:
    page.locator(".submit-row button").first.click()
    expect(page.locator("#toasts")).to_be_visible()


def test_rights_are_given_and_work(
    visitor: Visitor, another: Visitor, stack: Stack, nobody_left: None, tmp_path: Path
):
    task, other_task = (
        make(stack, "共享的任务", executor_config={"command": "echo shared"}),
        make(stack, "别人的任务"),
    )
    page = visitor.log_in()
    # A role with nothing but the right to add tasks, and a user who has it.
    visitor.open("/console/auth/group/add/")
    page.fill("#id_name", "night")
    page.locator(".permission-group", has_text="任务").first.get_by_label("新建", exact=True).check()
    save(page)
    visitor.open("/console/auth/user/add/")
    page.fill("#id_username", "lin")
    page.fill("#id_password1", visitor.password)
    page.fill("#id_password2", visitor.password + "x")
    page.locator(".submit-row button").first.click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#id_username")).to_have_value("lin")  # what was typed is kept
    page.fill("#id_password1", visitor.password)
    page.fill("#id_password2", visitor.password)
    save(page)
    page.get_by_role("checkbox", name="night").check()
    save(page)

    # With that alone one sees no task; the right on one brings that one.
    theirs = another.log_in("lin")
    sidebar = theirs.locator("#sidebar")
    expect(sidebar).not_to_contain_text("审计日志")
    expect(sidebar.get_by_role("link", name="任务", exact=True)).to_have_count(0)
    visitor.open(f"{TASKS}{task}/detail/")
    page.locator(".page-actions [data-menu]").click()
    page.get_by_role("menuitem", name="权限").click()
    page.select_option("#new-holder", label="lin")
    page.get_by_role("group", name="可以").get_by_label("执行", exact=True).check()
    page.get_by_role("group", name="可以").get_by_label("查看日志").check()
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#toasts")).to_contain_text("权限已保存")
    box = page.locator(".rights-table tbody tr", has_text="lin")
    expect(box.get_by_label("lin: 查看", exact=True)).to_be_checked()  # comes along
    expect(box.get_by_label("lin: 修改")).not_to_be_checked()

    another.open("/console/")
    sidebar.get_by_role("link", name="任务", exact=True).click()
    expect(theirs.locator("#result_list tbody tr")).to_have_count(1)
    expect(theirs.get_by_role("link", name="新建任务")).to_be_visible()
    expect(theirs.get_by_role("switch")).to_have_count(0)
    theirs.get_by_role("link", name="共享的任务").click()
    theirs.get_by_role("button", name="立即执行").click()
    theirs.locator("#toasts").get_by_role("link", name="查看").click()
    expect(theirs.locator("h1 .pill")).to_have_text("成功")
    expect(theirs.locator(".log-view")).to_contain_text("shared")
    expect(theirs.get_by_role("button", name="取消", exact=True)).to_have_count(0)
    for path in (f"{TASKS}{other_task}/detail/", "/console/auth/user/", f"{TASKS}{task}/rights/"):
        answer = theirs.goto(visitor.base + path)
        assert answer is not None and answer.status in (403, 404), path

    # The role gets another right, the user loses theirs.
    page.select_option("#new-holder", label="night")
    page.get_by_role("group", name="可以").get_by_label("修改").check()
    box.get_by_label("lin: 执行", exact=True).uncheck()
    box.get_by_label("lin: 查看日志").uncheck()
    page.get_by_role("button", name="保存").click()
    expect(page.locator(".rights-table tbody tr")).to_have_count(2)
    another.open(TASKS)
    expect(theirs.get_by_role("switch")).to_have_count(1)
    theirs.locator("#result_list [data-menu]").click()
    expect(theirs.get_by_role("menuitem", name="编辑")).to_be_visible()
    expect(theirs.get_by_role("menuitem", name="立即执行")).to_have_count(0)

    # All of it is in the audit log, which is filtered and taken away.
    visitor.open("/console/quartzflow/auditentry/")
    page.locator("details.filter summary", has_text="操作").first.click()
    page.get_by_role("link", name="权限 · 已授予").click()
    page.fill("#searchbar", "共享的任务")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=**")
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(5)
    expect(page.locator("#result_list")).to_contain_text("trigger_task")
    page.get_by_role("button", name="导出").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="CSV").click()
    path = tmp_path / "audit.csv"
    download.value.save_as(path)
    assert re.fullmatch(r"audit-[\d-]+\.csv", download.value.suggested_filename)
    lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    assert len(lines) == 1 + 5
    assert all("permission.grant" in line for line in lines[1:])
