"""The console's pages of figures, reports and schedules, and their commands."""

import io
import re
from datetime import timedelta

import openpyxl
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from guardian.shortcuts import assign_perm

from executions_app.models import Execution
from executions_app.reports import building
from executions_app.reports.models import Report, ReportMail, ReportSchedule
from executions_app.selectors import span_of
from quartzflow.models import AuditEntry
from tests import people

from .conftest import DAY, NOON, bad, ok, report

pytestmark = pytest.mark.django_db
STATISTICS = "/console/executions_app/report/statistics/"
REPORTS = "/console/executions_app/report/"
SCHEDULES = "/console/executions_app/reportschedule/"
DAYS = {"from": "2026-03-01", "to": "2026-03-03"}
SCRIPT = {"x-requested-with": "fetch"}


def signed_in(user=None) -> Client:
    browser = Client()
    browser.force_login(user or people.admin())
    return browser


def links(page, text: str) -> list[str]:
    """Where the marks of this text lead."""
    found = re.findall(r'<a [^>]*?href="([^"]+)"[^>]*>([^<]*)', page.content.decode())
    return [url.replace("&amp;", "&") for url, words in found if words.strip() == text]


def test_every_mark_leads_to_the_executions_that_it_counts():
    web, task = people.group("web"), people.task("backup")
    ok(NOON, task=task, group_id=web.pk)
    bad(NOON, "agent_lost", task=task, host="db-1", group_id=web.pk)
    bad(NOON + DAY, task=people.task("other"), host="db-1")
    ok(NOON + 9 * DAY, task=task, group_id=web.pk)
    browser = signed_in()
    page = browser.get(STATISTICS, DAYS)
    assert page.context["figures"].total.total == 3
    for text, count in [("backup", 2), ("web", 2), ("db-1", 2), ("2026-03-02", 2)]:
        found = browser.get(links(page, text)[0])
        assert found.context["cl"].result_count == count, text
    # Names within other elements.
    whole = page.content.decode()
    reason = re.search(r'href="([^"]+failure_reason__exact=agent_lost[^"]*)"', whole)
    found = browser.get(reason.group(1).replace("&amp;", "&"))
    assert found.context["cl"].result_count == 1 and "客户端失联" in found.content.decode()
    column = re.search(r'<a class="column" href="([^"]+)" aria-label="2026-03-03: 1"', whole)
    assert browser.get(column.group(1).replace("&amp;", "&")).context["cl"].result_count == 1


@pytest.mark.parametrize(
    ("query_", "first", "last"),
    [
        ({}, 6, 0),
        ({"days": "1"}, 0, 0),
        ({"days": "30"}, 29, 0),
        ({"days": "9"}, 6, 0),
        ({"from": "2026-03-02"}, None, None),
    ],
)
def test_the_days_are_those_of_the_address(query_, first, last):
    asked = signed_in().get(STATISTICS, query_).context["asked"]
    today = timezone.localdate()
    if first is None:
        assert (str(asked.period.first), str(asked.period.last), asked.range) == (
            "2026-03-02",
            "2026-03-02",
            "",
        )
    else:
        assert (today - asked.period.first, today - asked.period.last) == (first * DAY, last * DAY)


@pytest.mark.parametrize(
    ("query_", "words"),
    [
        ({"from": "2026-03-02", "to": "2026-03-01"}, "结束日期不能早于开始日期"),
        ({"from": "2020-01-01", "to": "2026-03-01"}, "最多 400 天"),
        ({"from": "2026-99-01"}, "须为日期"),
        ({"from": "soon"}, "须为日期"),
        ({"task": "nothing"}, "没有名为 nothing 的任务"),
    ],
)
def test_an_address_that_means_nothing_says_so_and_shows_the_usual(query_, words):
    page = signed_in().get(STATISTICS, query_)
    assert words in page.content.decode() and page.context["asked"].range == "7"


def test_filters_and_folds():
    web, task = people.group("web"), people.task("backup")
    ok(NOON, task=task, group_id=web.pk)
    ok(NOON, host="db-1")
    browser = signed_in()
    for chosen, count in [
        ({"task": "backup"}, 1), ({"group": web.pk}, 1), ({"host": "db-1"}, 1), ({"group": "x"}, 2),
        ({"by": "week"}, 2),
    ]:  # fmt: skip
        page = browser.get(STATISTICS, {**DAYS, **chosen})
        assert page.context["figures"].total.total == count, chosen
    assert [line.name for line in page.context["days_table"].rows] == [
        "2026-03-01",
        "2026-03-02 – 2026-03-03",
    ]


def test_one_sees_the_figures_of_what_one_may_see():
    mine = people.task("mine")
    ok(NOON, task=mine)
    ok(NOON, task=people.task("clandestine"))
    assign_perm("tasks_app.view_task", people.stranger(), mine)
    page = signed_in(people.stranger()).get(STATISTICS, DAYS).content.decode()
    assert "mine" in page and "clandestine" not in page
    assert (
        "没有名为 clandestine 的任务"
        in signed_in(people.stranger()).get(STATISTICS, {"task": "clandestine"}).content.decode()
    )


def test_the_page_costs_the_same_whatever_it_shows():
    browser = signed_in()
    ok(NOON, task=people.task("first"), group_id=people.group().pk)
    browser.get(STATISTICS, DAYS)
    with CaptureQueriesContext(connection) as few:
        browser.get(STATISTICS, DAYS)
    for number in range(20):
        ok(NOON, task=people.task(f"job-{number}"), host=f"web-{number}", group_id=people.group().pk)
    with CaptureQueriesContext(connection) as many:
        browser.get(STATISTICS, DAYS)
    assert len(many) <= len(few) <= 32


def test_a_report_is_asked_for_on_the_page_watched_and_downloaded():
    ok(NOON, task=people.task("backup"))
    browser = signed_in()
    answer = browser.post(f"{REPORTS}build/", {**DAYS, "format": "xlsx", "dimension": ["day", "task"]})
    one = Report.objects.get()
    assert answer.url == f"{REPORTS}{one.pk}/change/"
    assert (one.dimensions, one.language, str(one.first), one.zone) == (
        ["day", "task"], "zh-hans", "2026-03-01", "Asia/Shanghai",
    )  # fmt: skip
    page = browser.get(answer.url).content.decode()
    assert 'data-every="700"' in page and "<progress" in page
    building.build_waiting()
    page = browser.get(answer.url).content.decode()
    assert "data-every" not in page and "backup" in page and "按主机" not in page
    file = browser.get(f"{REPORTS}{one.pk}/download/")
    content = b"".join(file.streaming_content)  # closes it, too
    assert file["Content-Disposition"] == 'attachment; filename="quartz-flow-20260301-20260303.xlsx"'
    assert openpyxl.load_workbook(io.BytesIO(content)).sheetnames == ["摘要", "按天", "按任务"]
    assert "no-store" in file["Cache-Control"] and file["X-Content-Type-Options"] == "nosniff"
    rows = browser.get(REPORTS)
    assert f"{REPORTS}{one.pk}/download/" in rows.content.decode()


@pytest.mark.parametrize(
    ("data", "status"), [({"format": "doc", "dimension": "day"}, 400), ({"format": "pdf"}, 400)]
)
def test_a_report_that_cannot_be_is_refused(data, status):
    assert signed_in().post(f"{REPORTS}build/", data, headers=SCRIPT).status_code == status
    assert signed_in().get(f"{REPORTS}build/").status_code == 405


def test_too_many_reports_at_once_are_refused_in_words():
    browser = signed_in()
    for _ in range(4):
        answer = browser.post(f"{REPORTS}build/", {"format": "pdf", "dimension": "day"}, headers=SCRIPT)
    assert answer.status_code == 409 and "已有 3 份报表正在生成" in answer.json()["message"]


def test_a_report_of_another_is_not_there():
    one = report()
    building.build_waiting()
    other = signed_in(people.stranger())
    assert other.get(REPORTS).status_code == 403
    assign_perm("tasks_app.view_task", people.stranger(), people.task())
    assert other.get(REPORTS).context["cl"].result_count == 0
    assert other.get(f"{REPORTS}{one.pk}/download/").status_code == 404
    assert other.get(f"{REPORTS}{one.pk}/change/").status_code == 404
    for verb in ("cancel", "again", "remove"):
        assert other.post(f"{REPORTS}{one.pk}/{verb}/", headers=SCRIPT).status_code == 404
    superuser = signed_in(people.admin("second"))
    assert superuser.get(f"{REPORTS}{one.pk}/change/").status_code == 200


def test_a_report_is_cancelled_built_again_and_deleted_from_its_menu():
    browser, one = signed_in(), report()
    page = browser.get(REPORTS).content.decode()
    assert f"{REPORTS}{one.pk}/cancel/" in page and f"{REPORTS}{one.pk}/remove/" not in page
    assert browser.post(f"{REPORTS}{one.pk}/remove/", headers=SCRIPT).status_code == 409
    assert browser.post(f"{REPORTS}{one.pk}/cancel/", headers=SCRIPT).json()["reload"]
    assert browser.post(f"{REPORTS}{one.pk}/cancel/", headers=SCRIPT).status_code == 409
    again = browser.post(f"{REPORTS}{one.pk}/again/", headers=SCRIPT).json()["url"]
    assert browser.get(again).status_code == 200
    assert browser.post(f"{REPORTS}{one.pk}/remove/", headers=SCRIPT).json()["url"] == REPORTS
    assert Report.objects.count() == 1
    assert browser.get(f"{REPORTS}{Report.objects.get().pk}/delete/").status_code == 302


def test_a_failure_is_on_the_page_with_its_reason():
    one = report(state="failed", error="No space left on device")
    page = signed_in().get(f"{REPORTS}{one.pk}/change/").content.decode()
    assert "No space left on device" in page and f"{REPORTS}{one.pk}/again/" in page
    assert signed_in().get(f"{REPORTS}{one.pk}/download/").status_code == 302
    assert signed_in().get(f"{REPORTS}{one.pk}/download/", headers=SCRIPT).status_code == 404


def test_figures_that_one_may_not_see_any_more_are_not_shown():
    viewer = people.stranger("viewer")
    viewer.groups.add(people.role("viewer"))
    ok(NOON, task=people.task("clandestine"))
    one = report(viewer)
    building.build_waiting()
    assert "clandestine" in signed_in(viewer).get(f"{REPORTS}{one.pk}/change/").content.decode()
    viewer.groups.clear()
    page = signed_in(viewer).get(f"{REPORTS}{one.pk}/change/").content.decode()
    assert "clandestine" not in page and "无权查看" in page


FORM = {
    "name": "日报", "is_enabled": "on", "days": "yesterday", "dimensions": ["day"], "format": "pdf", "language": "en",
    "recipients": "ops@example.com\nkim@example.com, lee@example.com", "every": "weekly", "weekday": "2",
    "month_day": "1", "hour": "9", "zone": "Asia/Shanghai",
}  # fmt: skip


def test_a_schedule_is_made_changed_sent_and_deleted_on_its_pages():
    browser, task = signed_in(), people.task("backup")
    assert browser.get(f"{SCHEDULES}add/").status_code == 200
    answer = browser.post(f"{SCHEDULES}add/", {**FORM, "task": "backup"})
    row = ReportSchedule.objects.get()
    assert answer.url == f"{SCHEDULES}{row.pk}/change/"
    assert (row.recipients, row.weekday, row.task_id, row.owner) == (
        ["ops@example.com", "kim@example.com", "lee@example.com"], 2, task.pk, people.admin(),
    )  # fmt: skip
    assert "每星期三 09:00" in browser.get(SCHEDULES).content.decode()
    browser.post(answer.url, {**FORM, "hour": "10"})
    row.refresh_from_db()
    assert (row.hour, row.task_id) == (10, None)
    assert browser.post(f"{SCHEDULES}{row.pk}/send/", headers=SCRIPT).json()["reload"]
    assert browser.post(f"{SCHEDULES}{row.pk}/send/", headers=SCRIPT).status_code == 409
    page = browser.get(answer.url).content.decode()
    assert 'data-every="2000"' in page and "手动发送" in page
    assert ReportMail.objects.get().report.days == "yesterday"
    assert browser.post(f"{SCHEDULES}{row.pk}/remove/", headers=SCRIPT).json()["url"] == SCHEDULES
    assert not ReportSchedule.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("recipients", "nobody"), ("task", "nothing"), ("name", ""), ("client_id", "nowhere"), ("hour", "99")],
)
def test_what_is_wrong_with_a_schedule_is_at_its_field(field, value):
    page = signed_in().post(f"{SCHEDULES}add/", {**FORM, field: value})
    assert page.status_code == 200 and list(page.context["form"].errors) == [field]
    assert not ReportSchedule.objects.exists()


def test_schedules_are_for_operators():
    viewer, row = people.stranger("viewer"), None
    viewer.groups.add(people.role("viewer"))
    signed_in().post(f"{SCHEDULES}add/", FORM)
    row = ReportSchedule.objects.get()
    assert signed_in(viewer).get(f"{SCHEDULES}add/").status_code == 403
    assert signed_in(viewer).get(SCHEDULES).status_code == 403
    assign_perm("executions_app.view_reportschedule", viewer, row)
    assert signed_in(viewer).get(f"{SCHEDULES}{row.pk}/change/").status_code == 200
    assert signed_in(viewer).post(f"{SCHEDULES}{row.pk}/change/", FORM).status_code == 403
    assert signed_in(viewer).post(f"{SCHEDULES}{row.pk}/send/", headers=SCRIPT).status_code == 403


def test_the_list_of_schedules_costs_the_same_however_long():
    browser = signed_in()
    browser.post(f"{SCHEDULES}add/", FORM)
    browser.get(SCHEDULES)
    with CaptureQueriesContext(connection) as few:
        browser.get(SCHEDULES)
    for number in range(8):
        browser.post(f"{SCHEDULES}add/", {**FORM, "name": f"report {number}"})
    for one in ReportSchedule.objects.all():
        ReportMail.objects.create(schedule=one, due_at=NOON)
    with CaptureQueriesContext(connection) as many:
        browser.get(SCHEDULES)
    assert len(many) <= len(few) + 1  # the newest mails


def test_the_list_of_reports_costs_the_same_however_long():
    browser = signed_in()
    report()
    browser.get(REPORTS)
    with CaptureQueriesContext(connection) as few:
        browser.get(REPORTS)
    for _ in range(8):
        report()
    with CaptureQueriesContext(connection) as many:
        browser.get(REPORTS)
    assert len(many) <= len(few)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2026-03-01..2026-03-01", 24), ("2026-03-01..2026-03-02", 48), ("2026-03-01T10:00..2026-03-01T11:00", 1),
        ("2026-03-01T10:00Z..2026-03-01T12:00Z", 2),
        ("", None), ("today", None), ("..", None), ("2026-03-01..", None), ("2026-99-01..2026-99-02", None),
    ],
)  # fmt: skip
def test_spans_of_time_in_an_address(text, hours):
    found = span_of(text)
    assert (found and found[1] - found[0]) == (hours and timedelta(hours=hours))


def test_executions_are_listed_for_a_span_that_is_shown():
    ok(NOON)
    ok(NOON + DAY)
    page = signed_in().get("/console/executions_app/execution/", {"time": "2026-03-02..2026-03-02"})
    assert page.context["cl"].result_count == 1
    assert "2026-03-02 – 2026-03-02" in page.content.decode()
    assert Execution.objects.count() == 2


# --- the command ---


def test_a_report_is_built_from_the_shell(tmp_path):
    ok(NOON, task=people.task("backup"))
    people.admin()
    out = io.StringIO()
    file = tmp_path / "march.xlsx"
    arguments = ["--from", "2026-03-01", "--to", "2026-03-03", "--zone", "Asia/Shanghai", "--language", "en"]
    call_command("report", str(file), *arguments, "--parts", "day,task", "--task", "backup", stdout=out)
    assert out.getvalue().strip() == f"{file}: 1 executions from 2026-03-01 to 2026-03-03"
    assert openpyxl.load_workbook(file).sheetnames == ["Summary", "By day", "By task"]
    assert AuditEntry.objects.latest("pk").action == "report.build"
    call_command("report", str(tmp_path / "all.pdf"), "--days", "last_month", stdout=out)
    assert (tmp_path / "all.pdf").read_bytes()[:4] == b"%PDF"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x.doc"], "format"),
        (["x.pdf", "--parts", "moon"], "moon"),
        (["x.pdf", "--host", "nowhere"], "client_id"),
        (["/nowhere/x.xlsx"], "No such file"),
        (["x.pdf", "--from", "soon", "--to", "2026-03-01"], "from"),
    ],
)
def test_what_the_command_cannot_build_is_one_line(arguments, words, tmp_path, monkeypatch):
    people.admin()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=words):
        call_command("report", *arguments)
