"""Texts for people, in the language of their locale (English msgids, catalogues in locale/)."""

from __future__ import annotations

import gettext
import os
from pathlib import Path
from typing import List

DOMAIN = "quartzflow_agent"
LOCALE_DIRECTORY = Path(__file__).parent / "locale"


def languages() -> List[str]:
    """The languages that the environment asks for; any Chinese is served by the one catalogue there is."""
    for variable in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        wanted = os.environ.get(variable)
        if wanted:
            return ["zh_CN" if name.startswith("zh") else name for name in wanted.split(":")]
    return ["C"]


_ = gettext.translation(DOMAIN, LOCALE_DIRECTORY, languages(), fallback=True).gettext

# The command line's library has these of its own, in English, and asks gettext for others.
LIBRARY_TEXTS = (
    _("Options"),
    _("Arguments"),
    _("Commands"),
    _("Error"),
    _("Aborted."),
    _("[default: {}]"),
    _("[env var: {}]"),
    _("[required]"),
    _("Usage:"),
    _("Show this message and exit."),
    _("Missing option"),
    _("Missing argument"),
    _("Missing command."),
    _("No such option: {name}"),
    _("No such command {name!r}."),
    _("Invalid value for {param_hint}: {message}"),
    _("{value!r} is not a valid {number_type}."),
    _("{value} is not in the range {range}."),
    _("Try [blue]'{command_path} {help_option}'[/] for help."),
)


def translate_libraries() -> None:
    """Let libraries that use gettext's default domain find their texts in our catalogue."""
    gettext.bindtextdomain(DOMAIN, str(LOCALE_DIRECTORY))
    gettext.textdomain(DOMAIN)
