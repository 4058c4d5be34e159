"""Log search in the browser: from a text to its line in the log."""

import re

from playwright.sync_api import expect

from executions_app.log_search import SHORTEST
from tests.services import SUCCESS, Stack, executions, shell_task, wait_until
from tests.ui.conftest import Visitor

SEARCH = "/console/executions_app/executionlog/"


def test_a_text_is_found_and_leads_to_its_line(stack: Stack, visitor: Visitor):
    command = "for n in $(seq 300); do echo \"line $n: all is well\"; done; echo '<b>the drive is full</b>'; echo end"
    with stack.api() as api:
        task = shell_task(api, "searched", "0 0 1 1 *", command)
        api.post(f"/tasks/{task}/trigger", json={}).raise_for_status()
        wait_until(lambda: [row["status"] for row in executions(api, task)] == [SUCCESS], 30, "the run's end")
        pk = executions(api, task)[0]["id"]
        wait_until(
            lambda: (
                not api.get("/logs/search", params={"q": "drive is full"}).json()["data"]["index"]["waiting"]
            ),
            20,
            "the index",
        )
    page = visitor.log_in()
    page.locator(f"#sidebar a[href='{SEARCH}']").click()
    expect(page.locator("#find-q")).to_be_focused()
    page.fill("#find-task", "searched")
    page.fill("#find-q", "DRIVE is full")
    page.keyboard.press("Enter")
    expect(page).to_have_url(
        re.compile(r"\?q=DRIVE\+is\+full&task=searched$")
    )  # and nothing that was left empty
    line = page.locator(".found-lines a")
    expect(line).to_have_count(1)
    expect(line.locator("mark")).to_have_text("drive is full")
    expect(line.locator("code")).to_have_text("<b>the drive is full</b>")
    line.click()
    expect(page).to_have_url(re.compile(rf"/execution/{pk}/change/\?find=DRIVE\+is\+full&line=301#log$"))
    hit = page.locator(".log-line.hit")
    expect(hit).to_have_text("<b>the drive is full</b>")
    expect(hit).to_be_in_viewport()
    expect(page.locator("[data-log=search]")).to_have_value("DRIVE is full")
    # What one does then is one's own.
    page.fill("[data-log=search]", "line 300")
    expect(page.locator(".log-line mark")).to_have_text("line 300")
    page.keyboard.press("Enter")
    expect(page.locator(".log-line.hit")).to_contain_text("line 300")


def test_a_chosen_time_and_ones_own_exclude_each_other(visitor: Visitor):
    page = visitor.log_in()
    visitor.open(SEARCH)
    page.fill("#find-from", "2026-01-31T08:00")
    page.select_option("#find-time", "today")
    expect(page.locator("#find-from")).to_have_value("")
    page.fill("#find-to", "2026-01-31T08:00")
    expect(page.locator("#find-time")).to_have_value("")
    page.fill("#find-q", "x" * (SHORTEST - 1))
    page.keyboard.press("Enter")
    expect(page.locator("#find-q-error")).to_be_visible()
    expect(page.locator("#find-to")).to_have_value("2026-01-31T08:00")
