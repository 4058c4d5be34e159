"""Placeholders in a task's settings: `{{ params.NAME }}` and `{{ secrets.NAME }}`, and nothing else.

There is no expression, no filter and no way to nest them; what is put in is never read for placeholders again. Any
other text in double braces is left as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Set, Tuple

PARAMS, SECRETS = "params", "secrets"
_BEGIN = re.compile(r"\{\{[ \t]*(params|secrets)\b")
_WHOLE = re.compile(r"\{\{[ \t]*(params|secrets)\.([A-Za-z_][A-Za-z0-9_]{0,63})[ \t]*\}\}")


def gettext_noop(message: str) -> str:
    """Mark a text for the catalogue; the server translates it when it shows the error."""
    return message


class SubstitutionError(ValueError):
    """A placeholder that cannot be filled in.

    message: a msgid with %(name)s placeholders
    params:  the values for the placeholders
    """

    def __init__(self, message: str, **params: Any) -> None:
        self.message = message
        self.params = params
        super().__init__(self.render())

    def render(self, gettext: Callable[[str], str] = gettext_noop) -> str:
        """The full text, in the language of `gettext`."""
        return gettext(self.message) % self.params


@dataclass(frozen=True)
class Placeholder:
    """One placeholder, where it stands in its text."""

    namespace: str  # PARAMS or SECRETS
    name: str
    start: int
    end: int  # behind its closing braces

    @property
    def text(self) -> str:
        """As people write it."""
        return f"{{{{ {self.namespace}.{self.name} }}}}"


def placeholders(text: str) -> List[Placeholder]:
    """The placeholders of a text, in order. Raises SubstitutionError for one that is not written as it must be."""
    found: List[Placeholder] = []
    for begin in _BEGIN.finditer(text):
        whole = _WHOLE.match(text, begin.start())
        if whole is None:
            raise SubstitutionError(
                gettext_noop("%(start)s …: a placeholder is written {{ %(namespace)s.NAME }}."),
                start=text[begin.start() : begin.start() + 24].splitlines()[0],
                namespace=begin.group(1),
            )
        found.append(Placeholder(whole.group(1), whole.group(2), whole.start(), whole.end()))
    return found


def find(text: str) -> Set[Tuple[str, str]]:
    """The (namespace, name) pairs that a text asks for. Raises SubstitutionError."""
    return {(one.namespace, one.name) for one in placeholders(text)}


def replace(text: str, lookup: Callable[[str, str], Optional[str]], quote: Callable[[str], str] = str) -> str:
    """The text with its placeholders filled in, in one pass.

    lookup: the value for (namespace, name); None leaves the placeholder as it stands
    quote:  makes the value safe where it goes

    Raises SubstitutionError.
    """

    def fill(one: Placeholder) -> str:
        value = lookup(one.namespace, one.name)
        return text[one.start : one.end] if value is None else quote(value)

    return rewrite(text, fill)


def rewrite(text: str, fill: Callable[[Placeholder], str]) -> str:
    """The text with what `fill` gives in the place of each placeholder. Raises SubstitutionError."""
    parts: List[str] = []
    end = 0
    for one in placeholders(text):
        parts += [text[end : one.start], fill(one)]
        end = one.end
    return "".join([*parts, text[end:]])
