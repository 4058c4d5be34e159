"""Texts for people, in the language of their locale (English msgids, catalogues in locale/)."""

from __future__ import annotations

import gettext
from pathlib import Path

DOMAIN = "quartzflow_agent"
LOCALE_DIRECTORY = Path(__file__).parent / "locale"

_translation = gettext.translation(DOMAIN, LOCALE_DIRECTORY, fallback=True)
_ = _translation.gettext
ngettext = _translation.ngettext
