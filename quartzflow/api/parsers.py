"""What the API reads: JSON with bounds, and files as they are."""

import json
from collections.abc import Mapping
from typing import IO, Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from quartzflow.errors import TooLarge

MAX_BODY = 2 * 1024 * 1024  # bytes
MAX_DEPTH = 30


def _read(stream: IO[Any], most: int) -> bytes:
    data: bytes = stream.read(most + 1)
    if len(data) > most:
        raise TooLarge(_("The request is larger than %(size)s MB.") % {"size": most // 1024 // 1024})
    return data


class BoundedJSONParser(BaseParser):
    """JSON of at most MAX_BODY bytes that databases can hold: no NaN, no half characters, no NUL."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Raises ParseError, TooLarge."""
        data = _read(stream, MAX_BODY)
        try:
            found = json.loads(data.decode(), parse_constant=_refuse)
            _check(found, 0)
        except (ValueError, RecursionError) as error:
            raise ParseError(_("The body is not valid JSON: %(error)s") % {"error": error}) from None
        return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no JSON value")


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value):
            raise ValueError("a text with NUL or half a character")
    elif isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            raise ValueError("a number without end")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth + 1)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)


class FileParser(BaseParser):
    """The body's bytes. Subclasses name the media type and `most`, the bytes that are read."""

    most = MAX_BODY

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Raises TooLarge."""
        return _read(stream, self.most)
