"""Hiding secrets in what executions print: the values that the server has sent with them, however they are written."""

from __future__ import annotations

import json
import re
from typing import Iterable, List, Set
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

from quartzflow_agent.protocol import task_pb2

SETTING = "secrets"  # of every executor: JSON object of names and values
MASK = "••••••"


def secrets_of(instruction: task_pb2.TaskExecution) -> List[str]:
    """The values of an execution's secrets; none for a setting that cannot be read, which the executor refuses."""
    try:
        found = json.loads(instruction.executor_config.get(SETTING, "") or "{}")
    except ValueError:
        return []
    return [value for value in found.values() if isinstance(value, str)] if isinstance(found, dict) else []


class Mask:
    """Replaces texts in others."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: Set[str] = set()
        for secret in secrets:
            forms |= {
                secret,
                secret.strip(),
                json.dumps(secret)[1:-1],
                json.dumps(secret, ensure_ascii=False)[1:-1],
                quote(secret, safe=""),
                quote_plus(secret),
                escape(secret),
            }
        # Longer ones first: one may begin another.
        self._forms = sorted(filter(None, forms), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._forms))) if self._forms else None

    def whole(self, text: str) -> str:
        """A text that is complete."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def stream(self) -> "MaskedStream":
        """For a text that comes in pieces."""
        return MaskedStream(self)

    def open_end(self, text: str) -> int:
        """Where the text's end begins that may yet become a secret; its length where none may."""
        longest = 0
        for form in self._forms:
            for size in range(min(len(form) - 1, len(text)), longest, -1):
                if text.endswith(form[:size]):
                    longest = size
                    break
        return len(text) - longest


class MaskedStream:
    """Keeps back the end of what has come as long as it may be the beginning of a secret."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._held = ""

    def feed(self, text: str, final: bool = False) -> str:
        """What may be shown now. final: nothing more comes."""
        pattern = self._mask._pattern
        if pattern is None:
            return text
        text = self._held + text
        held_from = len(text) if final else self._mask.open_end(text)
        parts: List[str] = []
        position = 0
        for match in pattern.finditer(text):
            if match.start() >= held_from:
                break
            parts += [text[position : match.start()], MASK]
            position = match.end()
        held_from = max(held_from, position)
        self._held = text[held_from:]
        return "".join([*parts, text[position:held_from]])
