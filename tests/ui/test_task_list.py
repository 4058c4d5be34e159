"""The list of tasks: what one finds in it, switches in it, and does to many; and a form that keeps what was typed."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.services import Stack, executions, wait_until
from tests.ui.conftest import Visitor
from tests.ui.doing import group_of
from tests.ui.test_monitoring_pages import choose
from tests.ui.test_task_pages import TASKS, make, new_task

NAMES = ("清单甲", "清单乙", "清单丙")


@pytest.fixture(scope="module")
def three(stack: Stack) -> list[int]:
    """甲 is a shell task, 乙 asks by HTTP, 丙 is switched off and of another group."""
    with stack.api() as api:
        other = group_of(api, "listed")
    http = {"executor_type": 2, "executor_config": {"url": "http://127.0.0.1:9/"}}
    third = make(stack, NAMES[2], group_ids=[other], description="每天一次")
    with stack.api() as api:
        api.post(f"/tasks/{third}/disable").raise_for_status()
    return [make(stack, NAMES[0]), make(stack, NAMES[1], **http), third]


def row(page: Page, name: str) -> Locator:
    return page.locator("#result_list tbody tr", has_text=name)


def names(page: Page) -> list[str]:
    return page.locator("#result_list .field-name_cell .cell-main").all_inner_texts()


def test_tasks_are_found_sorted_and_filtered(visitor: Visitor, three: list[int]):
    page = visitor.log_in()
    visitor.open(TASKS)
    page.keyboard.press("/")
    page.keyboard.type("清单")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=**")
    head = page.get_by_role("columnheader", name="任务名称")
    head.get_by_role("link").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    first = names(page)
    assert sorted(first) == sorted(NAMES)
    head.get_by_role("link").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert names(page) == first[::-1]
    for title, label, left in (
        ("状态", "已禁用", ["清单丙"]), ("执行器", "HTTP", ["清单乙"]), ("分组", "listed", ["清单丙"]),
    ):  # fmt: skip
        visitor.open(f"{TASKS}?q=清单")
        choose(page, title, label)
        expect(page.locator("details.filter.active")).to_contain_text(label)
        assert names(page) == left
    visitor.open(f"{TASKS}?q=每天一次")
    assert names(page) == ["清单丙"]


def test_a_task_is_switched_at_one_click_and_its_menu_has_everything(visitor: Visitor, three: list[int]):
    page = visitor.log_in()
    visitor.open(f"{TASKS}?q=清单")
    switch = row(page, "清单丙").get_by_role("switch")
    expect(switch).to_have_attribute("aria-checked", "false")
    switch.click()
    expect(page.locator("#toasts")).to_contain_text("“清单丙”已启用")
    expect(switch).to_have_attribute("aria-checked", "true")
    expect(row(page, "清单丙").locator(".field-next_cell time")).to_be_visible()
    # Switching off is asked about: nothing fires any more.
    switch.click()
    page.get_by_role("alertdialog").locator("[data-dialog-cancel]").click()
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    page.get_by_role("alertdialog").get_by_role("button", name="禁用").click()
    expect(page.locator("#toasts")).to_contain_text("“清单丙”已禁用")
    expect(switch).to_have_attribute("aria-checked", "false")
    # The menu of PRD §7.1, and more.
    row(page, "清单甲").locator("[data-menu]").click()
    items = row(page, "清单甲").get_by_role("menuitem").all_inner_texts()
    wanted = {"查看", "立即执行", "禁用", "编辑", "删除", "执行历史", "复制", "版本历史", "权限"}
    assert wanted <= {item.strip() for item in items}
    page.get_by_role("menuitem", name="执行历史").click()
    expect(page.locator(".chosen, .empty").first).to_be_visible()


def test_many_are_run_switched_off_and_deleted_after_a_question(visitor: Visitor, stack: Stack):
    some = [make(stack, f"批量{n}") for n in "甲乙"]
    page = visitor.log_in()

    def batch(action: str, button: str) -> None:
        visitor.open(f"{TASKS}?q=批量")
        expect(page.locator("[data-selection-bar]")).to_have_class(re.compile("idle"))
        page.locator("#action-toggle").check()
        expect(page.locator("[data-selection-bar]")).not_to_have_class(re.compile("idle"))
        page.select_option("select[name=action]", action)
        page.locator("[data-selection-bar] button").click()
        dialog = page.get_by_role("alertdialog")
        expect(dialog).to_contain_text("2")
        dialog.get_by_role("button", name=button).click()

    batch("run_selected", "立即执行")
    expect(page.locator("#toasts")).to_contain_text("已发起 2 个执行")
    for name in "甲乙":  # the states come in by themselves
        expect(row(page, f"批量{name}").locator(".last-execution")).to_contain_text("成功", timeout=20_000)
    batch("disable_selected", "禁用")
    expect(page.locator("#toasts")).to_contain_text("已禁用 2 个任务")
    expect(page.get_by_role("switch", checked=False)).to_have_count(2)
    batch("delete_selected", "删除")
    expect(page.locator("#toasts")).to_contain_text("已删除 2 个任务")
    expect(page.locator(".empty")).to_be_visible()
    with stack.api() as api:
        wait_until(lambda: [len(executions(api, pk)) for pk in some] == [1, 1], 10, "their history")


def test_a_form_that_is_not_right_keeps_what_was_typed(visitor: Visitor, three: list[int]):
    visitor.log_in()
    page = new_task(visitor, "清单甲")  # there is one already
    page.fill("#id_description", "写了很久的说明")
    page.fill("#id_cron_expr", "0 3 * * 1-5")
    page.fill("#id_config_command", "echo one\necho two")
    page.fill("#id_timeout", "77")
    page.get_by_role("checkbox", name=re.compile("^default")).check()
    page.on("dialog", lambda dialog: dialog.accept())
    # As without scripts: past what the page checks by itself.
    page.evaluate("document.getElementById('task-form').submit()")
    expect(page.get_by_role("alert")).to_contain_text("1 个字段")
    expect(page.locator("[data-field=name] .errorlist")).to_be_visible()
    for field, value in (
        ("name", "清单甲"), ("description", "写了很久的说明"), ("cron_expr", "0 3 * * 1-5"),
        ("config_command", "echo one\necho two"), ("timeout", "77"),
    ):  # fmt: skip
        expect(page.locator(f"#id_{field}")).to_have_value(value)
    expect(page.get_by_role("checkbox", name=re.compile("^default"))).to_be_checked()
    page.fill("#id_name", "清单丁")
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#toasts")).to_contain_text("“清单丁”已保存")
