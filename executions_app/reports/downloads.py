"""How a report's file is answered."""

from typing import BinaryIO

from django.http import FileResponse

from .choices import MEDIA_TYPES, Format
from .models import Report


def as_attachment(file: BinaryIO, report: Report) -> FileResponse:
    """The file, for saving; nothing on the way keeps it."""
    kind = MEDIA_TYPES[Format(report.format)]
    response = FileResponse(file, as_attachment=True, filename=report.file_name, content_type=kind)
    response["Cache-Control"] = "no-store"
    return response
