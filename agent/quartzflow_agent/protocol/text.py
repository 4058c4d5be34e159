"""Cutting text to a number of UTF-8 bytes without cutting a character."""

from __future__ import annotations

from typing import Tuple


def cut_utf8(text: str, limit_bytes: int) -> Tuple[str, bool]:
    """The start of `text` in at most `limit_bytes` bytes of UTF-8, and whether anything was cut.

    Lone surrogates, which UTF-8 cannot carry, become question marks.
    """
    data = text.encode("utf-8", "replace")
    return data[: max(limit_bytes, 0)].decode("utf-8", "ignore"), len(data) > limit_bytes


def tail_utf8(text: str, limit_bytes: int) -> Tuple[str, bool]:
    """The end of `text` in at most `limit_bytes` bytes of UTF-8, and whether anything was cut."""
    data = text.encode("utf-8", "replace")
    start = max(len(data) - max(limit_bytes, 0), 0)
    return data[start:].decode("utf-8", "ignore"), start > 0


def spoken(oldest: int, newest: int) -> str:
    """Which protocol versions a side speaks: "3", or "2 to 3"."""
    return str(newest) if oldest == newest else f"{oldest} to {newest}"
