"""Files of rows: JSON, YAML and Excel, read with bounds on what they may unfold to, and written so that nothing runs.

A row is a dict of plain values: texts, numbers, true and false, moments, lists, objects.
"""

import datetime as dt
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from defusedxml.common import DefusedXmlException
from django.utils.translation import gettext as _
from openpyxl import Workbook, load_workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter
from openpyxl.utils.exceptions import InvalidFileException

from quartzflow.errors import InvalidInput, TooLarge

MAX_BYTES = 5 * 1024 * 1024  # of a file
MAX_UNPACKED = 50 * 1024 * 1024  # bytes of a workbook's parts together
MAX_PARTS = 200  # of a workbook
MAX_DEPTH = 20  # of lists and objects within each other
MAX_CELL = 32_767  # characters that Excel holds in a cell
MAX_COLUMNS = 100
MAX_ROWS = 20_000

OTHER_BREAKS = re.compile("[\r\x85\u2028\u2029\ufeff]")

Row = dict[str, Any]


class _Unreadable(Exception):
    """Why a file is no such file; the message is for its user."""


def read_rows(data: bytes, name: str) -> list[Row]:
    """The rows of a file in the format `name` of FORMATS. Raises InvalidInput for `file`, TooLarge."""
    if len(data) > MAX_BYTES:
        raise TooLarge(_("The file is larger than %(size)s MB.") % {"size": MAX_BYTES // 1024 // 1024})
    try:
        rows = FORMATS[name].read(data)
        _check_texts(rows)
    except _Unreadable as error:
        raise InvalidInput({"file": [str(error)]}) from None
    return rows


def write_rows(rows: Sequence[Row], name: str, key: str, columns: Mapping[str, type]) -> bytes:
    """The file in the format `name` of FORMATS; every row has all of `columns`, in their order.

    key:     under which JSON and YAML hold the list, and the sheet's name
    columns: name → what its values are: str, int, list (of texts) or dict (anything else, as JSON in a cell)
    Raises InvalidInput for what a workbook cannot hold.
    """
    return FORMATS[name].write(rows, key, columns)


# --- JSON ---


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unreadable(_("%(name)s is there twice.") % {"name": twice})
    return found


def _no_constant(text: str) -> Any:
    raise _Unreadable(_("%(text)s is no value that can be used.") % {"text": text})


def _read_json(data: bytes) -> list[Row]:
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise _Unreadable(_("It is nested too deeply.")) from None
    except ValueError as error:
        raise _Unreadable(_("It is not valid JSON: %(error)s") % {"error": error}) from None
    return _rows(found)


def _write_json(rows: Sequence[Row], key: str, columns: Mapping[str, type]) -> bytes:
    return (json.dumps({key: list(rows)}, ensure_ascii=False, indent=2) + "\n").encode()


# --- YAML ---


class _Loader(yaml.CSafeLoader):
    """Plain values only, without keys that are there twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        return _unique(
            [(self.construct_object(k, True), self.construct_object(v, True)) for k, v in node.value]
        )


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Any:
    return loader.construct_mapping(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Other ends of lines are kept only in quotes.
    style = '"' if OTHER_BREAKS.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _read_yaml(data: bytes) -> list[Row]:
    try:
        text = data.decode("utf-8-sig")
        depth = 0
        # Looked through before anything is built: an alias may stand for billions of nodes.
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise _Unreadable(_("Anchors and aliases (& and *) are not read."))
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise _Unreadable(_("It is nested too deeply."))
        found = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise _Unreadable(_("It is not valid YAML: %(error)s") % {"error": error}) from None
    return _rows(found)


def _write_yaml(rows: Sequence[Row], key: str, columns: Mapping[str, type]) -> bytes:
    text = yaml.dump({key: list(rows)}, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=110)
    return text.encode()


# --- Excel ---


def _read_excel(data: bytes) -> list[Row]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # zipfile never unpacks more of a part than its directory says.
            parts = archive.infolist()
            if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
                raise _Unreadable(_("The workbook unfolds to too much."))
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=False, keep_links=False)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # a file's word for it may be a million columns
        return _sheet_rows(sheet.iter_rows(max_col=MAX_COLUMNS))
    except (
        zipfile.BadZipFile, InvalidFileException, DefusedXmlException, SyntaxError, KeyError, ValueError, IndexError,
        TypeError, AttributeError, OSError, NotImplementedError, RuntimeError,
    ) as error:  # whatever openpyxl stumbles over  # fmt: skip
        raise _Unreadable(_("It is not a workbook (.xlsx) that can be read.")) from error


def _sheet_rows(lines: Any) -> list[Row]:
    head: list[str] = []
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        if number > MAX_ROWS:
            raise _Unreadable(_("At most %(count)s rows.") % {"count": MAX_ROWS})
        for cell in line:
            if cell.value is not None and cell.data_type in ("f", "e"):
                raise _Unreadable(
                    _("Row %(number)s: formulas are not read, write values.") % {"number": number}
                )
        values = [cell.value for cell in line]
        if number == 1:
            head = [str(value or "").strip() for value in values]
        elif any(value not in (None, "") for value in values):
            rows.append({name: _cell(value) for name, value in zip(head, values, strict=False) if name})
    return rows


def _cell(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _write_excel(rows: Sequence[Row], key: str, columns: Mapping[str, type]) -> bytes:
    lines = [
        [_in_cell(row[name], kind, number, name) for name, kind in columns.items()]
        for number, row in enumerate(rows, start=2)
    ]
    book = Workbook(write_only=True)
    sheet = book.create_sheet(key)
    sheet.freeze_panes = "B2"
    for number, name in enumerate(columns, start=1):
        wide = columns[name] is dict or name in ("name", "description")
        sheet.column_dimensions[get_column_letter(number)].width = 40 if wide else 18
    heads = [WriteOnlyCell(sheet, value=name) for name in columns]
    for head in heads:
        head.font = Font(bold=True)
    sheet.append(heads)
    for line in lines:
        cells = [WriteOnlyCell(sheet, value=value) for value in line]
        for cell in cells:
            if isinstance(cell.value, str):
                # Text stays text, also when its cell is edited: what begins with = + - @ must never be a formula.
                cell.data_type, cell.number_format, cell.quotePrefix = "s", "@", True
                cell.alignment = Alignment(vertical="top", wrap_text="\n" in cell.value)
        sheet.append(cells)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _in_cell(value: Any, kind: type, number: int, name: str) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if kind is list:
        text = "\n".join(value)
    elif kind is dict:
        text = json.dumps(value, ensure_ascii=False) if value else ""
    else:
        text = str(value)
    if len(text) > MAX_CELL or ILLEGAL_CHARACTERS_RE.search(text):
        raise InvalidInput(
            {
                "format": [
                    _("Row %(number)s, %(name)s: a workbook cannot hold it; use JSON or YAML.")
                    % {"number": number, "name": name}
                ]
            }
        )
    return text


# --- all ---


def _rows(found: Any) -> list[Row]:
    """The list, bare or as the only value of an object."""
    if isinstance(found, dict) and len(found) == 1:
        found = next(iter(found.values()))
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise _Unreadable(_("It must hold a list of objects, one for each task."))
    return found


def _check_texts(value: Any, depth: int = 0) -> None:
    """No key that is not text, nothing too deep, no half characters."""
    if depth > MAX_DEPTH:
        raise _Unreadable(_("It is nested too deeply."))
    if isinstance(value, str):
        if any(0xD800 <= ord(char) <= 0xDFFF or char == "\0" for char in value):
            raise _Unreadable(_("It holds characters that are no text."))
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _Unreadable(_("%(name)s: names must be text, write it in quotes.") % {"name": key})
            _check_texts(key, depth + 1)
            _check_texts(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, depth + 1)
    elif isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise _Unreadable(_("%(text)s is no value that can be used.") % {"text": value})
    elif not (value is None or isinstance(value, bool | int | float | dt.datetime | dt.date)):
        raise _Unreadable(_("%(text)s is no value that can be used.") % {"text": type(value).__name__})


@dataclass(frozen=True)
class Format:
    """One kind of file."""

    media_type: str
    suffix: str
    read: Callable[[bytes], list[Row]]
    write: Callable[[Sequence[Row], str, Mapping[str, type]], bytes]


FORMATS = {
    "json": Format("application/json", ".json", _read_json, _write_json),
    "yaml": Format("application/yaml", ".yaml", _read_yaml, _write_yaml),
    "xlsx": Format(
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ".xlsx",
        _read_excel,
        _write_excel,
    ),
}
SUFFIXES = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".xlsx": "xlsx"}
