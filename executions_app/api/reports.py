"""/api/v1/reports: files built of figures; /api/v1/report-schedules: reports that are sent by mail."""

from typing import Any

import django_filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app.reports import actions, selectors
from executions_app.reports.choices import MEDIA_TYPES, Days, Dimension, Every, Format
from executions_app.reports.downloads import as_attachment
from executions_app.reports.models import Report, ReportMail, ReportSchedule
from quartzflow.api.fields import ModelSerializer
from quartzflow.api.requests import get_or_404, object_body, user_of
from quartzflow.api.schema import WriteSerializer

ASKED = ["days", "dimensions", "format", "language", "zone", "task_id", "group_id", "client_id"]


class ReportSerializer(ModelSerializer[Report]):
    owner = serializers.CharField(source="owner.username", read_only=True)
    dimensions = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = Report
        fields = [
            "id",
            "owner",
            "state",
            "percent",
            "error",
            "first",
            "last",
            *ASKED,
            "size",
            "created_at",
            "done_at",
        ]


class _AskedSerializer(WriteSerializer):
    dimensions = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text=f"Of {', '.join(Dimension.values)}; usually all.",
    )
    format = serializers.CharField(required=False, help_text=" or ".join(Format.values))
    language = serializers.CharField(required=False, help_text="zh-hans or en")
    zone = serializers.CharField(required=False, help_text="The time zone of its days.")
    task_id = serializers.IntegerField(required=False, allow_null=True)
    group_id = serializers.IntegerField(required=False, allow_null=True)
    client_id = serializers.CharField(required=False, allow_blank=True)


class ReportWriteSerializer(_AskedSerializer):
    """What is left out is as usual: the last seven days, all parts, a workbook."""

    days = serializers.CharField(required=False, help_text=", ".join(Days.values))
    locals().update(
        {"from": serializers.DateField(required=False), "to": serializers.DateField(required=False)}
    )


class ReportFilter(django_filters.FilterSet):
    state = django_filters.CharFilter(field_name="state")
    format = django_filters.CharFilter(field_name="format")

    class Meta:
        model = Report
        fields: list[str] = []


class ReportViewSet(viewsets.GenericViewSet[Report]):
    """The caller's reports, newest first. A report is built by a worker: ask for it until its state is `done`."""

    serializer_class = ReportSerializer
    filterset_class = ReportFilter
    queryset = Report.objects.none()

    def get_queryset(self) -> Any:
        return selectors.reports_for(user_of(self.request)).select_related("owner").defer("figures", "seen")

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request=ReportWriteSerializer, responses={201: ReportSerializer})
    def create(self, request: Request) -> Response:
        """Have a report built of what the caller may see."""
        report = actions.do_request_report(user_of(request), object_body(request))
        return Response(self.get_serializer(report).data, status=status.HTTP_201_CREATED)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(get_or_404(self.get_queryset(), pk)).data)

    @extend_schema(responses=None)
    def destroy(self, request: Request, pk: str) -> Response:
        """With its file."""
        actions.do_delete_report(user_of(request), get_or_404(self.get_queryset(), pk))
        return Response(None)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Stop building it."""
        actions.do_cancel_report(user_of(request), get_or_404(self.get_queryset(), pk))
        return self.retrieve(request, pk)

    @extend_schema(
        responses={
            (200, media): OpenApiResponse(OpenApiTypes.BINARY, "The file")
            for media in sorted(MEDIA_TYPES.values())
        }
    )
    @action(detail=True, methods=["get"])
    def download(self, request: Request, pk: str) -> Any:
        """The file."""
        report = get_or_404(self.get_queryset(), pk)
        return as_attachment(actions.do_download_report(user_of(request), report), report)


class ReportScheduleSerializer(ModelSerializer[ReportSchedule]):
    owner = serializers.CharField(source="owner.username", read_only=True, default=None, allow_null=True)
    dimensions = serializers.ListField(child=serializers.CharField(), read_only=True)
    recipients = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = ReportSchedule
        fields = [
            "id", "name", "is_enabled", "owner", *ASKED, "recipients", "every", "weekday", "month_day", "hour",
            "next_at", "created_at", "updated_at",
        ]  # fmt: skip


class ReportScheduleWriteSerializer(_AskedSerializer):
    """What is left out stays; a new schedule needs a name and recipients. It becomes the caller's."""

    name = serializers.CharField(required=False)
    is_enabled = serializers.BooleanField(required=False)
    days = serializers.CharField(
        required=False, help_text=", ".join(v for v in Days.values if v != Days.CUSTOM)
    )
    recipients = serializers.ListField(child=serializers.CharField(), required=False)
    every = serializers.CharField(required=False, help_text=", ".join(Every.values))
    weekday = serializers.IntegerField(required=False, help_text="0 is Monday; for weekly ones.")
    month_day = serializers.IntegerField(required=False, help_text="1 to 28; for monthly ones.")
    hour = serializers.IntegerField(required=False, help_text="0 to 23, in the zone.")


class ReportMailSerializer(ModelSerializer[ReportMail]):
    recipients = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = ReportMail
        fields = [
            "id",
            "due_at",
            "by_hand",
            "report_id",
            "recipients",
            "state",
            "attempts",
            "error",
            "sent_at",
        ]


@extend_schema_view(
    create=extend_schema(request=ReportScheduleWriteSerializer, responses={201: ReportScheduleSerializer}),
    update=extend_schema(request=ReportScheduleWriteSerializer, responses=ReportScheduleSerializer),
    partial_update=extend_schema(request=ReportScheduleWriteSerializer, responses=ReportScheduleSerializer),
    destroy=extend_schema(responses=None),
)
class ReportScheduleViewSet(viewsets.GenericViewSet[ReportSchedule]):
    """Reports that are built and mailed again and again."""

    serializer_class = ReportScheduleSerializer
    queryset = ReportSchedule.objects.none()

    def get_queryset(self) -> Any:
        return selectors.schedules_for(user_of(self.request)).select_related("owner")

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(get_or_404(self.get_queryset(), pk)).data)

    def create(self, request: Request) -> Response:
        row = actions.do_save_schedule(user_of(request), None, object_body(request))
        return Response(self.get_serializer(row).data, status=status.HTTP_201_CREATED)

    def update(self, request: Request, pk: str) -> Response:
        row = get_or_404(self.get_queryset(), pk)
        row = actions.do_save_schedule(user_of(request), row, object_body(request))
        return Response(self.get_serializer(row).data)

    def partial_update(self, request: Request, pk: str) -> Response:
        return self.update(request, pk)

    def destroy(self, request: Request, pk: str) -> Response:
        actions.do_delete_schedule(user_of(request), get_or_404(self.get_queryset(), pk))
        return Response(None)

    @extend_schema(request=None, responses={201: ReportMailSerializer})
    @action(detail=True, methods=["post"])
    def send(self, request: Request, pk: str) -> Response:
        """Build and send it now, besides its times."""
        mail = actions.do_send_now(user_of(request), get_or_404(self.get_queryset(), pk))
        return Response(ReportMailSerializer(mail).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=ReportMailSerializer(many=True))
    @action(detail=True, methods=["get"])
    def mails(self, request: Request, pk: str) -> Response:
        """What was sent, newest first, and what became of it."""
        schedule = get_or_404(self.get_queryset(), pk)
        page: Any = self.paginate_queryset(selectors.mails_of(schedule))  # type: ignore[arg-type]
        return self.get_paginated_response(ReportMailSerializer(page, many=True).data)
