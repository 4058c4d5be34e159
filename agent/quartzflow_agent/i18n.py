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
