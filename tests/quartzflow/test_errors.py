"""The codes of the API's errors."""

import re
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from quartzflow.api import urls  # noqa: F401 - whatever the API answers with is loaded then
from quartzflow.api.errors import CODES
from quartzflow.errors import Code, QuartzError

ROW = re.compile(r"^\| (\d{4}) \| (\d{3}|any) \| \S", re.MULTILINE)


def kinds(base: type[QuartzError] = QuartzError) -> Iterator[type[QuartzError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def statuses() -> dict[Code, set[str]]:
    """code → the HTTP statuses that it comes with."""
    found: dict[Code, set[str]] = {code: {str(status)} for status, code in CODES.items()}
    for kind in kinds():
        found.setdefault(kind.code, set()).add(str(kind.http_status))
    found[Code.OTHER] = {"any"}
    return found


def test_each_kind_of_error_has_a_code_of_its_own():
    owners: dict[int, str] = {}
    for kind in kinds():
        if "code" in vars(kind):
            assert isinstance(kind.code, Code), kind
            assert owners.setdefault(kind.code, kind.__name__) == kind.__name__
    assert len(owners) > 10


def test_every_code_is_used_and_the_documentation_has_each_with_its_status():
    found = statuses()
    assert set(found) == set(Code)
    text = (Path(settings.BASE_DIR) / "docs" / "api.md").read_text()
    rows = ROW.findall(text)
    assert [int(code) for code, _status in rows] == sorted(Code)
    assert {int(code): {status} for code, status in rows} == found
