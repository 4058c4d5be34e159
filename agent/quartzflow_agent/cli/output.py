"""How commands speak: tables for people, JSON for programs, one line for a failure."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any, List, Sequence

import typer
from rich.cells import cell_len, set_cell_size

from quartzflow_agent.i18n import _

NARROWEST = 8  # cells; a column is not made narrower to fit the terminal


class Failure(Exception):
    """The command cannot do what it was asked; the text says why and what to do."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def example(command: str) -> str:
    """The last line of a command's help."""
    return _("Example: {command}").format(command=command)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A boxed table, as wide as the terminal allows."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    typer.echo(table(title, headings, rows, width))


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], width: int = 0) -> str:
    """The table of PRD FR-5.5; a Chinese character takes two cells. width: of the terminal, cells; 0: any."""
    lines = [headings, *rows]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(headings))]
    while width and sum(widths) + 3 * len(widths) + 1 > width and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    inside = sum(widths) + 3 * len(widths) - 1
    if cell_len(title) + 2 > inside:
        widths[-1] += cell_len(title) + 2 - inside
        inside = cell_len(title) + 2
    bars = ["─" * (cells + 2) for cells in widths]
    return "\n".join(
        [
            f"┌{'─' * inside}┐",
            f"│ {_fit(title, inside - 2)} │",
            f"├{'┬'.join(bars)}┤",
            _line(headings, widths),
            f"├{'┼'.join(bars)}┤",
            *(_line(row, widths) for row in rows),
            f"└{'┴'.join(bars)}┘",
        ]
    )


def _line(texts: Sequence[str], widths: List[int]) -> str:
    return "│" + "│".join(f" {_fit(texts[i], widths[i])} " for i in range(len(widths))) + "│"


def _fit(text: str, cells: int) -> str:
    text = text.replace("\n", " ")
    return set_cell_size(text, cells) if cell_len(text) <= cells else set_cell_size(text, cells - 1) + "…"


def seconds(milliseconds: int) -> str:
    """2300 → 2.3s, 12 → 12ms."""
    return f"{milliseconds / 1000:.1f}s" if milliseconds >= 100 else f"{milliseconds}ms"


def percent(part: int, whole: int) -> str:
    """98.9 %, but 100 % without a fraction; "-" of nothing."""
    if not whole:
        return "-"
    text = f"{100 * part / whole:.1f}"
    # 1999 of 2000 is not all of them.
    text = "99.9" if text == "100.0" and part != whole else text
    return f"{text[:-2] if text.endswith('.0') else text}%"
