"""Values in HTTP requests: each goes where it is put as text, quoted for that place, so that it stays one piece."""

from __future__ import annotations

import json
import re
from typing import Callable, Optional, Set
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

from quartzflow_agent.substitution import (
    Placeholder,
    SubstitutionError,
    gettext_noop,
    placeholders,
    rewrite,
)

Lookup = Callable[[Placeholder], Optional[str]]  # None: leave the placeholder as it stands
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_JSON_TYPE = re.compile(r"application/json|[^;]*\+json", re.IGNORECASE)
_XML_TYPE = re.compile(r"(text|application)/(xml|html)|[^;]*\+xml", re.IGNORECASE)
_FORM_TYPE = re.compile(r"application/x-www-form-urlencoded", re.IGNORECASE)
_SCALAR = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?|true|false|null")


def check_url(url: str) -> None:
    """Raise SubstitutionError for a placeholder in what says where the request goes."""
    end = re.search(r"[/?#]", url[url.find("//") + 2 :] if "//" in url else "")
    authority = len(url) if end is None else url.find("//") + 2 + end.start()
    for one in placeholders(url):
        if one.start < authority:
            raise SubstitutionError(
                gettext_noop("%(text)s: scheme, host and port of the address are fixed; use it behind them."),
                text=one.text,
            )


def fill_url(url: str, lookup: Lookup) -> str:
    """The address, values percent-encoded. Raises SubstitutionError."""
    check_url(url)
    filled = rewrite(url, _filling(lookup, lambda value: quote(value, safe="")))
    if _relative(filled) != _relative(url):
        raise SubstitutionError(
            gettext_noop("A part of the address's path would be . or .. and lead elsewhere.")
        )
    return filled


def _relative(url: str) -> int:
    """How many parts of the path mean this or the upper directory."""
    return sum(part in (".", "..") for part in re.split(r"[?#]", url, maxsplit=1)[0].split("/"))


def fill_header(value: str, lookup: Lookup) -> str:
    """A header's value. Raises SubstitutionError for a value with control characters."""

    def one_line(text: str) -> str:
        if _CONTROL.search(text):
            raise SubstitutionError(
                gettext_noop("A header's value has to be one line without control characters.")
            )
        return text

    return rewrite(value, _filling(lookup, one_line))


def fill_body(body: str, content_type: str, lookup: Lookup) -> str:
    """The body, values quoted as its content type asks for. Raises SubstitutionError.

    JSON: within a text, escaped; elsewhere numbers, true, false and null as they are, anything else as a text. Without
    a content type, what begins with { or [ is taken as JSON. Forms: percent-encoded. XML and HTML: escaped. Plain
    text: as it is. Any other type takes no values.
    """
    kind = content_type.strip()
    if _JSON_TYPE.match(kind) or (not kind and body.lstrip()[:1] in ("{", "[")):
        return _fill_json(body, lookup)
    if _FORM_TYPE.match(kind):
        return rewrite(body, _filling(lookup, quote_plus))
    if _XML_TYPE.match(kind):
        return rewrite(body, _filling(lookup, lambda value: escape(value, {'"': "&quot;", "'": "&#39;"})))
    if not kind or kind.lower().startswith("text/plain"):
        return rewrite(body, _filling(lookup, str))
    for one in placeholders(body):
        if lookup(one) is not None:
            raise SubstitutionError(
                gettext_noop("%(text)s is not filled in for a body of the type %(type)s."),
                text=one.text,
                type=kind,
            )
    return body


def _fill_json(body: str, lookup: Lookup) -> str:
    within: Set[int] = set()  # starts of the placeholders in a JSON text
    inside, position = False, 0
    at = {one.start: one for one in placeholders(body)}
    while position < len(body):
        if position in at:
            if inside:
                within.add(position)
            position = at[position].end
            continue
        if body[position] == "\\" and inside and position + 1 not in at:
            position += 1
        elif body[position] == '"':
            inside = not inside
        position += 1

    def fill(one: Placeholder) -> str:
        value = lookup(one)
        if value is None:
            return body[one.start : one.end]
        if one.start in within:
            if body[: one.start].endswith("\\"):
                raise SubstitutionError(gettext_noop("%(text)s stands behind a backslash."), text=one.text)
            return json.dumps(value)[1:-1]
        return value if _SCALAR.fullmatch(value) else json.dumps(value)

    return rewrite(body, fill)


def _filling(lookup: Lookup, quoting: Callable[[str], str]) -> Callable[[Placeholder], str]:
    def fill(one: Placeholder) -> str:
        value = lookup(one)
        return f"{{{{ {one.namespace}.{one.name} }}}}" if value is None else quoting(value)

    return fill
