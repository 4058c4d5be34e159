"""What reports say: labels, durations, the text of a mail."""

from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext as _

from quartzflow.durations import milliseconds

from ..choices import FailureReason
from .choices import Dimension
from .figures import Figures, Row

TOP = 5  # failing tasks in a mail


def row_name(dimension: str, row: Row) -> str:
    """What a row is called; some have no name of their own."""
    if row.name:
        return row.name
    return {Dimension.GROUP: _("No group"), Dimension.HOST: _("No host")}.get(
        Dimension(dimension), f"#{row.key}"
    )


def reason_name(reason: str) -> str:
    return str(FailureReason(reason).label) if reason in FailureReason.values else _("No reason given")


def heading(dimension: str) -> str:
    """What the first column of a table holds."""
    return {
        Dimension.DAY: _("Day"), Dimension.TASK: _("Task"), Dimension.GROUP: _("Host group"),
        Dimension.HOST: _("Host"), Dimension.REASON: _("Reason"),
    }[Dimension(dimension)]  # fmt: skip


def rate(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f} %"


def number(value: int) -> str:
    return str(number_format(value, use_l10n=True, force_grouping=True))


def key_figures(figures: Figures) -> list[tuple[str, str]]:
    """The figures that stand first."""
    total = figures.total
    return [
        (_("Runs"), number(total.total)),
        (_("Success rate"), rate(total.rate)),
        (_("Failed"), number(total.failure)),
        (_("Timed out"), number(total.timeout)),
        (_("Mean duration"), milliseconds(total.mean)),
        (_("95th percentile"), milliseconds(figures.p95)),
    ]


def note(figures: Figures) -> str:
    """What one has to know of where the figures come from; "": nothing."""
    if not figures.removed:
        return ""
    return _(
        "%(count)s of these executions are no longer kept. They are counted from the daily statistics: their days are"
        " days in UTC, they count for the groups their hosts are in now, and their reasons are not known."
    ) % {"count": number(figures.removed)}


def summary(figures: Figures) -> str:
    """The text of the mail that brings a report."""
    lines = [f"{figures.period} ({figures.period.zone})", ""]
    lines += [f"{name}: {value}" for name, value in key_figures(figures)]
    if failing := figures.failing(TOP):
        lines += ["", _("Tasks that failed most often:")]
        lines += [f"  {row.name}: {number(row.tally.bad)}" for row in failing]
    lines += ["", _("The report is attached. It was made by Quartz-Flow.")]
    return "\n".join(lines)


def labels() -> dict[str, Any]:
    """The heads of the columns that every table of tallies has, in their order."""
    return {
        "total": _("Runs"),
        "success": _("Success"),
        "failure": _("Failed"),
        "timeout": _("Timed out"),
        "cancelled": _("Cancelled"),
        "rate": _("Success rate"),
        "mean": _("Mean duration"),
        "longest": _("Longest"),
    }
