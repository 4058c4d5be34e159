"""/api/v1/replays: running a task for the times of a past window; /api/v1/missed: firings that did not happen."""

from datetime import datetime
from typing import Any

import django_filters
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app import control
from executions_app.models import MissedFiring, Replay
from executions_app.replays import do_cancel_replay, do_start_replay, preview, progress
from quartzflow.api.fields import ModelSerializer, UtcDateTimeField
from quartzflow.api.filters import IntegerFilter
from quartzflow.api.requests import get_or_404, known, user_of
from quartzflow.errors import InvalidInput
from quartzflow.permissions import visible
from tasks_app.models import Task

from .descriptions import ProgressSerializer, ReplayPreviewSerializer, ReplayWriteSerializer

FIELDS = ("task_id", "begin", "end", "parallel", "dry_run")


class ReplaySerializer(ModelSerializer[Replay]):
    task_id = serializers.IntegerField(read_only=True)
    progress = serializers.SerializerMethodField()

    class Meta:
        model = Replay
        fields = [
            "id", "task_id", "begin", "end", "parallel", "status", "created_by", "created_at", "ended_at", "progress",
        ]  # fmt: skip

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, replay: Replay) -> dict[str, Any]:
        """Times in all, fired and found existing; executions by status."""
        return {**progress(replay)}


class ReplayFilter(django_filters.FilterSet):
    task_id = IntegerFilter(field_name="task_id")

    class Meta:
        model = Replay
        fields: list[str] = []


class ReplayViewSet(viewsets.GenericViewSet[Replay]):
    """Replays: list, start (or only preview), progress, cancel."""

    serializer_class = ReplaySerializer
    filterset_class = ReplayFilter
    queryset = Replay.objects.none()

    def get_queryset(self) -> Any:
        return Replay.objects.filter(task__in=visible(user_of(self.request), Task.objects.all()))

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(
        request=ReplayWriteSerializer,
        responses={
            201: ReplaySerializer,
            200: OpenApiResponse(ReplayPreviewSerializer, "Of a dry run"),
        },
    )
    def create(self, request: Request) -> Response:
        """`dry_run`: true only tells how many times there are, and how many of them have executions already."""
        user, body = user_of(request), known(request, FIELDS)
        if not isinstance(body.get("dry_run", False), bool):
            raise InvalidInput({"dry_run": [_("Must be true or false.")]})
        task = get_or_404(visible(user, Task.objects.select_related("calendar")), body.get("task_id"))
        begin, end = _moment(body, "begin"), _moment(body, "end")
        if body.get("dry_run"):
            found = preview(user, task, begin, end)
            times = [UtcDateTimeField().to_representation(moment) for moment in found["times"]]
            return Response({**found, "times": times})
        replay = do_start_replay(user, task, begin, end, body.get("parallel", 10))
        return Response(self.get_serializer(replay).data, status=status.HTTP_201_CREATED)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(get_or_404(self.get_queryset(), pk)).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Fire no more of it, and cancel what of it waits or runs."""
        replay = get_or_404(self.get_queryset().select_related("task"), pk)
        if live := do_cancel_replay(user_of(request), replay):
            control.do_cancel_executions(user_of(request), live)
        return self.retrieve(request, pk)


def _moment(body: dict[str, Any], name: str) -> datetime:
    try:
        found: datetime = serializers.DateTimeField().to_internal_value(str(body.get(name)))
    except serializers.ValidationError:
        raise InvalidInput({name: [_("Must be a moment such as 2025-01-10T02:00:00Z.")]}) from None
    return found


class MissedFiringSerializer(ModelSerializer[MissedFiring]):
    class Meta:
        model = MissedFiring
        fields = [
            "id",
            "task_id",
            "task_name",
            "first_time",
            "last_time",
            "count",
            "detected_at",
            "resolved_at",
        ]


class MissedFiringFilter(django_filters.FilterSet):
    task_id = IntegerFilter(field_name="task_id")
    resolved = django_filters.BooleanFilter(field_name="resolved_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = MissedFiring
        fields: list[str] = []


class MissedFiringViewSet(viewsets.GenericViewSet[MissedFiring]):
    """Firings that should have been and left no execution, newest first."""

    serializer_class = MissedFiringSerializer
    filterset_class = MissedFiringFilter
    queryset = MissedFiring.objects.none()

    def get_queryset(self) -> Any:
        return MissedFiring.objects.filter(
            task_id__in=visible(user_of(self.request), Task.objects.all()).values("pk")
        )

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)
