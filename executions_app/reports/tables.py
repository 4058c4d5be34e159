"""The figures as tables: what pages, PDF and workbooks show, in one order and with one set of names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import words
from .choices import Dimension
from .drawing import Column, share, stacked
from .figures import Figures, Row, Tally, folded


@dataclass(frozen=True)
class Line:
    """One row: its name, its tally, where a click leads, and the lengths of its bar's parts (0 to 100 together)."""

    key: str
    name: str
    tally: Tally
    url: str
    good: float
    other: float
    bad: float

    @property
    def bad_from(self) -> float:
        return self.good + self.other


@dataclass(frozen=True)
class Table:
    """One part of a report. `rows` may be fewer than `count`."""

    dimension: str
    title: str
    heading: str
    rows: Sequence[Line]
    count: int


@dataclass(frozen=True)
class Reason:
    """Failures of one reason."""

    key: str
    name: str
    count: int
    percent: float
    length: float
    url: str


Links = Callable[[dict[str, Any]], str]


def no_links(chosen: dict[str, Any]) -> str:
    return ""


# dimension → (rows of the figures, the parameter of the list of executions that a row chooses)
ROWS = {
    Dimension.TASK: ("tasks", "task__id__exact"),
    Dimension.GROUP: ("groups", "group_id__exact"),
    Dimension.HOST: ("hosts", "client_id__exact"),
}


def table(figures: Figures, dimension: str, most: int | None = None, link: Links = no_links) -> Table:
    """The rows of a task, group or host dimension; `link` makes an address of what a row chooses."""
    name, parameter = ROWS[Dimension(dimension)]
    rows: list[Row] = getattr(figures, name)
    largest = max((row.tally.total for row in rows), default=0)
    lines = [
        _line(
            row.key,
            words.row_name(dimension, row),
            row.tally,
            largest,
            link({parameter: row.key}) if row.key else "",
        )
        for row in rows[:most]
    ]
    return Table(dimension, str(Dimension(dimension).label), words.heading(dimension), lines, len(rows))


def days(figures: Figures, by: str = "day", link: Links = no_links) -> Table:
    """The days, or weeks or months of them, oldest first."""
    parts = folded(figures, by)
    largest = max((tally.total for _first, _last, tally in parts), default=0)
    lines = [
        _line(
            str(first),
            str(first) if first == last else f"{first} – {last}",
            tally,
            largest,
            link({"time": f"{first}..{last}"}),
        )
        for first, last, tally in parts
    ]
    return Table(Dimension.DAY, str(Dimension.DAY.label), words.heading(Dimension.DAY), lines, len(lines))


def trend(found: Table, by: str = "day") -> dict[str, Any]:
    """The chart of the days."""
    return stacked(
        [
            Column(line.name, line.key[:7] if by == "month" else line.key[5:], line.tally, line.url)
            for line in found.rows
        ]
    )


def reasons(figures: Figures, link: Links = no_links) -> list[Reason]:
    whole, largest = sum(figures.reasons.values()), max(figures.reasons.values(), default=0)
    return [
        Reason(
            key, words.reason_name(key), count, round(100 * count / whole, 1), share(count, largest),
            link({"failure_reason__exact": key, "status": "bad"}),
        )
        for key, count in figures.reasons.items()
    ]  # fmt: skip


def failing(figures: Figures, link: Links = no_links) -> list[Line]:
    """The tasks that failed most often; the bar is of their failures."""
    rows = figures.failing()
    largest = max((row.tally.bad for row in rows), default=0)
    return [
        Line(
            row.key, row.name, row.tally, link({"task__id__exact": row.key, "status": "bad"}), 0, 0,
            share(row.tally.bad, largest),
        )
        for row in rows
    ]  # fmt: skip


def _line(key: str, name: str, tally: Tally, largest: int, url: str) -> Line:
    parts = [
        round(100 * count / largest, 2) if largest else 0.0
        for count in (tally.success, tally.other, tally.bad)
    ]
    if tally.bad:
        parts[2] = max(parts[2], 1.0)
    return Line(key, name, tally, url, *parts)
