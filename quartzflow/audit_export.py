"""Taking the audit log away: CSV, Excel or JSON lines, each as a stream of bytes, newest first."""

import csv
import json
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Font

from .audit import record
from .errors import InvalidInput
from .models import AuditEntry
from .permissions import User

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take a cell for a formula by
COLUMNS = (
    "id", "time", "user", "address", "request", "action", "object_type", "object_id", "object", "changes",
)  # fmt: skip
CELL_LIMIT = 32_767  # characters that a cell of a workbook holds
CHUNK = 64 * 1024  # bytes


def do_export(user: User, rows: QuerySet[AuditEntry], kind: str, query: dict[str, Any]) -> Iterator[bytes]:
    """The entries as `kind`, one of FORMATS; that somebody took them is an entry itself.

    query: what the rows were chosen by, for that entry. Raises InvalidInput for another kind, and for more rows than
    the kind holds: a part would look like all.
    """
    if kind not in FORMATS:
        raise InvalidInput({"format": [_("One of %(names)s.") % {"names": ", ".join(FORMATS)}]})
    write, _mime, limit = FORMATS[kind]
    if len(rows.order_by().values_list("pk", flat=True)[: limit + 1]) > limit:
        raise InvalidInput(
            {
                "format": [
                    _("More than %(limit)s entries: choose a shorter time or more filters.")
                    % {"limit": limit}
                ]
            }
        )
    newest = rows.order_by("-id")
    record(user, "audit.export", None, {"query": query, "format": kind})
    return write(newest)


def mime_of(kind: str) -> str:
    return FORMATS[kind][1]


def neutral(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _cells(row: AuditEntry) -> list[str]:
    changes = json.dumps(row.changes, ensure_ascii=False)
    return [
        str(row.pk), row.at.isoformat(), row.actor_name, row.address, row.request_id, row.action, row.object_type,
        row.object_id, row.object_name, changes,
    ]  # fmt: skip


class _Echo:
    """A file whose writing gives the text back."""

    def write(self, text: str) -> str:
        return text


def _csv(rows: QuerySet[AuditEntry]) -> Iterator[bytes]:
    writer = csv.writer(_Echo())
    yield "\ufeff".encode()  # Excel takes the file for UTF-8 by this
    yield str(writer.writerow(COLUMNS)).encode()
    for row in rows.iterator(2000):
        yield str(writer.writerow([neutral(cell) for cell in _cells(row)])).encode()


def _json_lines(rows: QuerySet[AuditEntry]) -> Iterator[bytes]:
    """One entry a line, with its hash and the one before it."""
    for row in rows.iterator(2000):
        entry = dict(zip(COLUMNS, _cells(row), strict=True)) | {
            "id": row.pk, "changes": row.changes, "previous_hash": row.previous_hash, "hash": row.hash,
        }  # fmt: skip
        yield (json.dumps(entry, ensure_ascii=False) + "\n").encode()


def _excel(rows: QuerySet[AuditEntry]) -> Iterator[bytes]:
    """Cells of text that a spreadsheet never runs; times are real ones, in UTC."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet("audit")
    sheet.freeze_panes = "A2"
    for letter, width in zip("ABCDEFGHIJ", (9, 20, 16, 16, 38, 22, 24, 12, 28, 80), strict=True):
        sheet.column_dimensions[letter].width = width
    head = [WriteOnlyCell(sheet, name) for name in COLUMNS]
    for cell in head:
        cell.font = Font(bold=True)
    sheet.append(head)
    for row in rows.iterator(2000):
        cells = [_text_cell(sheet, text) for text in _cells(row)]
        cells[0] = WriteOnlyCell(sheet, row.pk)
        cells[1] = WriteOnlyCell(sheet, row.at.replace(tzinfo=None, microsecond=0))
        cells[1].number_format = "yyyy-mm-dd hh:mm:ss"
        sheet.append(cells)
    sheet.auto_filter.ref = f"A1:J{1 + rows.count()}"
    with tempfile.TemporaryFile() as file:
        book.save(file)
        file.seek(0)
        while data := file.read(CHUNK):
            yield data


def _text_cell(sheet: Any, text: str) -> Any:
    # XML has no other control characters.
    kept = "".join(char for char in text if char >= " " or char in "\t\n")[:CELL_LIMIT]
    cell = WriteOnlyCell(sheet, kept)
    cell.data_type, cell.number_format, cell.quotePrefix = "s", "@", True
    return cell


# name → (writer, media type, rows at most)
FORMATS: dict[str, tuple[Callable[[QuerySet[AuditEntry]], Iterator[bytes]], str, int]] = {
    "csv": (_csv, "text/csv; charset=utf-8", 200_000),
    "xlsx": (_excel, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", 20_000),
    "jsonl": (_json_lines, "application/x-ndjson; charset=utf-8", 200_000),
}
