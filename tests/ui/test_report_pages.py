"""From the figures to a file, and to a mail, in a browser."""

import re

import openpyxl
from playwright.sync_api import expect

from tests.services import Stack
from tests.ui.conftest import Visitor

STATISTICS = "/console/executions_app/report/statistics/"


def test_figures_lead_to_executions_and_to_a_file(visitor: Visitor, stack: Stack, tmp_path):
    with stack.api() as api:
        group = api.get("/groups").json()["data"][0]["id"]
        task = {
            "name": "报表任务", "executor_type": 1, "executor_config": {"command": "echo done"},
            "cron_expr": "0 0 1 1 *", "group_ids": [group],
        }  # fmt: skip
        created = api.post("/tasks", json=task).json()["data"]["id"]
        fired = api.post(f"/tasks/{created}/trigger", json={}).json()["data"]["execution_id"]
    page = visitor.log_in()
    visitor.open(f"/console/executions_app/execution/{fired}/change/")
    expect(page.locator("h1 .pill")).to_have_text("成功")

    visitor.open(STATISTICS)
    page.fill(".figure-filters input[name=task]", "报表任务")
    page.locator(".figure-filters button").click()
    expect(page.locator(".kpi strong").first).to_have_text("1")
    # A column of the chart leads to its executions.
    page.locator(".chart a.column").click()
    expect(page.locator("h1 .count")).to_have_text("1")
    expect(page.locator("td.field-task_cell")).to_contain_text("报表任务")

    page.go_back()
    page.locator(".build > summary").click()
    page.get_by_role("checkbox", name="按主机").uncheck()
    page.locator(".build button[value=xlsx]").click()
    # The page follows what the worker does, without being loaded anew.
    expect(page).to_have_url(re.compile(r"/report/\d+/change/$"))
    expect(page.locator("h1 .pill")).to_have_text("完成")
    expect(page.locator("[data-part=figures]")).to_contain_text("报表任务")
    with page.expect_download() as download:
        page.get_by_role("link", name="下载").click()
    path = tmp_path / "report.xlsx"
    download.value.save_as(path)
    assert re.fullmatch(r"quartz-flow-\d{8}-\d{8}\.xlsx", download.value.suggested_filename)
    book = openpyxl.load_workbook(path)
    assert "按主机" not in book.sheetnames
    assert [cell.value for cell in book["按任务"]["A"]] == ["任务", "报表任务"]


def test_a_scheduled_report_is_made_and_sent_by_hand(visitor: Visitor):
    page = visitor.log_in()
    visitor.open("/console/executions_app/reportschedule/add/")
    page.fill("#id_name", "每周报表")
    page.fill("#id_recipients", "ops@example.com")
    expect(page.locator("[data-field=weekday]")).to_be_hidden()
    page.get_by_text("每周", exact=True).click()
    expect(page.locator("[data-field=weekday]")).to_be_visible()
    page.select_option("#id_weekday", "4")
    page.get_by_role("button", name="保存").click()
    expect(page.locator("#toasts")).to_contain_text("已保存")
    page.get_by_role("button", name="立即发送").click()
    # There is no mail server: the page says so once the report is built, by itself.
    expect(page.locator("[data-part=mails]")).to_contain_text("未配置邮件服务器", timeout=30_000)
    visitor.open("/console/executions_app/reportschedule/")
    expect(page.locator("#result_list")).to_contain_text("每星期五 08:00")
