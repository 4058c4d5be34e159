"""/api/v1/tasks/<id>/versions: the history of a task's definition."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app import control
from quartzflow.api.requests import get_or_404, known, user_of
from quartzflow.errors import InvalidInput
from tasks_app.models import TaskVersion
from tasks_app.versions import compare, get_version, shown, versions_of

from .serializers import (
    DiffSerializer,
    ForceSerializer,
    FullVersionSerializer,
    TaskSerializer,
    VersionSerializer,
)


class VersionActions:
    """Endpoints of the task view set."""

    get_queryset: Any
    paginate_queryset: Any
    get_paginated_response: Any
    _answer: Any

    @extend_schema(responses=VersionSerializer(many=True), filters=False)
    @action(detail=True)
    def versions(self, request: Request, pk: str) -> Response:
        """Newest first. What a task was before the first change that is kept is its version 1."""
        page = self.paginate_queryset(versions_of(get_or_404(self.get_queryset(), pk)))
        answer: Response = self.get_paginated_response(VersionSerializer(page, many=True).data)
        return answer

    @extend_schema(responses=FullVersionSerializer)
    @action(detail=True, url_path=r"versions/(?P<number>\d{1,9})")
    def version(self, request: Request, pk: str, number: str) -> Response:
        """One version, with what the task was."""
        version = self._version(request, pk, number)
        version.definition = shown(user_of(request), [version.definition])[0]
        return Response(FullVersionSerializer(version).data)

    @extend_schema(
        parameters=[
            OpenApiParameter("from", int, required=True),
            OpenApiParameter("to", int, description="The newest by default."),
        ],
        responses=DiffSerializer,
        filters=False,
    )
    @action(detail=True, url_path="versions/diff", pagination_class=None)
    def diff(self, request: Request, pk: str) -> Response:
        """What differs between two versions, field by field."""
        task = get_or_404(self.get_queryset(), pk)
        before = get_version(task, _number(request, "from"))
        newest = versions_of(task)[0]
        after = get_version(task, _number(request, "to")) if "to" in request.query_params else newest
        changes = compare(user_of(request), before.definition, after.definition)
        return Response(DiffSerializer({"before": before, "after": after, "changes": changes}).data)

    @extend_schema(request=ForceSerializer, responses={200: TaskSerializer})
    @action(detail=True, methods=["post"], url_path=r"versions/(?P<number>\d{1,9})/restore")
    def restore(self, request: Request, pk: str, number: str) -> Response:
        """Make the task again what it was, as an edit that is a version of its own. Its status stays as it is."""
        task, body = get_or_404(self.get_queryset(), pk), known(request, {"force"})
        if not isinstance(body.get("force", False), bool):
            raise InvalidInput({"force": [_("Must be true or false.")]})
        control.do_restore_task(user_of(request), task, int(number), force=body.get("force", False))
        answer: Response = self._answer(task.pk)
        return answer

    def _version(self, request: Request, pk: str, number: str) -> TaskVersion:
        return get_version(get_or_404(self.get_queryset(), pk), int(number))


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput({name: [_("The number of a version.")]})
    return int(text)
