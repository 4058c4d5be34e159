"""/api/v1/calendars: calendars that tasks keep to."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from quartzflow_agent.calendars import Calendar as Parsed
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app import control
from quartzflow.api.fields import ModelSerializer
from quartzflow.api.requests import get_or_404, object_body, user_of
from quartzflow.api.schema import WriteSerializer
from quartzflow.errors import InvalidInput
from quartzflow.permissions import visible
from tasks_app.calendars import announced_until, do_delete_calendar
from tasks_app.models import Calendar

LONGEST_PREVIEW = 400  # days


class CalendarSerializer(ModelSerializer[Calendar]):
    """Reads only: writes are validated in tasks_app.calendars."""

    task_count = serializers.SerializerMethodField()
    announced_until = serializers.SerializerMethodField()

    class Meta:
        model = Calendar
        fields = [
            "id", "name", "description", "timezone", "rules", "updated_at", "task_count", "announced_until",
        ]  # fmt: skip

    def get_task_count(self, calendar: Calendar) -> int:
        return calendar.task_set.count()

    def get_announced_until(self, calendar: Calendar) -> str:
        """The last day of which China's official working days are known."""
        return announced_until().isoformat()


class CalendarWriteSerializer(WriteSerializer):
    name = serializers.CharField(required=False, help_text="At most 64 characters.")
    description = serializers.CharField(required=False, allow_blank=True)
    timezone = serializers.CharField(required=False)
    rules = serializers.DictField(
        required=False, help_text="dates, weekly, periods, working_days: what the calendar covers."
    )


class CalendarCreateSerializer(CalendarWriteSerializer):
    name = serializers.CharField(help_text="At most 64 characters.")


class DaySerializer(serializers.Serializer[Any]):
    date = serializers.DateField()
    covered = serializers.ChoiceField(choices=["all", "part", "none"])


class CalendarViewSet(viewsets.GenericViewSet[Calendar]):
    """Calendars: list, create, change, delete; which days one covers."""

    serializer_class = CalendarSerializer
    queryset = Calendar.objects.none()

    def get_queryset(self) -> Any:
        return visible(user_of(self.request), Calendar.objects.order_by("name"))

    def _answer(self, calendar: Calendar, code: int = status.HTTP_200_OK) -> Response:
        return Response(self.get_serializer(calendar).data, status=code)

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request=CalendarCreateSerializer)
    def create(self, request: Request) -> Response:
        calendar = control.do_save_calendar(user_of(request), object_body(request))
        return self._answer(calendar, status.HTTP_201_CREATED)

    def retrieve(self, request: Request, pk: str) -> Response:
        return self._answer(get_or_404(self.get_queryset(), pk))

    @extend_schema(request=CalendarWriteSerializer)
    def update(self, request: Request, pk: str) -> Response:
        """Fields left out keep their value."""
        calendar = get_or_404(self.get_queryset(), pk)
        return self._answer(control.do_save_calendar(user_of(request), object_body(request), calendar))

    partial_update = update

    def destroy(self, request: Request, pk: str) -> Response:
        do_delete_calendar(user_of(request), get_or_404(self.get_queryset(), pk))
        return Response(None)

    @extend_schema(
        parameters=[
            OpenApiParameter("from", date, description="The first day; today by default."),
            OpenApiParameter(
                "count", {"type": "integer", "minimum": 1, "maximum": LONGEST_PREVIEW}, default=31
            ),
        ],
        responses=DaySerializer(many=True),
    )
    @action(detail=True, pagination_class=None)
    def days(self, request: Request, pk: str) -> Response:
        """Each day from ?from=2026-10-01 on, ?count=31 of them: covered "all", "part" or "none" of the day."""
        calendar = get_or_404(self.get_queryset(), pk)
        first, count = _first(request), _count(request)
        parsed = Parsed.parse(calendar.resolved)
        found = []
        for n in range(count):
            day = first + timedelta(days=n)
            begin = datetime(day.year, day.month, day.day, tzinfo=parsed.tz).astimezone(UTC)
            end = begin + timedelta(days=1)
            covered = parsed.covers(begin)
            change = parsed.next_uncovered(begin) if covered else parsed.next_covered(begin)
            whole = change is None or change >= end
            found.append(
                {"date": day.isoformat(), "covered": ("all" if covered else "none") if whole else "part"}
            )
        return Response(found)


def _first(request: Request) -> date:
    try:
        return date.fromisoformat(request.query_params.get("from", str(timezone.localdate())))
    except ValueError:
        raise InvalidInput({"from": [_("A date such as 2026-10-01.")]}) from None


def _count(request: Request) -> int:
    text = request.query_params.get("count", "31")
    if not text.isdecimal() or not 1 <= int(text) <= LONGEST_PREVIEW:
        raise InvalidInput({"count": [_("A number from 1 to %(limit)s.") % {"limit": LONGEST_PREVIEW}]})
    return int(text)
