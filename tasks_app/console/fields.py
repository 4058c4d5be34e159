"""Kinds of fields that the console's forms of tasks have beside Django's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.utils.translation import gettext as _

CODE = {"class": "code", "spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}


class NamedTexts(forms.CharField):
    """Names and values, one pair a line. A value in quotes is JSON text, so that it can hold line breaks."""

    widget = forms.Textarea

    def __init__(self, *, separator: str = "=", typed: bool = False, **kwargs: Any) -> None:
        self.separator = separator
        self.typed = typed  # unquoted numbers, true and false are values of their own
        super().__init__(required=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        joint = ": " if self.separator == ":" else self.separator
        return "\n".join(f"{name}{joint}{self._written(item)}" for name, item in value.items())

    def _written(self, value: Any) -> str:
        if not isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        plain = not self.typed or self._read(value) == value
        if plain and "\n" not in value and not value.startswith('"') and value == value.strip():
            return value
        return json.dumps(value, ensure_ascii=False)

    def _read(self, text: str) -> Any:
        if text.startswith('"') or self.typed:
            try:
                return json.loads(text)
            except ValueError:
                return text
        return text

    def to_python(self, value: Any) -> dict[str, Any]:  # type: ignore[override]
        pairs: dict[str, Any] = {}
        for number, line in enumerate(str(value or "").splitlines(), 1):
            if not line.strip():
                continue
            name, found, text = line.partition(self.separator)
            if not found or not name.strip():
                example = f"NAME{self.separator}value"
                raise forms.ValidationError(
                    _("Line %(number)s: write it as %(example)s.") % {"number": number, "example": example}
                )
            pairs[name.strip()] = self._read(text.strip())
        return pairs


class SelectorTexts(NamedTexts):
    """Labels that a host must have: a name and its value, or several that do, with commas between."""

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return super().prepare_value(
            {
                name: ", ".join(wanted) if isinstance(wanted, list) else wanted
                for name, wanted in value.items()
            }
        )

    def to_python(self, value: Any) -> dict[str, Any]:  # type: ignore[override]
        found: dict[str, Any] = {}
        for name, text in super().to_python(value).items():
            texts = [part.strip() for part in str(text).replace("，", ",").split(",") if part.strip()]
            found[name] = texts if len(texts) > 1 else "".join(texts)
        return found


class WallClock(forms.CharField):
    """A date and time without a zone, as the browser's own picker gives it."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return value.strftime("%Y-%m-%dT%H:%M:%S") if isinstance(value, datetime) else value

    def to_python(self, value: Any) -> datetime | None:  # type: ignore[override]
        if not value:
            return None
        try:
            return datetime.fromisoformat(str(value)).replace(tzinfo=None)
        except ValueError as error:
            raise forms.ValidationError(_("Not a date and time.")) from error


class StatusCodes(forms.CharField):
    """HTTP status codes, separated by commas."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[int]:  # type: ignore[override]
        try:
            return [int(part) for part in str(value or "").replace("，", ",").split(",") if part.strip()]
        except ValueError as error:
            raise forms.ValidationError(_("Write numbers such as 200, 204.")) from error


def number(label: Any, low: int, high: int, help_text: Any = "") -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=low, max_value=high, help_text=help_text)


class ExplainedChoice(forms.ChoiceField):
    """A choice of which each value is explained in words; the form shows those of the chosen one."""

    def __init__(self, *, explanations: Mapping[Any, Any], **kwargs: Any) -> None:
        self.explanations = explanations
        super().__init__(**kwargs)


class DependencyRows(forms.Widget):
    """Two inputs a row, name and condition, each sent once for every row; templates/console draws them."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, str]]:
        def sent(key: str) -> list[str]:
            return list(data.getlist(key)) if hasattr(data, "getlist") else list(data.get(key, ()))

        names, conditions = sent(f"{name}_task"), sent(f"{name}_condition")
        return [
            {"name": task.strip(), "condition": condition}
            for task, condition in zip(names, conditions, strict=False)
            if task.strip()
        ]


class Dependencies(forms.Field):
    """The tasks that a task runs after, by name: [{"name": …, "condition": …}]."""

    widget = DependencyRows

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)
