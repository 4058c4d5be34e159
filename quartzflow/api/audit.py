"""/api/v1/audit: who did what. Reads only, for those who may see the audit log."""

from typing import Any

import django_filters
from django.http import StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from quartzflow import audit_export, audit_search
from quartzflow.audit_export import FORMATS
from quartzflow.errors import InvalidInput, NotAllowed
from quartzflow.models import AuditEntry

from .fields import ModelSerializer
from .requests import get_or_404, user_of

KINDS = list(FORMATS)


class AuditSerializer(ModelSerializer[AuditEntry]):
    """One entry. `changes`: field → value, or field → [before, after]; secrets are masked."""

    changes = serializers.DictField(read_only=True)

    class Meta:
        model = AuditEntry
        fields = [
            "id", "at", "actor_id", "actor_name", "address", "request_id", "action", "object_type", "object_id",
            "object_name", "changes", "hash",
        ]  # fmt: skip


class AuditFilter(django_filters.FilterSet):
    is_part = False  # there are older entries which were not looked at

    actor = django_filters.CharFilter(field_name="actor_name", help_text="A user name, whole.")
    action = django_filters.CharFilter(
        method="by_action", help_text="Such as task.update; task. for all that begin so."
    )
    object_type = django_filters.CharFilter(field_name="object_type", help_text="Such as tasks_app.task.")
    object_id = django_filters.CharFilter(field_name="object_id")
    address = django_filters.CharFilter(field_name="address")
    request_id = django_filters.CharFilter(field_name="request_id")
    since = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte")
    until = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="lt")
    # The last: it looks at what the others leave.
    object_name = django_filters.CharFilter(
        method="by_name",
        help_text="A part of it. Without a trigram index, and for less than three characters, among the newest"
        f" {audit_search.LOOKED_AT} entries.",
    )

    class Meta:
        model = AuditEntry
        fields: list[str] = []

    def by_action(self, queryset: Any, name: str, value: str) -> Any:
        return audit_search.by_action(queryset, value)

    @property
    def order(self) -> tuple[str, ...]:
        by_time = self.data.get("since") or self.data.get("until")
        return audit_search.BY_TIME if by_time else audit_search.BY_NUMBER

    def filter_queryset(self, queryset: Any) -> Any:
        return super().filter_queryset(queryset).order_by(*self.order)

    def by_name(self, queryset: Any, name: str, value: str) -> Any:
        rows, self.is_part = audit_search.looked_at(queryset, value, self.order)
        return rows.filter(object_name__icontains=value)


class AuditViewSet(viewsets.GenericViewSet[AuditEntry]):
    """The audit log: search, one entry, export."""

    raw_actions = ("export",)  # answers a file, without the envelope
    serializer_class = AuditSerializer
    filterset_class = AuditFilter
    queryset = AuditEntry.objects.none()

    def get_queryset(self) -> Any:
        if not user_of(self.request).has_perm("quartzflow.view_auditentry"):
            raise NotAllowed
        return AuditEntry.objects.order_by("-id")

    def list(self, request: Request) -> Response:
        """Newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(get_or_404(self.get_queryset(), pk)).data)

    @extend_schema(
        parameters=[OpenApiParameter("format", str, enum=KINDS, default="csv")],
        responses={
            (200, audit_export.mime_of(kind).partition(";")[0]): OpenApiTypes.BINARY for kind in FORMATS
        },
    )
    @action(detail=False, pagination_class=None)
    def export(self, request: Request) -> Any:
        """All entries that the filters leave, as a file. Taking it is an entry itself."""
        chosen = AuditFilter(request.query_params, self.get_queryset(), request=request)
        if not chosen.is_valid():
            raise InvalidInput(chosen.errors)
        rows = chosen.qs
        if chosen.is_part:
            raise InvalidInput({"object_name": [audit_search.not_all()]})
        kind = request.query_params.get("format", "csv")
        stream = audit_export.do_export(user_of(request), rows, kind, request.query_params.dict())
        response = StreamingHttpResponse(stream, content_type=audit_export.mime_of(kind))
        response["Content-Disposition"] = f'attachment; filename="{file_name(kind)}"'
        return response


def file_name(kind: str) -> str:
    return f"audit-{timezone.localtime():%Y%m%d-%H%M%S}.{kind}"
