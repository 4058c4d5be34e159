"""How one user likes the console: language, time zone, theme, shortcuts (kept in tb_user_preference)."""

import zoneinfo
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from .errors import InvalidInput
from .models import UserPreference

THEMES = ("system", "light", "dark")
LANGUAGES = tuple(code for code, _name in settings.LANGUAGES)
FIELDS = ("language", "timezone", "theme", "shortcuts")


def time_zones() -> list[str]:
    """The zones one can choose, by name."""
    return sorted(
        name
        for name in zoneinfo.available_timezones()
        if "/" in name and not name.startswith(("Etc/", "posix", "right"))
    )


def check_preferences(data: dict[str, Any]) -> dict[str, Any]:
    """The values of `data` that may be stored. Raises InvalidInput naming each field that is wrong or unknown."""
    errors: dict[str, list[Any]] = {name: [_("Unknown field.")] for name in data if name not in FIELDS}
    allowed: dict[str, tuple[Any, ...]] = {
        "language": ("", *LANGUAGES),
        "theme": ("", *THEMES),
        "shortcuts": (True, False),
    }
    for name, choices in allowed.items():
        if name in data and data[name] not in choices:
            errors[name] = [_("Not one of the choices.")]
    if data.get("timezone") and data["timezone"] not in zoneinfo.available_timezones():
        errors["timezone"] = [_("There is no such time zone.")]
    if errors:
        raise InvalidInput(errors)
    return data


def do_save_preferences(user: User, data: dict[str, Any]) -> UserPreference:
    """Store what `data` names (of FIELDS). Raises InvalidInput."""
    row, _created = UserPreference.objects.update_or_create(user=user, defaults=check_preferences(data))
    return row
