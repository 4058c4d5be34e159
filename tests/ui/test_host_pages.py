"""Groups and hosts: a host that joins, goes and comes back; hosts between groups by mouse, finger and keys."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.services import Stack
from tests.ui.conftest import Visitor
from tests.ui.doing import Agent, group_of, hosts, python
from tests.ui.test_accessibility import reach

LIST = "/console/groups_app/client/"
BOARD = "/console/groups_app/group/hosts/"
# What a page is marked with, to see that it was not loaded anew.
MARK, MARKED = "window.stillTheSamePage = true", "window.stillTheSamePage === true"


@pytest.fixture
def second(stack: Stack, tmp_path: Path) -> Iterator[Agent]:
    """The agent of another host, which is gone afterwards, as if it had never been there."""
    agent = Agent(tmp_path / "home")
    yield agent
    agent.stop()
    python(stack, "from groups_app.models import Client\nClient.objects.filter(client_id='second').delete()")


def test_a_host_joins_is_watched_and_is_shut_out(visitor: Visitor, stack: Stack, second: Agent):
    page = visitor.log_in()
    # The token's command, and the host that comes by it.
    visitor.open(LIST)
    page.get_by_role("link", name="添加主机").first.click()
    page.select_option("#id_group", label="default")
    page.fill("#id_note", "机房 2")
    page.get_by_role("button", name="生成令牌").click()
    expect(page.locator("#joined-count")).to_have_text("0 / 1")
    expect(page.locator("#joined-waiting")).to_be_visible()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("[data-copy=command-2]").click()
    expect(page.locator("[data-copy=command-2]")).to_have_text("已复制")
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == page.locator("#command-2").inner_text()
    second.join(command, "second")
    second.start()
    expect(page.locator("#toasts")).to_contain_text("“second”已连接", timeout=20_000)
    expect(page.locator("#joined-list")).to_contain_text("second")
    expect(page.locator("#joined-count")).to_have_text("1 / 1")
    expect(page.locator("#joined-waiting")).to_be_hidden()

    # Lists of groups and of hosts follow it.
    groups = page.context.new_page()
    groups.goto(f"{visitor.base}/console/groups_app/group/")
    of_group = groups.locator("#result_list tbody tr", has_text="default")
    expect(of_group).to_contain_text("2 / 2")
    groups.evaluate(MARK)
    page.locator("#joined-list a").click()
    facts = page.locator("[data-part=facts]")
    expect(page.locator("h1 .pill")).to_have_text("在线")
    for words in ("default", "127.0.0.1", "最后心跳", "配置", "最新"):
        expect(facts).to_contain_text(words)
    page.evaluate(MARK)
    soon = 8_000  # ms: pages ask again every three seconds at most, and the machine may be busy
    second.stop()
    expect(page.locator("h1 .pill")).to_have_text("离线", timeout=soon)
    expect(of_group).to_contain_text("1 / 2", timeout=soon)
    second.start()
    expect(page.locator("h1 .pill")).to_have_text("在线", timeout=soon)
    expect(of_group).to_contain_text("2 / 2", timeout=soon)
    assert page.evaluate(MARKED) and groups.evaluate(MARKED)

    # It is shut out, at once and for good, after a question.
    page.locator(".page-actions [data-menu]").click()
    page.get_by_role("menuitem", name="吊销").click()
    page.get_by_role("alertdialog").get_by_role("button", name="吊销").click()
    expect(page.locator("h1 .pill")).to_have_text("已吊销")
    expect(page.locator("#toasts")).to_contain_text("“second”已吊销")
    expect(of_group).to_contain_text("1 / 2")
    groups.close()


def card(page: Page, name: str) -> Locator:
    return page.locator(".host-card", has_text=name)


def column(page: Page, name: str) -> Locator:
    return page.locator(".host-column", has=page.get_by_role("heading", name=name, exact=True))


def in_column(page: Page, name: str, *wanted: str) -> None:
    """Just these hosts are there, now and after the page is loaded anew."""
    expect(column(page, name).locator("[data-count]")).to_have_text(str(len(wanted)))
    assert sorted(column(page, name).locator(".host-card strong").all_inner_texts()) == list(wanted)
    page.goto(page.url)
    expect(column(page, name).locator(".host-card strong")).to_have_text(list(wanted))


@pytest.fixture
def four(stack: Stack) -> Iterator[None]:
    """web-1 to web-4 in the group left, none in right."""
    with stack.api() as api:
        left, _right = group_of(api, "left"), group_of(api, "right")
    with hosts(stack, *({"client_id": f"web-{n}", "group_id": left} for n in range(1, 5))):
        yield


@pytest.mark.parametrize("visitor", [{"has_touch": True}], indirect=True)
def test_hosts_are_moved_by_mouse_finger_and_keys(visitor: Visitor, four: None):
    page = visitor.log_in()
    visitor.open(BOARD)
    in_column(page, "left", "web-1", "web-2", "web-3", "web-4")
    # By mouse: one, then those that are chosen together with the one that is dragged.
    card(page, "web-4").drag_to(column(page, "right").locator(".host-list"))
    expect(page.locator("#toasts")).to_contain_text("已将 1 台主机移到“right”")
    in_column(page, "right", "web-4")
    for name in ("web-2", "web-3"):
        card(page, name).get_by_role("checkbox").check()
    expect(page.locator("#chosen-count")).to_have_text("(2)")
    card(page, "web-3").drag_to(column(page, "right").locator(".host-list"))
    expect(page.locator("#toasts")).to_contain_text("已将 2 台主机移到“right”")
    expect(page.locator("#chosen-count")).to_have_text("")
    expect(column(page, "right").locator("[data-count]")).to_have_text("3")
    in_column(page, "left", "web-1")

    # By finger: held for a moment, or the list would only scroll.
    drag_by_finger(page, card(page, "web-2"), column(page, "left"))
    expect(page.locator("#toasts")).to_contain_text("已将 1 台主机移到“left”")
    in_column(page, "left", "web-1", "web-2")

    # By keys alone: found, chosen, moved.
    page.wait_for_load_state()
    page.keyboard.press("/")
    page.keyboard.type("web-4")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=web-4**")
    expect(page.locator(".host-card")).to_have_count(1)
    reach(page, "#move-group")
    page.keyboard.type("left")
    choose_by_keys(page, "left")
    reach(page, ".host-card input")
    page.keyboard.press("Space")
    expect(page.locator("#chosen-count")).to_have_text("(1)")
    page.keyboard.press("Shift+Tab")
    while not page.evaluate("document.activeElement.matches('.move-tools button')"):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("已将 1 台主机移到“left”")
    visitor.open(BOARD)
    in_column(page, "left", "web-1", "web-2", "web-4")


def choose_by_keys(page: Page, label: str) -> None:
    """Arrows until the select that has the focus shows it."""
    for _ in range(20):
        if page.evaluate("document.activeElement.selectedOptions[0].text") == label:
            return
        page.keyboard.press("ArrowDown")
    raise AssertionError(f"no {label}")


def drag_by_finger(page: Page, what: Locator, where: Locator) -> None:
    touch = page.context.new_cdp_session(page)
    begin, end = what.bounding_box(), where.bounding_box()
    assert begin and end
    x, y = begin["x"] + begin["width"] / 2, begin["y"] + begin["height"] / 2
    to_x, to_y = end["x"] + end["width"] / 2, end["y"] + end["height"] / 2

    def send(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": px, "y": py} for px, py in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    send("touchStart", (x, y))
    page.wait_for_timeout(300)
    for part in range(1, 11):
        send("touchMove", (x + (to_x - x) * part / 10, y + (to_y - y) * part / 10))
        page.wait_for_timeout(20)
    send("touchEnd")


def test_a_quic_flow_client_waits_for_an_approval(visitor: Visitor, stack: Stack):
    waiting = {"client_id": "old-1", "kind": "legacy", "approval": "pending", "ip": "192.0.2.9"}
    with hosts(stack, waiting):
        page = visitor.log_in()
        visitor.open(f"{LIST}?q=old-1")
        row = page.locator("#result_list tbody tr")
        expect(row).to_contain_text("待审批")
        row.get_by_role("link", name="old-1").click()
        form = page.locator("form.approve")
        expect(form).to_contain_text("192.0.2.9")
        form.locator("select").select_option(label="default")
        form.get_by_role("button", name="批准").click()
        expect(page.locator("#toasts")).to_contain_text("已批准")
        expect(page.locator("form.approve")).to_have_count(0)
        expect(page.locator("h1 .pill")).to_have_text("离线")
        expect(page.locator("[data-part=facts]")).to_contain_text("default")


def test_a_group_keeps_what_was_typed_until_it_is_right(visitor: Visitor, stack: Stack):
    page = visitor.log_in()
    visitor.open("/console/groups_app/group/add/")
    page.fill("#id_name", "default")
    page.fill("#id_description", "机房 3 的主机")
    page.fill("#id_tags", "bj,rack3")
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_role("alert")).to_contain_text("1 个字段")
    expect(page.locator("#id_description")).to_have_value("机房 3 的主机")
    expect(page.locator("#id_tags")).to_have_value("bj,rack3")
    page.fill("#id_name", "机房三")
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#toasts")).to_contain_text("“机房三”已保存")
    visitor.open("/console/groups_app/group/?q=rack3")
    row = page.locator("#result_list tbody tr")
    expect(row).to_contain_text(re.compile(r"机房三.*0 / 0", re.S))
    row.locator("[data-menu]").click()
    page.get_by_role("menuitem", name="删除").click()
    page.get_by_role("alertdialog").get_by_role("button", name="删除").click()
    expect(page.locator("#toasts")).to_contain_text("已删除")
