"""axe-core on every page, light and dark, Chinese and English; and the keyboard alone."""

import re
from functools import partial
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.template.loader import render_to_string
from django.utils import translation
from playwright.sync_api import Page, Route, expect

from tests.ui.conftest import Visitor
from tests.ui.console_pages import PAGES

pytestmark = pytest.mark.xdist_group("pages")  # with an installation of their own: they take half of the time

# Only what is wrong is told of, and style sheets are not fetched once more: no rule of these needs either.
QUICKLY = {"resultTypes": ["violations"], "preload": False}
RULES = {**QUICKLY, "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


def findings(page: Page, rules: dict[str, Any] = RULES) -> list[str]:
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    result = page.evaluate("(options) => axe.run(document, options)", rules)
    return [
        f"{violation['id']}: {node['target']} {node['html'][:120]} {node['failureSummary'][:200]}"
        for violation in result["violations"]
        for node in violation["nodes"]
    ]


# What a colour scheme can change; a page's structure is the same in both.
BY_COLOUR = {**QUICKLY, "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
TABLET = {"width": 820, "height": 1180}
DESK = {"width": 1366, "height": 768}


def looked_at(page: Page, language: str) -> list[str]:
    """What is wrong with the page: light and dark, in its language, and as wide as a tablet."""
    assert page.locator("html").get_attribute("lang") == language
    found = findings(page) + foreign(page.evaluate(WORDS), language)
    put_on(page, "dark")
    found += [f"dark: {text}" for text in findings(page, BY_COLOUR)]
    put_on(page, "light")
    page.set_viewport_size(TABLET)
    found += page.evaluate(TOO_WIDE)
    page.set_viewport_size(DESK)
    return found


def put_on(page: Page, scheme: str) -> None:
    """Change the colours, and wait until they are there: at once, or each element inherits those of a moment before."""
    page.evaluate(AT_ONCE)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.wait_for_selector(f"html[data-theme={scheme}]", state="attached")


# Style sheets made so are no matter of the security policy.
AT_ONCE = """() => {
  if (document.adoptedStyleSheets.length) return;
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("*, *::before, *::after { transition: none !important; animation: none !important }");
  document.adoptedStyleSheets = [sheet];
}"""


# Where the page itself can be scrolled sideways: what sticks out of it.
TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const all = [...document.querySelectorAll("body *")];
  const out = all.filter((element) => element.getBoundingClientRect().right > width + 1);
  return [`wider than ${width}: ` + out.slice(0, 3).map((element) => element.outerHTML.slice(0, 120)).join(" | ")];
}"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", ["zh-hans", "en"])
def test_every_page_is_accessible_in_one_language_and_fits_a_tablet(
    visitor: Visitor, language: str, objects: dict[str, Any]
):
    visitor.speak(language)
    found = {"log-in": looked_at(visitor.open("/console/login/"), language)}
    page = visitor.log_in()
    for name, path in PAGES.items():
        visitor.open(path.format(**objects))
        page.wait_for_selector("html.js")
        found[name] = looked_at(page, language)
    # What opens over a page.
    visitor.open(PAGES["tasks"])
    page.locator("td.field-row_menu button").first.click()
    found["row menu"] = looked_at(page, language)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("#shortcuts-dialog:not([hidden])")
    found["shortcuts"] = looked_at(page, language)
    page.keyboard.press("Escape")
    # What only a form leads to.
    visitor.open(PAGES["roles"])
    page.locator("input.action-select").first.check()
    page.select_option("select[name=action]", "delete_selected")
    page.click("[data-selection-bar] button[type=submit]")
    page.wait_for_selector("input[name=post]", state="attached")
    found["deleting several roles"] = looked_at(page, language)
    page.evaluate("document.getElementById('logout-form').requestSubmit()")
    page.wait_for_selector("body.login-page")
    found["logged out"] = looked_at(page, language)
    wrong = [f"{name}: {text}" for name, texts in found.items() for text in texts]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("status", "template"), [(403, "403.html"), (403, "403_csrf.html"), (404, "404.html"), (500, "500.html")]
)
def test_pages_of_errors_are_accessible_too(visitor: Visitor, status: int, template: str):
    """As the server sends them; what leads to each is tested without a browser."""
    page = visitor.page
    for language in ("zh-hans",) if status == 500 else ("zh-hans", "en"):  # the last has both in one
        with translation.override(language):
            body = render_to_string(template)
        page.unroute_all()
        page.route("**/error/", partial(Route.fulfill, status=status, content_type="text/html", body=body))
        page.goto(f"{visitor.base}/error/")
        assert page.locator("main").count() == 1
        assert looked_at(page, language) == [], language
    visitor.complaints.clear()  # of the status


def test_the_api_is_described_under_the_security_policy(visitor: Visitor):
    page = visitor.log_in()
    visitor.open("/api/schema/swagger/")
    page.wait_for_selector("#api-docs .opblock-tag")
    wrong = findings(page)
    assert not wrong, "\n".join(wrong)
    assert visitor.complaints == []
    visitor.open("/api/schema/redoc/")
    page.wait_for_selector("#api-docs h1")
    # Its maker's logo, which is refused: nothing is fetched from elsewhere.
    assert [text for text in visitor.complaints if "cdn.redoc.ly" not in text] == []
    visitor.complaints.clear()


def foreign(words: list[str], language: str) -> list[str]:
    """Those that are of the other language: Chinese characters, or three English words in a row."""
    other = "[\u4e00-\u9fff]" if language == "en" else r"[A-Za-z]{3,} [A-Za-z]{2,} [A-Za-z]{2,}"
    return [word for word in words if re.search(other, word)]


# Texts of the page that are not somebody's data: what is a name, an id, code or of another language is left out.
WORDS = """() => {
  const skip = "code, pre, .mono, .cell-main, .cell-sub, .tag, .truncate, .user-name, .crumbs, h1, .log-view, select, "
    + "[lang]:not(html), script, style, noscript, textarea, kbd, td, .prose ul";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const words = [];
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    if (text && !walker.currentNode.parentElement.closest(skip)) words.push(text);
  }
  for (const element of document.querySelectorAll("[aria-label], [placeholder], [title]")) {
    if (element.closest(skip) || element.closest(".menu-host")) continue;
    for (const name of ["aria-label", "placeholder", "title"]) words.push(element.getAttribute(name) || "");
  }
  return words;
}"""


def test_the_keyboard_alone_makes_runs_reads_and_cancels(visitor: Visitor):
    page = visitor.log_in()
    page.wait_for_load_state()  # the side bar is there before the script that listens to keys
    press = page.keyboard.press
    press("g")
    press("2")
    expect(page.locator("h1")).to_contain_text("任务")
    page.wait_for_load_state()  # the heading is there before the script that listens to keys
    press("n")
    page.wait_for_selector("#task-form")
    reach(page, "#id_name")
    page.keyboard.type("只用键盘")
    reach(page, "#id_cron_expr")
    page.keyboard.type("0 0 1 1 *")
    reach(page, "#id_config_command")
    page.keyboard.type("echo keys; sleep 60")
    press("Escape")  # leaves the editor with the next Tab
    reach(page, "input[name=group_ids]")
    press("Space")
    reach(page, ".submit-row button")
    press("Enter")
    expect(page.locator("#toasts")).to_contain_text("已保存")

    page.wait_for_load_state()
    press("/")
    page.keyboard.type("只用键盘")
    press("Enter")
    page.wait_for_url("**q=**")
    reach(page, "td.field-row_menu button")
    press("Enter")
    press("ArrowDown")
    press("ArrowUp")
    press("Enter")  # the first item: run now
    expect(page.locator("#toasts a")).to_be_visible()
    reach(page, "#toasts a")
    press("Enter")
    expect(page.locator(".log-view")).to_contain_text("keys")
    expect(page.locator("h1 .pill")).to_have_text("执行中")
    page.wait_for_load_state()
    reach(page, ".page-actions [data-while=live]")
    press("Enter")
    dialog = page.get_by_role("alertdialog")
    expect(dialog).to_be_visible()
    reach(page, "#confirm-dialog [data-dialog-ok]")
    press("Enter")
    expect(page.locator("h1 .pill")).to_have_text("已取消")


def reach(page, selector: str) -> None:
    """Press Tab until the element has the focus, which must be visible then."""
    for _ in range(120):
        if page.evaluate("(s) => document.activeElement && document.activeElement.matches(s)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {selector}")


def test_a_menu_gives_the_focus_back_and_a_dialog_keeps_it(visitor: Visitor, objects: dict[str, Any]):
    page = visitor.log_in()
    visitor.open(PAGES["task"].format(**objects))
    button = page.locator(".page-actions [data-menu]")
    button.focus()
    page.keyboard.press("ArrowDown")
    expect(button).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("?")
    for _ in range(5):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#shortcuts-dialog') !== null")
    page.keyboard.press("Escape")
    expect(page.locator("#shortcuts-dialog")).to_be_hidden()


def test_shortcuts_can_be_switched_off(visitor: Visitor):
    page = visitor.log_in()
    visitor.open("/console/profile/")
    page.uncheck("#shortcuts")
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#toasts")).to_contain_text("设置已保存")
    page.keyboard.press("?")
    expect(page.locator("#shortcuts-dialog")).to_be_hidden()
    page.check("#shortcuts")
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#toasts")).to_contain_text("设置已保存")
    page.keyboard.press("?")
    expect(page.locator("#shortcuts-dialog")).to_be_visible()
