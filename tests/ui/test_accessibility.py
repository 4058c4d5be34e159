"""axe-core on every page, light and dark, Chinese and English; and the keyboard alone."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.services import Stack
from tests.ui.conftest import Visitor

PAGES = {
    "overview": "/console/",
    "overview of a month": "/console/?days=30&by=week",
    "statistics": "/console/executions_app/report/statistics/",
    "built reports": "/console/executions_app/report/",
    "report": "/console/executions_app/report/{report}/change/",
    "scheduled reports": "/console/executions_app/reportschedule/",
    "scheduled report": "/console/executions_app/reportschedule/{report_schedule}/change/",
    "new scheduled report": "/console/executions_app/reportschedule/add/",
    "tasks": "/console/tasks_app/task/",
    "no task found": "/console/tasks_app/task/?q=nothing-is-called-this",
    "new task": "/console/tasks_app/task/add/",
    "one task": "/console/tasks_app/task/{task}/detail/",
    "task": "/console/tasks_app/task/{task}/change/",
    "versions of a task": "/console/tasks_app/task/{task}/versions/",
    "importing tasks": "/console/tasks_app/task/import/",
    "executions": "/console/executions_app/execution/",
    "execution": "/console/executions_app/execution/{execution}/change/",
    "run": "/console/executions_app/execution/runs/{run}/",
    "log search": "/console/executions_app/executionlog/",
    "found logs": "/console/executions_app/executionlog/?q=ERROR&time=today",
    "nothing found in logs": "/console/executions_app/executionlog/?q=nobody+prints+this&status=bad",
    "nonsense in log search": "/console/executions_app/executionlog/?q=x&from=y",
    "replays": "/console/executions_app/replay/",
    "starting a replay": "/console/executions_app/replay/of/{task}/",
    "calendars": "/console/tasks_app/calendar/",
    "calendar": "/console/tasks_app/calendar/{calendar}/change/",
    "new calendar": "/console/tasks_app/calendar/add/",
    "scheduler": "/console/executions_app/missedfiring/scheduler/",
    "missed firings": "/console/executions_app/missedfiring/",
    "groups": "/console/groups_app/group/",
    "group": "/console/groups_app/group/{group}/change/",
    "hosts between groups": "/console/groups_app/group/hosts/",
    "hosts": "/console/groups_app/client/",
    "host": "/console/groups_app/client/{client}/change/",
    "adding a host": "/console/groups_app/enrollmenttoken/add/",
    "tokens": "/console/groups_app/enrollmenttoken/",
    "assignment rules": "/console/groups_app/assignmentrule/",
    "assignment rule": "/console/groups_app/assignmentrule/{rule}/change/",
    "applying rules": "/console/groups_app/assignmentrule/apply/",
    "alerts": "/console/executions_app/alert/",
    "alert rules": "/console/executions_app/alertrule/",
    "alert rule": "/console/executions_app/alertrule/{alertrule}/change/",
    "new alert rule": "/console/executions_app/alertrule/add/?task={task}",
    "alert channels": "/console/executions_app/alertchannel/",
    "alert channel": "/console/executions_app/alertchannel/{channel}/change/",
    "new alert channel": "/console/executions_app/alertchannel/add/",
    "silences": "/console/executions_app/alertsilence/",
    "silence": "/console/executions_app/alertsilence/{silence}/change/",
    "new silence": "/console/executions_app/alertsilence/add/",
    "alert messages": "/console/executions_app/alertdelivery/",
    "users": "/console/auth/user/",
    "user": "/console/auth/user/{user}/change/",
    "new user": "/console/auth/user/add/",
    "user's password": "/console/auth/user/{user}/password/",
    "deleting a user": "/console/auth/user/{user}/delete/",
    "history of a user": "/console/auth/user/{user}/history/",
    "roles": "/console/auth/group/",
    "audit log": "/console/quartzflow/auditentry/",
    "new role": "/console/auth/group/add/",
    "own settings": "/console/profile/",
    "system configuration": "/console/quartzflow/systemsetting/",
    "secrets": "/console/quartzflow/secret/",
    "new secret": "/console/quartzflow/secret/add/",
    "own password": "/console/password_change/",
}
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


@pytest.fixture(scope="module")
def objects(stack: Stack) -> dict[str, int | str]:
    """Ids of one object of each kind; the execution has failed and printed something."""
    with stack.api() as api:
        group = api.get("/groups").json()["data"][0]["id"]
        task = {
            "name": "accessible", "executor_type": 1, "executor_config": {"command": "echo ERROR: no; exit 3"},
            "cron_expr": "0 0 1 1 *", "group_ids": [group],
        }  # fmt: skip
        created = api.post("/tasks", json=task).json()["data"]["id"]
        robot = {"name": "accessible", "kind": "wecom", "is_enabled": False, "config": {"token": "12345678"}}
        channel = api.post("/alert-channels", json=robot).json()["data"]["id"]
        told = {
            "name": "accessible", "kind": "failure", "scope": "tasks", "task_ids": [created], "channel_ids": [channel],
        }  # fmt: skip
        alert_rule = api.post("/alert-rules", json=told).json()["data"]["id"]
        window = {
            "name": "accessible", "weekdays": [0], "time_begins": "00:00", "time_ends": "23:00", "scope": "tasks",
            "task_ids": [created],
        }  # fmt: skip
        silence = api.post("/alert-silences", json=window).json()["data"]["id"]
        fired = api.post(f"/tasks/{created}/trigger", json={}).json()["data"]
        days = {"name": "accessible", "timezone": "UTC", "rules": {"working_days": "week"}}
        calendar = api.post("/calendars", json=days).json()["data"]["id"]
        rule = {"name": "accessible", "hostname": "nobody", "group_id": group, "is_enabled": False}
        ruled = api.post("/assignment-rules", json=rule).json()["data"]["id"]
        report = api.post("/reports", json={"format": "xlsx"}).json()["data"]["id"]
        mailed = {"name": "accessible", "recipients": ["ops@example.com"]}
        schedule = api.post("/report-schedules", json=mailed).json()["data"]["id"]
        api.post(f"/report-schedules/{schedule}/send")
        # Something runs after it, so that the drawings are there.
        after = {
            **task,
            "name": "accessible after",
            "dependencies": [{"task_id": created, "condition": "always"}],
        }
        api.post("/tasks", json=after)
    return {
        "task": created,
        "execution": fired["execution_id"],
        "run": fired["run_id"],
        "calendar": calendar,
        "alertrule": alert_rule,
        "channel": channel,
        "silence": silence,
        "rule": ruled,
        "report": report,
        "report_schedule": schedule,
        "group": group,
        "client": 1,
        "user": 1,
    }


def findings(page) -> list[str]:
    result = Axe().run(page, options=RULES)
    return [
        f"{violation['id']}: {node['target']} {node['html'][:120]} {node['failureSummary'][:200]}"
        for violation in result.response["violations"]
        for node in violation["nodes"]
    ]


LOOKS = [
    pytest.param({"color_scheme": "light"}, "zh-hans", id="light-zh"),
    pytest.param({"color_scheme": "dark"}, "zh-hans", id="dark-zh"),
    pytest.param({"color_scheme": "light"}, "en", id="light-en"),
    pytest.param({"color_scheme": "dark"}, "en", id="dark-en"),
]


@pytest.mark.parametrize(("visitor", "language"), LOOKS, indirect=["visitor"])
def test_every_page_is_accessible_and_in_one_language(
    visitor: Visitor, language: str, objects: dict[str, int | str]
):
    visitor.speak(language)
    found = {"log-in": findings(visitor.open("/console/login/"))}
    page = visitor.log_in()
    for name, path in PAGES.items():
        visitor.open(path.format(**objects))
        page.wait_for_selector("html.js")
        assert page.locator("html").get_attribute("lang") == language
        found[name] = findings(page) + foreign(page.evaluate(WORDS), language)
    # What opens over a page.
    visitor.open(PAGES["tasks"])
    page.locator("td.field-row_menu button").first.click()
    found["row menu"] = findings(page)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("#shortcuts-dialog:not([hidden])")
    found["shortcuts"] = findings(page)
    assert {name: list_ for name, list_ in found.items() if list_} == {}


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


def test_the_keyboard_alone_makes_runs_and_reads(visitor: Visitor):
    page = visitor.log_in()
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
    page.keyboard.type("echo keys")
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
    expect(page.locator("h1 .pill")).to_have_text("成功")


def reach(page, selector: str) -> None:
    """Press Tab until the element has the focus, which must be visible then."""
    for _ in range(120):
        if page.evaluate("(s) => document.activeElement && document.activeElement.matches(s)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {selector}")


def test_a_menu_gives_the_focus_back_and_a_dialog_keeps_it(visitor: Visitor, objects: dict[str, int | str]):
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
