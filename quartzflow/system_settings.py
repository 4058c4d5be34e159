"""System settings: what an administrator may change while the product runs (FR-6.5).

A setting is declared once, by `register`, with its type, bounds and words; forms, API and checks are made from that.
Its value is what somebody has stored; else its default, which may come from an environment variable. Every process
looks at the stored values again after REFRESH seconds, so that a change is in force everywhere without a restart.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from .audit import record
from .errors import InvalidInput, NotAllowed
from .models import SystemSetting
from .permissions import User

REFRESH = 2.0  # seconds that a process believes what it has read
MAX_TEXT = 1000  # characters
MAX_LINES = 200
SECTIONS: dict[str, Any] = {
    "limits": _lazy("Limits"),
    "scheduling": _lazy("Scheduling"),
    "tasks": _lazy("New tasks"),
    "retention": _lazy("Retention"),
    "security": _lazy("Security"),
    "alerts": _lazy("Alerts"),
    "reports": _lazy("Reports"),
}

T = TypeVar("T")


class _Wrong(Exception):
    """The value's fault, in words."""


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One setting. `value` is what is in force."""

    name: str
    section: str  # a key of SECTIONS
    kind: type  # int, float, bool, str, or list (of lines of text)
    default: T | Callable[[], T]  # a callable is asked each time
    label: Any
    help: Any = ""
    unit: Any = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[tuple[Any, Any], ...] = ()  # (value, words); no others are allowed
    # A further look at a value of the right type: returns it as it is to be stored, raises ValueError with words.
    check: Callable[[T], T] | None = None

    @property
    def value(self) -> T:
        stored = _stored()
        # Not get(…, default): a default may cost something.
        return stored[self.name] if self.name in stored else self.default_value  # noqa: SIM401

    @property
    def default_value(self) -> T:
        return self.default() if callable(self.default) else self.default

    def clean(self, value: Any) -> T:
        """The value as it may be stored. Raises ValueError with words for people."""
        try:
            found: T = _CHECKS[self.kind](self, value)
        except _Wrong as error:
            raise ValueError(str(error)) from None
        if self.choices and found not in [choice for choice, _words in self.choices]:
            raise ValueError(_("Not one of the choices."))
        return self.check(found) if self.check else found


_registry: dict[str, Setting[Any]] = {}


def register(setting: Setting[T]) -> Setting[T]:
    """Declare a setting, when its module is loaded. Raises ValueError for a name that is taken."""
    if setting.name in _registry:
        raise ValueError(f"there is a setting {setting.name!r} already")
    _registry[setting.name] = setting
    return setting


def registered() -> list[Setting[Any]]:
    """All settings, in the order of SECTIONS, then as they were declared."""
    order = list(SECTIONS)
    return sorted(_registry.values(), key=lambda setting: order.index(setting.section))


def get(name: str) -> Any:
    """The value in force, of the setting's type. Raises KeyError for a name that nobody has registered."""
    return _registry[name].value


@dataclass
class _Cache:
    values: dict[str, Any] = field(default_factory=dict)
    fresh_until: float = float("-inf")  # time.monotonic()


_cache = _Cache()


def _stored() -> dict[str, Any]:
    """What is stored, at most REFRESH seconds old. The table is so small that reading it costs no more than asking
    whether it has changed."""
    global _cache
    if time.monotonic() >= _cache.fresh_until:
        values = dict(SystemSetting.objects.values_list("name", "value"))
        _cache = _Cache(values, time.monotonic() + REFRESH)
    return _cache.values


def forget() -> None:
    """Read anew when somebody asks next."""
    global _cache
    _cache = _Cache()


def assume(values: Mapping[str, Any]) -> None:
    """For tests: believe these values, unread, until `forget`."""
    global _cache
    _cache = _Cache(dict(values), float("inf"))


@dataclass(frozen=True)
class State:
    """How one setting stands, for pages and API."""

    setting: Setting[Any]
    value: Any
    changed: bool  # stored, not the default
    updated_at: datetime | None
    updated_by: str


def check_view(user: User) -> None:
    """Raises NotAllowed unless the user may see the settings."""
    if not user.has_perm("quartzflow.view_systemsetting") and not may_change(user):
        raise NotAllowed


def may_change(user: User) -> bool:
    return user.has_perm("quartzflow.change_systemsetting")


def states(user: User) -> list[State]:
    """Every setting with its value as it is stored now. Raises NotAllowed."""
    check_view(user)
    rows = SystemSetting.objects.in_bulk()
    return [
        State(setting, row.value, True, row.updated_at, row.updated_by)
        if (row := rows.get(setting.name))
        else State(setting, setting.default_value, False, None, "")
        for setting in registered()
    ]


def check_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they may be stored; None: back to the default. Raises InvalidInput naming each wrong field."""
    errors: dict[str, list[Any]] = {}
    cleaned: dict[str, Any] = {}
    for name, value in data.items():
        setting = _registry.get(name)
        if setting is None:
            errors[name] = [_("There is no such setting.")]
            continue
        try:
            cleaned[name] = None if value is None else setting.clean(value)
        except ValueError as error:
            errors[name] = [str(error)]
    if errors:
        raise InvalidInput(errors)
    return cleaned


def do_change_settings(user: User, data: Mapping[str, Any]) -> list[str]:
    """Store what `data` names; None goes back to the default. In force everywhere within REFRESH seconds.

    Returns the names of what changed. Raises InvalidInput, NotAllowed.
    """
    if not may_change(user):
        raise NotAllowed
    cleaned = check_settings(data)
    with transaction.atomic():
        rows = SystemSetting.objects.select_for_update().in_bulk(list(cleaned))
        changed = []
        for name, value in cleaned.items():
            setting, row = _registry[name], rows.get(name)
            before = row.value if row else setting.default_value
            after = setting.default_value if value is None else value
            if value is None:
                SystemSetting.objects.filter(name=name).delete()
            elif row is None or row.value != value:
                SystemSetting.objects.update_or_create(
                    name=name, defaults={"value": value, "updated_by": user.get_username()[:150]}
                )
            if before != after:
                changed.append(name)
                record(user, "setting.update", None, {name: [before, after]}, name=name)
        forget()  # for the rest of this transaction
        transaction.on_commit(forget)
    return changed


# --- the kinds of values ---


def _integer(setting: Setting[Any], value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong(_("Must be a whole number."))
    return int(_within(setting, value))


def _number(setting: Setting[Any], value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise _Wrong(_("Must be a number."))
    return float(_within(setting, value))


def _within(setting: Setting[Any], value: float) -> float:
    low, high = setting.minimum, setting.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise _Wrong(_("Must be from %(low)s to %(high)s.") % {"low": low, "high": high})
    return value


def _switch(setting: Setting[Any], value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(_("Must be true or false."))
    return value


def _text(setting: Setting[Any], value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise _Wrong(_("Must be text."))
    if len(value) > MAX_TEXT:
        raise _Wrong(_("At most %(count)s characters.") % {"count": MAX_TEXT})
    return value.strip()


def _lines(setting: Setting[Any], value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _Wrong(_("Must be a list of texts."))
    if len(value) > MAX_LINES:
        raise _Wrong(_("At most %(count)s lines.") % {"count": MAX_LINES})
    return [line for item in value if (line := _text(setting, item))]


_CHECKS: dict[type, Callable[[Setting[Any], Any], Any]] = {
    int: _integer,
    float: _number,
    bool: _switch,
    str: _text,
    list: _lines,
}
