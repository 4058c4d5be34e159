"""A report as a PDF: cover, contents, charts, tables with repeated heads, page numbers."""

from pathlib import Path
from typing import Any

import structlog
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from . import tables, words
from .choices import Dimension
from .figures import Figures
from .models import Report

log = structlog.get_logger(__name__)

ROWS = 200  # of a table: hundreds of pages would take minutes to draw and a gigabyte; a workbook has them all


class Unavailable(Exception):
    """This machine cannot draw PDF; the text says what to install."""


def write(figures: Figures, report: Report, path: Path) -> None:
    """In the language and time zone that are active. Raises Unavailable."""
    draw(figures, report, path)


def draw(figures: Figures, report: Report, target: Any) -> None:
    """`target`: a path or an open file."""
    weasyprint, words_ = _weasyprint(), context(figures, report)

    def refuse(url: str, *args: Any, **kwargs: Any) -> Any:
        """It may load nothing: names in it are data of many people."""
        raise ValueError(f"a report loads nothing: {url}")

    page = weasyprint.HTML(string=render_to_string("reports/pdf.html", words_), url_fetcher=refuse)
    style = weasyprint.CSS(string=render_to_string("reports/pdf.css", words_), url_fetcher=refuse)
    page.write_pdf(target, stylesheets=[style])


def _weasyprint() -> Any:
    # Here: it loads libraries of the system, which all the rest does without.
    try:
        import weasyprint
    except OSError as error:
        log.warning("PDF cannot be drawn", error=str(error))
        raise Unavailable(
            _(
                "PDF needs the system's Pango library (libpango-1.0-0, libpangoft2-1.0-0, libharfbuzz-subset0)."
            )
        ) from None
    return weasyprint


def context(figures: Figures, report: Report) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for dimension in report.dimensions:
        part: dict[str, Any] = {"id": dimension, "title": Dimension(dimension).label}
        if dimension == Dimension.REASON:
            part["reasons"] = tables.reasons(figures)
            part["failing"] = tables.failing(figures)
        elif dimension == Dimension.DAY:
            part["table"] = tables.days(figures)
            part["chart"] = tables.trend(part["table"])
        else:
            part["table"] = tables.table(figures, dimension, ROWS)
        parts.append(part)
    return {
        "language": get_language(),
        "report": report,
        "figures": figures,
        "key_figures": words.key_figures(figures),
        "note": words.note(figures),
        "labels": words.labels(),
        "parts": parts,
        "rows": ROWS,
        "built": timezone.localtime(),
        "page_words": _page_words(),
    }


def _page_words() -> list[str]:
    """What stands before, between and after the page's number and their count, which CSS counts."""
    before, rest = _("Page {page} of {pages}").split("{page}")
    return [before, *rest.split("{pages}")]
