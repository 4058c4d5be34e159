"""Charts as numbers for the templates: the same drawing serves pages and PDF."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

WIDTH = 720  # units of the drawing
HEIGHT = 132
LEAST = 2.0  # a single failure among thousands must still be seen
LABELS = 12  # below the columns, at most
WIDEST = 34  # a column


class Counted(Protocol):
    """What a column shows."""

    @property
    def success(self) -> int: ...
    @property
    def bad(self) -> int: ...
    @property
    def other(self) -> int: ...
    @property
    def total(self) -> int: ...


@dataclass(frozen=True)
class Column:
    """One column: what it is of (for the tip and for readers of screens), a short label, where a click leads."""

    name: str
    label: str
    counted: Counted
    url: str = ""


def stacked(columns: Sequence[Column]) -> dict[str, Any]:
    """Columns stacked from the bottom: successes, others, failures on top."""
    top = max((column.counted.total for column in columns), default=0)
    step = WIDTH / max(len(columns), 1)
    width = min(step * 0.62, WIDEST)
    every = -(-len(columns) // LABELS)
    bars = []
    for index, column in enumerate(columns):
        y, parts = float(HEIGHT), []
        for kind in ("success", "other", "bad"):
            if count := getattr(column.counted, kind):
                height = max(HEIGHT * count / top, LEAST)
                y -= height
                parts.append({"kind": kind, "y": round(y, 2), "height": round(height, 2)})
        bars.append(
            {
                "column": column,
                "x": round(index * step + (step - width) / 2, 2),
                "from": round(index * step, 2),
                "middle": round((index + 0.5) * step, 2),
                "parts": parts,
                # Counted from the last one, so that the present is always named.
                "label": column.label if (len(columns) - 1 - index) % every == 0 else "",
            }
        )
    return {
        "bars": bars, "width": WIDTH, "height": HEIGHT, "bar": round(width, 2), "step": round(step, 2), "top": top,
        "half": HEIGHT / 2,
    }  # fmt: skip


def share(value: float, most: float) -> float:
    """The length of a bar, 0 to 100; something is always seen of what is not nothing."""
    return round(max(100 * value / most, 1.5), 1) if value and most else 0.0
