"""/api/v1/tasks/export and /api/v1/tasks/import: tasks as files."""

from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app import control
from quartzflow.api.parsers import FileParser
from quartzflow.api.requests import flag, user_of
from quartzflow.errors import InvalidInput
from tasks_app.exchange import counts, export_tasks, read_tasks
from tasks_app.formats import FORMATS, MAX_BYTES

from .serializers import ImportedSerializer, TaskFileSerializer

MEDIA_TYPES = {found.media_type: name for name, found in FORMATS.items()}


class _JsonFile(FileParser):
    media_type = FORMATS["json"].media_type
    most = MAX_BYTES


class _YamlFile(FileParser):
    media_type = FORMATS["yaml"].media_type
    most = MAX_BYTES


class _ExcelFile(FileParser):
    media_type = FORMATS["xlsx"].media_type
    most = MAX_BYTES


class ExchangeActions:
    """Endpoints of the task view set."""

    raw_actions = ("export",)  # answer files, without the envelope
    get_queryset: Any
    filter_queryset: Any

    @extend_schema(
        parameters=[OpenApiParameter("format", str, enum=list(FORMATS), default="json")],
        responses={
            (200, FORMATS["json"].media_type): TaskFileSerializer,
            (200, FORMATS["yaml"].media_type): OpenApiTypes.BINARY,
            (200, FORMATS["xlsx"].media_type): OpenApiTypes.BINARY,
        },
    )
    @action(detail=False, pagination_class=None)
    def export(self, request: Request) -> HttpResponse:
        """A file of the tasks that the list would show with the same filters; values under secret names are masked."""
        name = request.query_params.get("format", "json")
        if name not in FORMATS:
            raise InvalidInput({"format": [_("One of %(names)s.") % {"names": ", ".join(FORMATS)}]})
        tasks = self.filter_queryset(self.get_queryset()).order_by("name")
        data = export_tasks(user_of(request), tasks, name)
        return file_response(data, name)

    @extend_schema(
        parameters=[
            OpenApiParameter("dry_run", bool, description="Only tell what would be done."),
            OpenApiParameter("force", bool, description="Change tasks although they are executing."),
        ],
        request={
            FORMATS["json"].media_type: TaskFileSerializer,
            FORMATS["yaml"].media_type: OpenApiTypes.BINARY,
            FORMATS["xlsx"].media_type: OpenApiTypes.BINARY,
        },
        responses={200: ImportedSerializer},
        filters=False,
    )
    @action(
        detail=False,
        methods=["post"],
        url_path="import",
        parser_classes=[_JsonFile, _YamlFile, _ExcelFile],
        pagination_class=None,
    )
    def import_file(self, request: Request) -> Response:
        """Create and change tasks by a file, found by name: all of it, or, when a row is refused, nothing.

        A dry run answers 200 and tells of refused rows, too; otherwise one refused row answers 400.
        """
        dry_run, force = flag(request, "dry_run"), flag(request, "force")
        data = request.data if isinstance(request.data, bytes) else b""
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        rows = read_tasks(data, MEDIA_TYPES.get(media_type, "json"))
        outcomes = control.do_import_tasks(user_of(request), rows, dry_run=dry_run, force=force)
        refused = [outcome for outcome in outcomes if outcome.errors]
        if refused and not dry_run:
            raise InvalidInput(
                {f"tasks.{o.number}.{name}": texts for o in refused for name, texts in o.errors.items()}
            )
        found = {"applied": not dry_run, "counts": counts(outcomes), "rows": outcomes}
        return Response(ImportedSerializer(found).data, status=status.HTTP_200_OK)


def file_response(data: bytes, name: str) -> HttpResponse:
    """The file as a download."""
    found = FORMATS[name]
    response = HttpResponse(data, content_type=found.media_type)
    response["Content-Disposition"] = (
        f'attachment; filename="tasks-{timezone.localdate():%Y%m%d}{found.suffix}"'
    )
    response["Cache-Control"] = "no-store"
    return response
