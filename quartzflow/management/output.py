"""Rows as commands print them: aligned for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.management.base import OutputWrapper


def write_rows(
    out: OutputWrapper, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool
) -> None:
    """Print these columns of the rows. Moments are ISO 8601."""
    if as_json:
        out.write(
            json.dumps([{name: _plain(row[name]) for name in columns} for row in rows], ensure_ascii=False)
        )
        return
    lines = [list(columns), *[[_text(row[name]) for name in columns] for row in rows]]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    for line in lines:
        out.write("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def write_fields(out: OutputWrapper, fields: Mapping[str, Any], *, as_json: bool) -> None:
    """Print all that is known of one thing, a line a field."""
    if as_json:
        out.write(json.dumps(fields, ensure_ascii=False))
        return
    width = max(map(len, fields))
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        out.write(f"{name.ljust(width)}  {text}")


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return "-" if value in (None, "") else str(value)
