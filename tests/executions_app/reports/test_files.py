"""Workbooks and PDF, opened again."""

import io
from datetime import datetime

import openpyxl
import pytest
from django.utils import timezone, translation
from pypdf import PdfReader

from executions_app.reports import excel, pdf
from executions_app.reports.choices import Dimension
from executions_app.reports.figures import Figures, Row, Tally, count
from tests import people

from .conftest import DAY, DAYS, NOON, ZONE, bad, ok, report

pytestmark = pytest.mark.django_db


@pytest.fixture
def counted():
    """Some executions of a task with a Chinese name, and of one that a spreadsheet would run."""
    nightly, formula = people.task("夜间备份"), people.task("=1+1")
    ok(NOON, task=nightly, duration=1500)
    ok(NOON, task=nightly, duration=2500)
    bad(NOON + DAY, "agent_lost", task=nightly)
    ok(NOON + DAY, task=formula)
    return count(people.admin(), DAYS)


def workbook(figures, tmp_path, language="zh-hans", **fields):
    path = tmp_path / "report.xlsx"
    with translation.override(language), timezone.override(ZONE):
        excel.write(figures, report(**fields), path)
    return openpyxl.load_workbook(path)


def test_a_workbook_has_a_sheet_for_each_part_with_real_values(counted, tmp_path):
    book = workbook(counted, tmp_path)
    assert book.sheetnames == ["摘要", "按天", "按任务", "按分组", "按主机", "失败原因"]
    days = book["按天"]
    assert [cell.value for cell in days["A"]] == ["日期", *(datetime(2026, 3, day) for day in (1, 2, 3))]
    assert days["A2"].number_format == "yyyy-mm-dd"
    assert [cell.value for cell in days[3]] == [datetime(2026, 3, 2), 2, 2, 0, 0, 0, 1.0, 2.0, 2.5]
    assert (days["G3"].number_format, days["B3"].number_format) == ("0.0%", "#,##0")
    tasks = book["按任务"]
    assert [tasks.cell(row, 1).value for row in (2, 3)] == ["夜间备份", "=1+1"]
    assert (tasks["A3"].data_type, tasks["A3"].quotePrefix) == ("s", True)
    assert (tasks["G2"].value, tasks["H2"].value) == (pytest.approx(2 / 3), 2.0)
    reasons = book["失败原因"]
    assert [cell.value for cell in reasons[2]] == ["客户端失联", 1, 1.0]
    for sheet in book.worksheets[1:]:
        assert sheet.freeze_panes in ("A2", "B2")
        assert sheet.auto_filter.ref.startswith("A1:")
        assert sheet.column_dimensions["A"].width > 10
        assert len(sheet._charts) == 2 if sheet is days else len(sheet._charts) == 1
    summary = {row[0].value: row[1].value for row in book["摘要"].iter_rows(min_row=3, max_row=16)}
    assert (summary["执行次数"], summary["成功率"], summary["首日"]) == (4, 0.75, datetime(2026, 3, 1))


def test_a_workbook_speaks_english_and_has_the_parts_that_were_asked_for(counted, tmp_path):
    book = workbook(counted, tmp_path, "en", dimensions=["day", "reason"])
    assert book.sheetnames == ["Summary", "By day", "Reasons of failures"]
    assert book["Reasons of failures"]["A2"].value == "The agent was lost"


def test_a_workbook_of_nothing_opens(tmp_path):
    book = workbook(Figures(DAYS), tmp_path)
    assert all(sheet._charts == [] for sheet in book)
    assert book["摘要"]["B8"].value == 0


def test_control_characters_and_long_names_do_not_break_a_workbook(tmp_path):
    figures = Figures(DAYS, Tally(success=1), tasks=[Row("1", "a\x00b\x07" + "x" * 40_000, Tally(success=1))])
    book = workbook(figures, tmp_path, dimensions=["task"])
    assert book["按任务"]["A2"].value.startswith("abxxx")


def text_of(figures, language="zh-hans", **fields) -> list[str]:
    """The text of each page."""
    out = io.BytesIO()
    with translation.override(language), timezone.override(ZONE):
        pdf.draw(figures, report(**fields), out)
    return [page.extract_text() for page in PdfReader(out).pages]


def test_a_pdf_is_chinese_with_cover_contents_and_numbered_pages(counted):
    pages = text_of(counted)
    assert "执行报表" in pages[0] and "2026-03-01 – 2026-03-03" in pages[0] and "目录" in pages[0]
    assert f"第 1 / {len(pages)} 页" in pages[0]
    whole = "\n".join(pages)
    assert "夜间备份" in whole and "客户端失联" in whole and "=1+1" in whole


def test_a_pdf_is_english_without_a_chinese_word(counted):
    counted.tasks = [row for row in counted.tasks if row.name.isascii()]
    whole = "\n".join(text_of(counted, "en"))
    assert "Page 1 of" in whole and "The agent was lost" in whole
    assert not any("\u4e00" <= char <= "\u9fff" for char in whole)


def test_long_tables_are_cut_and_repeat_their_heads():
    rows = [Row(str(number), f"job-{number}", Tally(success=500 - number)) for number in range(300)]
    figures = Figures(DAYS, Tally(success=1), tasks=rows)
    pages = text_of(figures, "en", dimensions=["task"])
    assert "job-199" in "".join(pages) and "job-200" not in "".join(pages)
    assert "The first 200 of 300" in pages[-1]
    assert all("Success rate" in page for page in pages[1:])


def test_names_are_text_and_load_nothing():
    hostile = '<img src="file:///etc/passwd"><style>@import url(http://127.0.0.1:1/)</style>'
    figures = Figures(DAYS, Tally(success=1), tasks=[Row("1", hostile, Tally(success=1))])
    assert "file:///etc/passwd" in "".join(text_of(figures, dimensions=[Dimension.TASK])).replace("\n", "")


def test_a_machine_without_the_libraries_says_which(counted, tmp_path, monkeypatch):
    def broken(name, *args):
        raise OSError("cannot load library 'libpango-1.0-0'")

    monkeypatch.setitem(__import__("sys").modules, "weasyprint", None)
    monkeypatch.setattr("builtins.__import__", _importing(broken))
    with pytest.raises(pdf.Unavailable, match="libpangoft2"):
        pdf.write(counted, report(format="pdf"), tmp_path / "x.pdf")


def _importing(broken):
    real = __import__

    def importing(name, *args, **kwargs):
        return broken(name) if name == "weasyprint" else real(name, *args, **kwargs)

    return importing
