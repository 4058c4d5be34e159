"""A report as an Excel workbook: a summary, and a sheet for each part with its figures and a chart of them."""

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import timezone
from django.utils.translation import gettext as _
from openpyxl import Workbook
from openpyxl.chart import BarChart, LineChart, PieChart, Reference
from openpyxl.chart.label import DataLabelList
from openpyxl.chart.marker import DataPoint
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter

from . import words
from .choices import Dimension
from .figures import Figures, Tally
from .models import Report
from .tables import ROWS, reasons

CHARTED = 15  # rows in a chart: more cannot be read
CELL_LIMIT = 32_767  # characters that a cell holds
DAY_FORMAT, MOMENT_FORMAT = "yyyy-mm-dd", "yyyy-mm-dd hh:mm"
WHOLE, PERCENT, SECONDS = "#,##0", "0.0%", "#,##0.000"
GREEN, RED, AMBER, GREY = "1A9F64", "DD3B31", "E58413", "8790A0"
HEAD = PatternFill("solid", start_color="4A4FD8")
BAND = PatternFill("solid", start_color="F6F7F9")
COLUMNS = ("total", "success", "failure", "timeout", "cancelled", "rate", "mean", "longest")
FORMATS = (WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, PERCENT, SECONDS, SECONDS)


def write(figures: Figures, report: Report, path: Path) -> None:
    """In the language and time zone that are active."""
    book = Workbook()
    _summary(book.active, figures, report)
    for dimension in report.dimensions:
        sheet = book.create_sheet(_sheet_name(str(Dimension(dimension).label)))
        if dimension == Dimension.REASON:
            _reasons(sheet, figures)
        elif dimension == Dimension.DAY:
            _days(sheet, figures)
        else:
            _rows(sheet, figures, dimension)
    book.save(path)


def _summary(sheet: Any, figures: Figures, report: Report) -> None:
    """Label and value, one a row; the values are numbers and days, for formulas of one's own."""
    sheet.title = _sheet_name(_("Summary"))
    sheet.sheet_view.showGridLines = False
    sheet.append([_("Report on executions")])
    sheet["A1"].font = Font(size=16, bold=True, color="4A4FD8")
    total = figures.total
    facts: list[tuple[str, Any, str]] = [
        (_("First day"), figures.period.first, DAY_FORMAT),
        (_("Last day"), figures.period.last, DAY_FORMAT),
        (_("Time zone"), figures.period.zone, "@"),
        (_("Built"), _wall_clock(timezone.now(), figures.period.zone), MOMENT_FORMAT),
        (_("Built for"), report.owner.get_username(), "@"),
        (_("Runs"), total.total, WHOLE),
        (_("Success"), total.success, WHOLE),
        (_("Failed"), total.failure, WHOLE),
        (_("Timed out"), total.timeout, WHOLE),
        (_("Cancelled"), total.cancelled, WHOLE),
        (_("Success rate"), _fraction(total), PERCENT),
        (_("Mean duration (s)"), _seconds(total.mean), SECONDS),
        (_("95th percentile (s)"), _seconds(figures.p95), SECONDS),
        (_("Longest (s)"), _seconds(total.longest or None), SECONDS),
    ]
    for row, (label, value, number_format) in enumerate(facts, 3):
        sheet.cell(row, 1, label).font = Font(color="464E5C")
        cell = _put(sheet.cell(row, 2), value)
        cell.number_format, cell.alignment = number_format, Alignment(horizontal="left")
    if note := words.note(figures):
        cell = sheet.cell(len(facts) + 4, 1, note)
        cell.alignment = Alignment(wrap_text=True, vertical="top")
        sheet.merge_cells(start_row=cell.row, end_row=cell.row, start_column=1, end_column=4)
        sheet.row_dimensions[cell.row].height = 62
    sheet.column_dimensions["A"].width, sheet.column_dimensions["B"].width = 26, 26
    sheet.column_dimensions["C"].width = sheet.column_dimensions["D"].width = 16
    if total.total:
        _pie(sheet, figures)


def _pie(sheet: Any, figures: Figures) -> None:
    """How they ended, from the cells of the counts."""
    chart = PieChart()
    chart.title = _("How they ended")
    chart.add_data(Reference(sheet, min_col=2, min_row=9, max_row=12))
    chart.set_categories(Reference(sheet, min_col=1, min_row=9, max_row=12))
    chart.dataLabels = DataLabelList(showPercent=True, showVal=False, showSerName=False, showCatName=False)
    for index, color in enumerate((GREEN, RED, AMBER, GREY)):
        _paint_slice(chart.series[0], index, color)
    chart.width, chart.height = 13, 8.5
    sheet.add_chart(chart, "F3")


def _paint_slice(series: Any, index: int, color: str) -> None:
    point = DataPoint(idx=index)
    point.graphicalProperties.solidFill = color
    series.dPt.append(point)


def _rows(sheet: Any, figures: Figures, dimension: str) -> None:
    rows = getattr(figures, ROWS[Dimension(dimension)][0])
    _head(sheet, words.heading(dimension), 34)
    for number, row in enumerate(rows, 2):
        _line(sheet, number, words.row_name(dimension, row), "@", row.tally)
    _finish(sheet, len(rows))
    if rows:
        _stacked(sheet, min(len(rows), CHARTED), str(Dimension(dimension).label), "bar")


def _days(sheet: Any, figures: Figures) -> None:
    _head(sheet, words.heading(Dimension.DAY), 14)
    for number, (day, tally) in enumerate(figures.days.items(), 2):
        _line(sheet, number, day, DAY_FORMAT, tally)
    _finish(sheet, len(figures.days))
    if not figures.total.total:
        return
    _stacked(sheet, len(figures.days), str(Dimension.DAY.label), "col")
    rates = LineChart()
    rates.title = _("Success rate")
    rates.add_data(
        Reference(sheet, min_col=7, min_row=1, max_row=1 + len(figures.days)), titles_from_data=True
    )
    rates.set_categories(Reference(sheet, min_col=1, min_row=2, max_row=1 + len(figures.days)))
    rates.legend = None
    rates.y_axis.scaling.min, rates.y_axis.scaling.max = 0, 1
    rates.y_axis.number_format, rates.x_axis.number_format = "0%", "mm-dd"
    rates.series[0].graphicalProperties.line.solidFill = GREEN
    rates.x_axis.delete = rates.y_axis.delete = False
    rates.width, rates.height = 24, 8
    sheet.add_chart(rates, "K20")


def _reasons(sheet: Any, figures: Figures) -> None:
    heads = (words.heading(Dimension.REASON), _("Runs"), _("Share"))
    for column, (text, width) in enumerate(zip(heads, (40, 14, 12), strict=True), 1):
        _head_cell(sheet, column, text, width)
    found = reasons(figures)
    for number, reason in enumerate(found, 2):
        _put(sheet.cell(number, 1), reason.name)
        sheet.cell(number, 2, reason.count).number_format = WHOLE
        sheet.cell(number, 3, reason.percent / 100).number_format = PERCENT
    _finish(sheet, len(found), 3)
    if found:
        chart = BarChart()
        chart.type, chart.title, chart.legend = "bar", str(Dimension.REASON.label), None
        chart.add_data(Reference(sheet, min_col=2, min_row=2, max_row=1 + min(len(found), CHARTED)))
        chart.set_categories(Reference(sheet, min_col=1, min_row=2, max_row=1 + min(len(found), CHARTED)))
        chart.series[0].graphicalProperties.solidFill = RED
        _axes(chart, min(len(found), CHARTED), "bar")
        sheet.add_chart(chart, "E2")


def _head(sheet: Any, first: str, width: int) -> None:
    _head_cell(sheet, 1, first, width)
    labels = words.labels()
    labels |= {"mean": _("Mean duration (s)"), "longest": _("Longest (s)")}
    for column, name in enumerate(COLUMNS, 2):
        _head_cell(sheet, column, labels[name], 15)


def _head_cell(sheet: Any, column: int, text: str, width: int) -> None:
    cell = sheet.cell(1, column, text)
    cell.font, cell.fill = Font(bold=True, color="FFFFFF"), HEAD
    cell.alignment = Alignment(horizontal="left" if column == 1 else "right", vertical="center")
    sheet.column_dimensions[get_column_letter(column)].width = width


def _line(sheet: Any, number: int, first: Any, number_format: str, tally: Tally) -> None:
    cell = _put(sheet.cell(number, 1), first)
    cell.number_format, cell.alignment = number_format, Alignment(horizontal="left")
    values = (
        tally.total, tally.success, tally.failure, tally.timeout, tally.cancelled, _fraction(tally),
        _seconds(tally.mean), _seconds(tally.longest or None),
    )  # fmt: skip
    for column, (value, form) in enumerate(zip(values, FORMATS, strict=True), 2):
        sheet.cell(number, column, value).number_format = form
    if number % 2:
        for column in range(1, len(values) + 2):
            sheet.cell(number, column).fill = BAND


def _finish(sheet: Any, count: int, columns: int = len(COLUMNS) + 1) -> None:
    sheet.freeze_panes = "B2" if columns > 3 else "A2"
    sheet.auto_filter.ref = f"A1:{get_column_letter(columns)}{1 + count}"
    sheet.row_dimensions[1].height = 22
    sheet.print_title_rows = "1:1"
    sheet.page_setup.orientation, sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight = (
        "landscape",
        1,
        0,
    )
    sheet.sheet_properties.pageSetUpPr.fitToPage = True


def _stacked(sheet: Any, count: int, title: str, kind: str) -> None:
    """Bars of successes, failures, timeouts and cancelled ones, from the cells beside it."""
    chart = BarChart()
    chart.type, chart.grouping, chart.overlap, chart.title = kind, "stacked", 100, title
    chart.add_data(
        Reference(sheet, min_col=3, max_col=6, min_row=1, max_row=1 + count), titles_from_data=True
    )
    chart.set_categories(Reference(sheet, min_col=1, min_row=2, max_row=1 + count))
    for series, color in zip(chart.series, (GREEN, RED, AMBER, GREY), strict=True):
        series.graphicalProperties.solidFill = color
    chart.legend.position = "b"
    if kind == "col":
        chart.x_axis.number_format = "mm-dd"
    _axes(chart, count, kind)
    sheet.add_chart(chart, "K2")


def _axes(chart: Any, count: int, kind: str) -> None:
    chart.x_axis.delete = chart.y_axis.delete = False  # openpyxl hides them otherwise
    chart.y_axis.number_format = WHOLE
    chart.gapWidth = 60
    chart.width, chart.height = 24, 8.5
    if kind == "bar":
        chart.x_axis.scaling.orientation = "maxMin"  # the first row on top, as in the table
        chart.height = max(7.5, 3 + 0.75 * count)


def _put(cell: Any, value: Any) -> Any:
    """Set a cell; a text stays one, whatever a spreadsheet would take it for."""
    if isinstance(value, str):
        # XML has no other control characters.
        value = "".join(char for char in value if char >= " " or char in "\t\n")[:CELL_LIMIT]
        cell.value = value
        cell.data_type, cell.quotePrefix = "s", value[:1] in ("=", "+", "-", "@")
    else:
        cell.value = value
    return cell


def _sheet_name(text: str) -> str:
    return "".join(char for char in text if char not in "[]:*?/\\")[:31]


def _fraction(tally: Tally) -> float | None:
    judged = tally.success + tally.bad
    return tally.success / judged if judged else None


def _seconds(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _wall_clock(moment: datetime, zone: str) -> datetime:
    """Workbooks know no zones."""
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, microsecond=0)
