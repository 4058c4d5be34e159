"""What the first requests to a process would otherwise wait for: code, addresses, templates, texts.

A page takes a second longer where it is the first of its process, and as long again where its templates are new.
"""

import time
from pathlib import Path

import structlog
from django.conf import settings
from django.template import Engine, TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template
from django.urls import get_resolver
from django.utils.translation import gettext, override

log = structlog.get_logger(__name__)


def warm() -> int:
    """Load all of it, before the process takes requests. Returns the number of templates."""
    begun = time.monotonic()
    found = 0
    for language, _name in settings.LANGUAGES:
        with override(language):
            gettext("Name")
            _ = get_resolver().reverse_dict  # the API's and the console's code comes with their addresses
    for directory in Engine.get_default().dirs:
        for path in sorted(Path(directory).rglob("*.html")):
            try:
                get_template(str(path.relative_to(directory)))
                found += 1
            except (
                TemplateDoesNotExist,
                TemplateSyntaxError,
            ) as error:  # its page will say so; the others work
                log.warning("template not loaded", template=path.name, error=str(error))
    log.info("ready", templates=found, seconds=round(time.monotonic() - begun, 2))
    return found
