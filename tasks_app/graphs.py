"""Drawings of what runs after what: where boxes and lines lie, for inline SVG. Nothing here knows what is drawn."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from unicodedata import east_asian_width

BOX_WIDTH, BOX_HEIGHT = 176, 44  # units of the drawing
GAP_X, GAP_Y = 56, 14
LABEL_WIDTH = 21  # columns of text that a box has room for; wide characters take two


@dataclass
class Box:
    """One node. `x` and `y` are set by `lay_out`."""

    key: str
    label: str
    note: str = ""  # a second, smaller line
    url: str = ""
    css: str = ""  # class of the box
    x: int = 0
    y: int = 0

    @property
    def shown(self) -> str:
        """The label, cut to the box."""
        return fitting(self.label)


@dataclass
class Line:
    """From the right side of one box to the left side of another."""

    path: str  # SVG
    css: str = ""


@dataclass
class Drawing:
    width: int = 0
    height: int = 0
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def lay_out(
    boxes: Iterable[Box], edges: Iterable[tuple[str, str]], css: dict[tuple[str, str], str]
) -> Drawing:
    """Columns from left to right: a box stands one column behind the last of those before it.

    edges: (before, after) by keys, without cycles; css: classes of lines
    """
    found = {box.key: box for box in boxes}
    lines = [(a, b) for a, b in edges if a in found and b in found]
    columns = dict.fromkeys(found, 0)
    for _ in range(len(found)):
        moved = [(a, b) for a, b in lines if columns[b] <= columns[a] < len(found)]
        if not moved:
            break
        for a, b in moved:
            columns[b] = columns[a] + 1
    rows: dict[int, int] = {}
    for key, box in found.items():
        row = rows.get(columns[key], 0)
        rows[columns[key]] = row + 1
        box.x, box.y = columns[key] * (BOX_WIDTH + GAP_X), row * (BOX_HEIGHT + GAP_Y)
    width = max((box.x for box in found.values()), default=0) + BOX_WIDTH
    height = max(rows.values(), default=1) * (BOX_HEIGHT + GAP_Y) - GAP_Y
    for column, count in rows.items():  # each column is centred
        spare = (height - (count * (BOX_HEIGHT + GAP_Y) - GAP_Y)) // 2
        for key, box in found.items():
            box.y += spare if columns[key] == column else 0
    return Drawing(
        width, height, list(found.values()), [Line(_path(found[a], found[b]), css.get((a, b), "")) for a, b in lines]
    )  # fmt: skip


def _path(before: Box, after: Box) -> str:
    x1, y1 = before.x + BOX_WIDTH, before.y + BOX_HEIGHT // 2
    x2, y2 = after.x - 5, after.y + BOX_HEIGHT // 2
    bend = max((x2 - x1) // 2, 18)
    return f"M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"


def fitting(text: str, room: int = LABEL_WIDTH) -> str:
    """The text, cut where it would leave the box."""
    width = 0
    for place, character in enumerate(text):
        width += 2 if east_asian_width(character) in "WF" else 1
        if width > room:
            return text[: place - 1] + "…"
    return text
