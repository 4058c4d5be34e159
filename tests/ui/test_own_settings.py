"""What is one's own: theme, language, time zone and shortcuts, kept for the next time."""

import re

import pytest
from playwright.sync_api import expect

from tests.services import SUCCESS, Stack, shell_task
from tests.ui.conftest import Visitor
from tests.ui.doing import account
from tests.ui.test_monitoring_pages import run

EXECUTION = "/console/executions_app/execution/"


@pytest.fixture(scope="module")
def somebody(stack: Stack) -> str:
    """Who may see everything, and whose settings are nobody else's."""
    account(stack, "somebody", "viewer")
    return "somebody"


def test_theme_and_language_are_kept_for_the_next_time(visitor: Visitor, somebody: str):
    page = visitor.log_in(somebody)
    html = page.locator("html")
    expect(html).to_have_attribute("data-theme", "light")
    page.get_by_role("button", name="主题").click()
    with page.expect_response(lambda response: response.url.endswith("/preferences/")):
        page.get_by_role("menuitemradio", name="深色").click()
    expect(html).to_have_attribute("data-theme", "dark")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 150
    page.locator(".language-switch button").click()
    expect(html).to_have_attribute("lang", "en")
    expect(page.locator("h1")).to_have_text("Overview")
    # In another browser, too: they are the account's.
    context = page.context.browser.new_context(viewport={"width": 1366, "height": 768})  # type: ignore[union-attr]
    elsewhere = Visitor(context.new_page(), visitor.base, visitor.password).log_in(somebody)
    expect(elsewhere.locator("html")).to_have_attribute("data-theme", "dark")
    expect(elsewhere.locator("h1")).to_have_text("Overview")
    context.close()
    page.locator(".language-switch button").click()
    expect(page.locator("h1")).to_have_text("概览")
    page.get_by_role("button", name="主题").click()
    page.get_by_role("menuitemradio", name="跟随系统").click()
    expect(html).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(html).to_have_attribute("data-theme", "dark")


def test_times_are_those_of_ones_zone(visitor: Visitor, stack: Stack, somebody: str):
    with stack.api() as api:
        pk = run(api, shell_task(api, "时区", "0 0 1 1 *", "true"), SUCCESS)
    page = visitor.log_in(somebody)
    shown = {}
    for zone, offset in (("Asia/Shanghai", 8), ("America/Phoenix", -7)):
        visitor.open("/console/profile/")
        page.select_option("#timezone", label=zone)
        page.get_by_role("button", name="保存").click()
        expect(page.locator("#toasts")).to_contain_text("设置已保存")
        expect(page.locator(".topbar .zone")).to_contain_text(zone)
        visitor.open(f"{EXECUTION}{pk}/change/")
        time = page.locator("[data-fact=start] time")
        shown[zone] = time.inner_text(), offset
        # As a script writes it when it changes, and as the server did.
        stamp = time.get_attribute("datetime")
        by_script = page.evaluate(
            "async (stamp) => (await import('/static/js/time.js')).formatTime(stamp)", stamp
        )
        assert by_script == shown[zone][0]
    hours = "(text) => Date.parse(text.replace(' ', 'T') + 'Z') / 3600000"
    early, late = (page.evaluate(hours, shown[zone][0]) for zone in ("America/Phoenix", "Asia/Shanghai"))
    assert round(late - early, 3) == 15


def test_shortcuts_are_listed_and_do_what_they_say(visitor: Visitor, somebody: str):
    page = visitor.log_in(somebody)
    page.wait_for_load_state()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("dt").first).to_be_visible()
    listed = dict(
        zip(dialog.locator("dt").all_inner_texts(), dialog.locator("dd").all_inner_texts(), strict=True)
    )
    assert (listed["任务"], listed["执行监控"]) == ("g2", "g3")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    for keys, title in (("g3", "执行监控"), ("g2", "任务")):
        for key in keys:
            page.keyboard.press(key)
        expect(page.locator("h1")).to_contain_text(title)
        page.wait_for_load_state()
    page.keyboard.press("/")
    expect(page.locator("#searchbar")).to_be_focused()
    page.keyboard.type("?g3")  # while one types they are letters
    expect(page.locator("#searchbar")).to_have_value("?g3")
    expect(dialog).to_be_hidden()
