"""Label selectors: which hosts a task or a rule means, by their labels."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

Selector = Mapping[str, str | list[str]]  # label → the value it must have, or one of those

MAX_LABELS = 20
MAX_VALUES = 100


def check_selector(value: Any) -> list[str]:
    """What is wrong with a selector such as {"env": "prod", "role": ["web", "db"]}; nothing: it is good."""
    if not isinstance(value, dict):
        return [
            _("Must be an object such as %(example)s.")
            % {"example": '{"env": "prod", "role": ["web", "db"]}'}
        ]
    if len(value) > MAX_LABELS:
        return [_("At most %(count)s labels.") % {"count": MAX_LABELS}]
    return [
        _("%(name)s: must be a text, or a list of texts.") % {"name": name}
        for name, wanted in value.items()
        if not isinstance(wanted, str)
        and not (
            isinstance(wanted, list)
            and 0 < len(wanted) <= MAX_VALUES
            and all(isinstance(text, str) for text in wanted)
        )
    ]


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a host with these labels has every label that is asked for."""
    return all(
        labels.get(name) == wanted if isinstance(wanted, str) else labels.get(name) in wanted
        for name, wanted in selector.items()
    )
