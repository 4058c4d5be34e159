"""Assignment rules in the browser: a preview while one writes, an order by the mouse and by keys alone."""

from playwright.sync_api import expect

from tests.ui.conftest import Visitor

RULES = "/console/groups_app/assignmentrule/"


OURS = ("first", "second", "third")  # other tests share this installation


def names(page) -> list[str]:
    return [name for name in page.locator(".rule .cell-main").all_inner_texts() if name in OURS]


def is_saved(response) -> bool:
    return response.request.method == "POST" and response.ok


def handle(page, name):
    return page.locator(".rule", has_text=name).locator(".rule-handle")


def test_rules_are_written_with_a_preview_and_put_in_order(visitor: Visitor):
    page = visitor.log_in()
    for name, hostname in (("first", "nobody-*"), ("second", "*"), ("third", "(web|db)-*")):
        visitor.open(f"{RULES}add/")
        page.fill("#id_name", name)
        page.fill("#id_hostname", hostname)
        preview = page.locator("#preview-text")
        expect(preview).to_contain_text("1 台" if hostname == "*" else "0 台")
        page.fill("#id_cidr", "192.0.2.0/24")
        expect(preview).to_contain_text("0 台")
        page.fill("#id_cidr", "")
        page.click(".submit-row button[type=submit]")
        page.wait_for_selector("#rule-list")
    assert names(page) == ["first", "second", "third"]
    handle(page, "second").focus()
    with page.expect_response(is_saved):
        page.keyboard.press("ArrowUp")
    expect(page.locator(".toast").last).to_be_visible()
    expect(handle(page, "second")).to_be_focused()
    visitor.open(RULES)
    assert names(page) == ["second", "first", "third"]
    with page.expect_response(is_saved):
        handle(page, "third").drag_to(handle(page, "second"))
    visitor.open(RULES)
    assert names(page) == ["third", "second", "first"]
    visitor.open(f"{RULES}apply/")
    for name in OURS:
        visitor.open(RULES)
        page.locator(".rule", has_text=name).locator("[data-menu]").click()
        page.locator(".rule", has_text=name).locator(".menu .danger").click()
        page.click("#confirm-dialog [data-dialog-ok]")
        expect(page.locator(".rule", has_text=name)).to_have_count(0)
