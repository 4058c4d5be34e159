"""Reports on their way: asked for, claimed, built, taken over, cancelled, downloaded, forgotten."""

import os
from datetime import timedelta

import openpyxl
import pytest
from django.db import DatabaseError
from django.utils import timezone
from guardian.shortcuts import assign_perm, remove_perm

from executions_app.reports import actions, building, selectors
from executions_app.reports.choices import ReportState
from executions_app.reports.declared import AT_ONCE, KEPT_DAYS
from executions_app.reports.models import Report
from executions_app.tasks import build_reports, forget_old_reports
from quartzflow import system_settings
from quartzflow.errors import Conflict, InvalidInput, NotAllowed, NotFound
from quartzflow.models import AuditEntry
from tests import people

from .conftest import NOON, bad, ok, report

pytestmark = pytest.mark.django_db
ASKED = {"from": "2026-03-01", "to": "2026-03-03", "zone": "Asia/Shanghai"}


def content(user, one: Report) -> bytes:
    with actions.do_download_report(user, one) as file:
        return file.read()


def fresh(one: Report) -> Report:
    return Report.objects.get(pk=one.pk)


@pytest.mark.parametrize("kind", ["xlsx", "pdf"])
def test_a_report_is_asked_for_built_and_downloaded(kind):
    ok(NOON, task=people.task("backup"))
    asked = actions.do_request_report(people.admin(), {**ASKED, "format": kind})
    assert (asked.state, selectors.has_file(asked)) == ("waiting", False)
    build_reports()
    done = fresh(asked)
    assert (done.state, done.percent, done.error, done.lease, done.attempts) == ("done", 100, "", None, 1)
    assert done.figures["total"]["success"] == 1
    found = content(people.admin(), done)
    assert len(found) == done.size and found[:2] == {"xlsx": b"PK", "pdf": b"%P"}[kind]
    assert done.file_name == f"quartz-flow-20260301-20260303.{kind}"
    assert sorted(path.name for path in selectors.directory().iterdir()) == [f"{done.pk}-1.{kind}"]
    names = list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))
    assert names[-2:] == ["report.request", "report.download"]
    build_reports()
    assert fresh(asked).attempts == 1


@pytest.mark.parametrize("kind", ["xlsx", "pdf"])
def test_a_file_is_for_the_servers_account_alone(kind, monkeypatch):
    ok(NOON, task=people.task("backup"))
    selectors.directory().mkdir(parents=True, mode=0o755)
    modes = []
    write = building.WRITERS[kind]

    def watched(figures, report, path):
        modes.append(path.stat().st_mode & 0o777)
        write(figures, report, path)

    monkeypatch.setitem(building.WRITERS, kind, watched)
    one = report(format=kind)
    before = os.umask(0)
    try:
        building.build_waiting()
    finally:
        os.umask(before)
    assert modes == [0o600]  # while it is written, too
    assert selectors.file_of(fresh(one)).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"days": "sometimes"}, "days"),
        ({"format": "docx"}, "format"),
        ({"dimensions": []}, "dimensions"),
        ({"dimensions": ["moon"]}, "dimensions"),
        ({"dimensions": "day"}, "dimensions"),
        ({"from": "2026-03-01"}, "to"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "to"),
        ({"from": "2020-01-01", "to": "2026-03-01"}, "to"),
        ({"from": "soon", "to": "2026-03-01"}, "from"),
        ({"from": "2026-13-01", "to": "2026-03-01"}, "from"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": 5}, "zone"),
        ({"language": "fr"}, "language"),
        ({"task_id": 10**9}, "task_id"),
        ({"task_id": "1"}, "task_id"),
        ({"group_id": True}, "group_id"),
        ({"client_id": "nowhere"}, "client_id"),
        ({"client_id": 5}, "client_id"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_asked_for_names_the_field(data, field):
    with pytest.raises(InvalidInput) as wrong:
        actions.do_request_report(people.admin(), data)
    assert list(wrong.value.errors) == [field]
    assert not Report.objects.exists()


def test_a_report_is_of_what_its_owner_may_see():
    mine, other = people.task("mine"), people.task("other")
    ok(NOON, task=mine)
    ok(NOON, task=other)
    person = people.stranger()
    with pytest.raises(InvalidInput):
        actions.do_request_report(person, {**ASKED, "task_id": other.pk})
    assign_perm("tasks_app.view_task", person, mine)
    asked = actions.do_request_report(person, ASKED)
    building.build_waiting()
    done = fresh(asked)
    assert (done.seen, done.figures["total"]["success"]) == ([mine.pk], 1)
    book = openpyxl.load_workbook(selectors.file_of(done))
    assert [cell.value for cell in book.worksheets[2]["A"]][1:] == ["mine"]
    assert content(person, done)[:2] == b"PK"
    with pytest.raises(NotFound):
        actions.do_download_report(people.stranger("other"), done)
    assert content(people.admin(), done)[:2] == b"PK"
    remove_perm("tasks_app.view_task", person, mine)
    with pytest.raises(NotAllowed):
        actions.do_download_report(person, done)
    mine.delete()  # nothing hides it any more
    assert content(person, done)[:2] == b"PK"


def test_who_no_longer_sees_everything_may_not_have_what_was_everything():
    viewer = people.stranger("viewer")
    viewer.groups.add(people.role("viewer"))
    asked = actions.do_request_report(viewer, ASKED)
    building.build_waiting()
    assert fresh(asked).seen is None
    assert content(viewer, fresh(asked))
    viewer.groups.clear()
    viewer = type(viewer).objects.get(pk=viewer.pk)
    with pytest.raises(NotAllowed):
        actions.do_download_report(viewer, fresh(asked))


def test_a_claimed_report_is_nobody_elses_until_its_lease_has_run_out():
    asked = report()
    now = timezone.now()
    first = building.claim(now)
    assert (first.pk, first.attempts, fresh(asked).state) == (asked.pk, 1, "building")
    assert building.claim(now + building.LEASE / 2) is None
    second = building.claim(now + building.LEASE + timedelta(seconds=1))
    assert (second.pk, second.attempts) == (asked.pk, 2)
    # The first was not dead, only slow: it changes nothing any more.
    assert not building.build(first)
    assert (fresh(asked).state, fresh(asked).attempts) == ("building", 2)
    assert building.build(second)
    assert (fresh(asked).state, selectors.has_file(fresh(asked))) == ("done", True)
    assert sorted(path.name for path in selectors.directory().iterdir()) == [f"{asked.pk}-2.xlsx"]


def test_a_report_that_kills_its_workers_is_given_up():
    asked = report()
    now = timezone.now()
    for number in range(building.ATTEMPTS):
        assert building.claim(now + number * 2 * building.LEASE) is not None
    assert building.claim(now + 100 * building.LEASE) is None
    assert (fresh(asked).state, fresh(asked).error) == ("failed", "生成它的工作进程已中断，请重试。")


def test_only_a_few_are_built_at_once_in_the_whole_system():
    for _ in range(building.SYSTEM_WIDE + 1):
        report()
    assert [building.claim() is not None for _ in range(building.SYSTEM_WIDE + 1)] == [True, True, False]


def test_a_cancelled_report_stops_at_its_next_step(monkeypatch):
    asked = report()
    claimed = building.claim()
    actions.do_cancel_report(people.admin(), asked)
    assert not building.build(claimed)
    assert (fresh(asked).state, list(selectors.directory().glob("*"))) == ("cancelled", [])
    with pytest.raises(Conflict):
        actions.do_cancel_report(people.admin(), asked)
    # Cancelled while the file was written.
    late = report()
    claimed = building.claim()
    write = building.WRITERS["xlsx"]

    def slow(*args):
        write(*args)
        actions.do_cancel_report(people.admin(), late)

    monkeypatch.setitem(building.WRITERS, "xlsx", slow)
    assert not building.build(claimed)
    assert (fresh(late).state, list(selectors.directory().glob("*"))) == ("cancelled", [])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (DatabaseError("gone"), "数据库没有响应"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (KeyError("x"), "出错了"),
    ],
)
def test_a_failure_is_told_in_words_and_can_be_tried_again(monkeypatch, fault, words):
    def broken(*args):
        raise fault

    monkeypatch.setitem(building.WRITERS, "xlsx", broken)
    asked = report()
    assert building.build_waiting() == 0
    assert fresh(asked).state == "failed" and words in fresh(asked).error
    monkeypatch.undo()
    again = actions.do_build_again(people.admin(), fresh(asked))
    assert building.build_waiting() == 1
    assert (fresh(again).state, again.pk != asked.pk, again.first) == ("done", True, asked.first)


def test_pdf_without_its_libraries_says_what_to_install(monkeypatch):
    from executions_app.reports import pdf

    def missing():
        raise pdf.Unavailable("libpango")

    monkeypatch.setattr(pdf, "_weasyprint", missing)
    asked = report(format="pdf")
    building.build_waiting()
    assert (fresh(asked).state, fresh(asked).error) == ("failed", "libpango")


def test_one_has_only_so_many_open_and_kept(monkeypatch):
    person = people.stranger()
    for _ in range(AT_ONCE.value):
        actions.do_request_report(person, ASKED)
    with pytest.raises(Conflict):
        actions.do_request_report(person, ASKED)
    actions.do_request_report(people.admin(), ASKED)
    system_settings.assume({"reports_at_once": AT_ONCE.value + 1})
    actions.do_request_report(person, ASKED)
    monkeypatch.setattr(actions, "MOST_KEPT", 4)
    Report.objects.update(state=ReportState.DONE)
    with pytest.raises(Conflict):
        actions.do_build_again(person, Report.objects.filter(owner=person)[0])


def test_a_report_is_deleted_with_its_file(django_capture_on_commit_callbacks):
    asked = report()
    with pytest.raises(Conflict):
        actions.do_delete_report(people.admin(), asked)
    building.build_waiting()
    path = selectors.file_of(fresh(asked))
    assert path.is_file()
    with pytest.raises(NotFound):
        actions.do_delete_report(people.stranger(), asked)
    with django_capture_on_commit_callbacks(execute=True):
        actions.do_delete_report(people.admin(), fresh(asked))
    assert not path.exists() and not Report.objects.exists()


def test_a_file_that_is_gone_is_told(tmp_path):
    asked = report()
    with pytest.raises(NotFound):
        actions.do_download_report(people.admin(), asked)
    building.build_waiting()
    selectors.file_of(fresh(asked)).unlink()
    with pytest.raises(actions.ReportGone):
        actions.do_download_report(people.admin(), fresh(asked))


def test_what_is_old_is_dropped_and_what_nobody_has_too():
    kept, old = report(), report()
    building.build_waiting()
    before = timezone.now() - timedelta(days=KEPT_DAYS.value, hours=1)
    Report.objects.filter(pk=old.pk).update(created_at=before)
    left, young = selectors.directory() / "77-1.99.tmp", selectors.directory() / "78-1.pdf"
    left.write_bytes(b"x")
    young.write_bytes(b"x")
    stale = timezone.now().timestamp() - 2 * 3600
    for path in (left, selectors.file_of(fresh(old)), selectors.file_of(fresh(kept))):
        os.utime(path, (stale, stale))
    forget_old_reports()
    assert [one.pk for one in Report.objects.all()] == [kept.pk]
    assert {path.name for path in selectors.directory().iterdir()} == {f"{kept.pk}-1.xlsx", "78-1.pdf"}


def test_a_report_is_built_on_each_database(each_database):
    ok(NOON, task=people.task("夜间备份"), duration=1500)
    bad(NOON, "agent_lost", task=people.task("other"), host="web-2")
    for kind in ("xlsx", "pdf"):
        actions.do_request_report(people.admin(), {**ASKED, "format": kind})
    assert building.build_waiting() == 2
    for done in Report.objects.all():
        assert (done.state, done.figures["p95"], done.figures["total"]["failure"]) == ("done", 1500, 1)
        assert selectors.has_file(done) and [row["name"] for row in done.figures["hosts"]] == [
            "web-1",
            "web-2",
        ]


def test_nothing_was_built_yet_and_there_is_nothing_to_drop():
    assert building.forget_old() == 0


def test_figures_of_failures_are_in_the_page_of_the_report():
    bad(NOON, "agent_lost", task=people.task("backup"))
    asked = report()
    building.build_waiting()
    assert fresh(asked).figures["reasons"] == {"agent_lost": 1}
