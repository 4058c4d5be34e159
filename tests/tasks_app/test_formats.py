"""Files of rows: what is written is read again, and what is built to do harm is refused before it unfolds."""

import datetime as dt
import io
import json
import time
import zipfile

import pytest
from django.utils import translation
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from quartzflow.errors import InvalidInput, TooLarge
from tasks_app import formats


@pytest.fixture(autouse=True)
def _english():
    with translation.override("en"):
        yield


COLUMNS = {"name": str, "timeout": int, "groups": list, "config": dict}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "name": TEXTS,
            "timeout": st.integers(-(2**31), 2**31),
            "groups": st.lists(TEXTS, max_size=3),
            "config": st.dictionaries(TEXTS, TEXTS, max_size=3),
        }
    ),
    max_size=4,
)


@pytest.mark.parametrize("name", ["json", "yaml"])
@given(rows=ROWS)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again(name, rows):
    assert formats.read_rows(formats.write_rows(rows, name, "tasks", COLUMNS), name) == rows


def test_a_workbook_holds_text_as_text_whatever_it_looks_like():
    rows = [
        {"name": text, "timeout": 5, "groups": ["a", "=b"], "config": {"command": "=1+1"}}
        for text in ("=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "0123", "2026-01-01", "数据")
    ]
    data = formats.write_rows(rows, "xlsx", "tasks", COLUMNS)
    cells = [cell for line in load_workbook(io.BytesIO(data)).active.iter_rows(min_row=2) for cell in line]
    assert {cell.data_type for cell in cells} == {"s", "n"}
    assert all(cell.quotePrefix for cell in cells if cell.data_type == "s")
    found = formats.read_rows(data, "xlsx")
    assert [row["name"] for row in found] == [row["name"] for row in rows]
    assert found[0] == {
        "name": "=HYPERLINK(1)", "timeout": 5, "groups": "a\n=b", "config": '{"command": "=1+1"}'
    }  # fmt: skip


@pytest.mark.parametrize("value", ["x" * 32_768, "bell\x07"])
def test_what_a_workbook_cannot_hold_is_refused_and_never_cut(value):
    row = {"name": value, "timeout": 1, "groups": [], "config": {}}
    with pytest.raises(InvalidInput) as error:
        formats.write_rows([row], "xlsx", "tasks", COLUMNS)
    assert "Row 2, name" in str(error.value.errors["format"])


def bomb_of_aliases():
    lines = ['a0: &a0 ["x"]'] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines).encode()


def workbook(change=None, formula=None):
    book = Workbook()
    book.active.append(["name", "timeout"])
    book.active.append(["job", formula or 20])
    out = io.BytesIO()
    book.save(out)
    if change is None:
        return out.getvalue()
    other = io.BytesIO()
    with zipfile.ZipFile(out) as source, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, change(part.filename, source.read(part)))
    return other.getvalue()


ENTITIES = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><worksheet>&a;</worksheet>'


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("json", b"{", "valid JSON"),
        ("json", b"\xff", "valid JSON"),
        ("json", b'{"tasks": [{"name": "a", "name": "b"}]}', "there twice"),
        ("json", b'[{"timeout": NaN}]', "NaN"),
        ("json", b'[{"timeout": 1e999}]', "no value"),
        ("json", b"[" * 100_000 + b"]" * 100_000, "nested"),
        ("json", b'[{"a":' * 30 + b"1" + b"}]" * 30, "nested"),
        ("json", b'[{"name": "\\ud800"}]', "no text"),
        ("json", b'[{"name": "\\u0000"}]', "no text"),
        ("json", b'{"tasks": 5}', "list of objects"),
        ("json", b"[1]", "list of objects"),
        ("json", b'[{"timeout": ' + b"9" * 5000 + b"}]", "valid JSON"),
        ("yaml", bomb_of_aliases(), "aliases"),
        ("yaml", b"[" * 1000 + b"]" * 1000, "nested"),
        ("yaml", b"- name: a\n  name: b", "there twice"),
        ("yaml", b"- !!python/object/apply:os.system ['true']", "valid YAML"),
        ("yaml", b"- {1: 2}", "must be text"),
        ("yaml", b"- {name: .nan}", "no value"),
        ("yaml", b"- {name: !!binary aGk=}", "no value"),
        ("yaml", b"- {name: !!set {a}}", "no value"),
        ("yaml", b"- {[a]: b}", "valid YAML"),
        ("yaml", b"- name: 'x", "valid YAML"),
        ("xlsx", b"no archive", "workbook"),
        ("xlsx", workbook(lambda name, data: b"<" if "sheet1" in name else data), "workbook"),
        ("xlsx", workbook(lambda name, data: b" " * 60_000_000 if "sheet1" in name else data), "unfolds"),
        ("xlsx", workbook(lambda name, data: ENTITIES if "sheet1" in name else data), "workbook"),
        ("xlsx", workbook(formula="=1+1"), "Row 2: formulas"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_words_and_at_once(name, data, words):
    begin = time.monotonic()
    with pytest.raises(InvalidInput) as error:
        formats.read_rows(data, name)
    assert words in error.value.errors["file"][0]
    assert time.monotonic() - begin < 5


def test_a_file_that_is_too_large_is_not_read():
    with pytest.raises(TooLarge, match="5 MB"):
        formats.read_rows(b" " * (formats.MAX_BYTES + 1), "json")


def test_rows_of_a_sheet_without_values_are_no_rows_and_whole_numbers_are_whole(monkeypatch):
    book = Workbook()
    for line in (["name", None, "timeout"], ["job", "x", 20.0], [None, None, None], ["other"]):
        book.active.append(line)
    out = io.BytesIO()
    book.save(out)
    assert formats.read_rows(out.getvalue(), "xlsx") == [
        {"name": "job", "timeout": 20},
        {"name": "other", "timeout": None},
    ]
    monkeypatch.setattr(formats, "MAX_ROWS", 2)
    with pytest.raises(InvalidInput):
        formats.read_rows(out.getvalue(), "xlsx")


def test_yaml_reads_moments_and_writes_scripts_as_blocks():
    (row,) = formats.read_rows(b"- {run_at: 2026-01-01 02:00:00+08:00}", "yaml")
    assert row["run_at"] == dt.datetime(2026, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    text = formats.write_rows([{"command": "a\nb\n"}], "yaml", "tasks", {"command": str}).decode()
    assert text == "tasks:\n- command: |\n    a\n    b\n"
    assert json.loads(formats.write_rows([{"a": 1}], "json", "tasks", {"a": int})) == {"tasks": [{"a": 1}]}
