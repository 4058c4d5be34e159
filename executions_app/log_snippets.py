"""The places of a text in an output: lines to be shown, with what is marked in them."""

import re
from dataclasses import dataclass

LINES = 3  # shown of one output
BEFORE, AFTER = 60, 140  # characters of a line around the first place in it
ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])|[\x00-\x08\x0b-\x1f\x7f]"
)

Place = tuple[int, int]  # from and to, in characters


@dataclass(frozen=True)
class Snippet:
    """A line of an output."""

    where: str  # output | error
    line: int  # from 1
    # Its text in pieces: (text, whether it is marked). Plain text, to be escaped by whoever shows it.
    pieces: list[tuple[str, bool]]

    @property
    def text(self) -> str:
        return "".join(text for text, _marked in self.pieces)


class Finder:
    """Finds a text in others, upper or lower case alike."""

    def __init__(self, text: str) -> None:
        self._pattern = re.compile(re.escape(text), re.IGNORECASE)
        self._lower = text.lower()

    def __call__(self, within: str) -> bool:
        """Whether the text is there."""
        return self._lower in within.lower()

    def places(self, within: str) -> list[Place]:
        """Where it is, in order; they do not overlap."""
        return [matched.span() for matched in self._pattern.finditer(within)] if self(within) else []


def snippets(find: Finder, output: str, error: str) -> tuple[int, list[Snippet]]:
    """How many places there are, and the first lines that have some."""
    count = 0
    found: list[Snippet] = []
    for where, text in (("output", output), ("error", error)):
        places = find.places(text)
        count += len(places)
        shown = 0  # up to here
        for start, _end in places:
            if len(found) == LINES:
                break
            if start >= shown:
                begin, shown = _line_around(text, start)
                found.append(
                    Snippet(where, text.count("\n", 0, begin) + 1, _pieces(text, begin, shown, places))
                )
    return count, found


def _line_around(text: str, place: int) -> tuple[int, int]:
    """The line that a place is in, from and to, without its end."""
    end = text.find("\n", place)
    return text.rfind("\n", 0, place) + 1, len(text) if end < 0 else end


def _pieces(text: str, begin: int, end: int, places: list[Place]) -> list[tuple[str, bool]]:
    """The line, cut around its first place, without what would colour or hide anything."""
    marked = [(max(start, begin), min(stop, end)) for start, stop in places if start < end and stop > begin]
    first = max(begin, marked[0][0] - BEFORE)
    last = min(end, marked[0][1] + AFTER)
    for escape in ESCAPES.finditer(text, begin, last):
        if escape.start() < first < escape.end():
            first = min(escape.end(), marked[0][0])
    pieces: list[tuple[str, bool]] = [("…", False)] if first > begin else []
    at = first
    for start, stop in marked:
        if start >= last:
            break
        pieces += [(text[at:start], False), (text[start : min(stop, last)], True)]
        at = min(stop, last)
    pieces += [(text[at:last], False), ("…" if last < end else "", False)]
    plain = [(ESCAPES.sub("", piece), mark) for piece, mark in pieces]
    return [(piece, mark) for piece, mark in plain if piece]
