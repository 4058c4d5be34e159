"""/api/v1/executions (PRD §8.3)."""

import re
from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app import control
from executions_app.models import Attempt, Execution
from executions_app.retries import do_retry_executions
from executions_app.selectors import executions_for, log_of, may_read_log, since, stats
from quartzflow.api.big_tables import BigTablePagination
from quartzflow.api.fields import ModelSerializer
from quartzflow.api.filters import IntegerFilter
from quartzflow.api.requests import get_or_404, id_list, known, user_of
from quartzflow.errors import InvalidInput, NotAllowed, NotFound

from .descriptions import (
    CountSerializer,
    ExecutionIdsSerializer,
    IdsSerializer,
    LogSerializer,
    StatsSerializer,
)

MOST_AT_ONCE = 500


class ExecutionSerializer(ModelSerializer[Execution]):
    task_id = serializers.IntegerField(read_only=True)

    class Meta:
        model = Execution
        fields = [
            "id", "execution_id", "run_id", "task_id", "task_name", "client_id", "group_id", "execution_type",
            "status", "scheduled_time", "start_time", "end_time", "duration", "exit_code", "retry_count",
            "max_retries", "next_retry_at", "retry_of", "hold", "delay_ms", "failure_reason", "params",
            "shard_index", "shard_total", "local", "triggered_by", "cancelled_by", "created_at",
        ]  # fmt: skip


class AttemptSerializer(ModelSerializer[Attempt]):
    class Meta:
        model = Attempt
        fields = ["number", "status", "start_time", "end_time", "exit_code", "failure_reason"]


class ExecutionDetailSerializer(ExecutionSerializer):
    # What each printed is in its log, which not everybody may read.
    attempts = AttemptSerializer(
        many=True, read_only=True, help_text="Those that have ended; 0 is the first."
    )

    class Meta(ExecutionSerializer.Meta):
        fields = [*ExecutionSerializer.Meta.fields, "attempts"]


class ExecutionFilter(django_filters.FilterSet):
    task_id = IntegerFilter(field_name="task_id")
    client_id = django_filters.CharFilter(field_name="client_id")
    run_id = django_filters.CharFilter(field_name="run_id")
    status = IntegerFilter(field_name="status")
    start_time = django_filters.IsoDateTimeFilter(field_name="scheduled_time", lookup_expr="gte")
    end_time = django_filters.IsoDateTimeFilter(field_name="scheduled_time", lookup_expr="lt")
    before = IntegerFilter(method="older")

    def older(self, queryset: QuerySet[Execution], name: str, value: int) -> QuerySet[Execution]:
        """What comes after the execution of this id in the list's order: the way on for who has it as the last one."""
        if not self.by_time:
            return queryset.filter(pk__lt=value)
        last = Execution.objects.filter(pk=value).values_list("scheduled_time", flat=True).first()
        earlier = Q(scheduled_time__lt=last) | Q(scheduled_time=last, pk__lt=value)
        return queryset.none() if last is None else queryset.filter(earlier)

    @property
    def by_time(self) -> bool:
        return bool(self.data.get("start_time") or self.data.get("end_time"))

    def filter_queryset(self, queryset: QuerySet[Execution]) -> Any:
        # A stretch of time in the order of its index: by id, a day long ago would be looked for among all newer ones.
        found: Any = super().filter_queryset(queryset)
        return found.order_by("-scheduled_time", "-id") if self.by_time else found

    class Meta:
        model = Execution
        fields: list[str] = []


class ExecutionViewSet(viewsets.GenericViewSet[Execution]):
    """Executions: history, one execution, its log, statistics, cancel."""

    serializer_class = ExecutionSerializer
    filterset_class = ExecutionFilter
    pagination_class = BigTablePagination
    queryset = Execution.objects.none()

    def get_queryset(self) -> Any:
        return executions_for(user_of(self.request))

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(responses=ExecutionDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        execution = get_or_404(self.get_queryset(), pk)
        return Response(ExecutionDetailSerializer(execution, context=self.get_serializer_context()).data)

    @extend_schema(responses=LogSerializer)
    @action(detail=True)
    def logs(self, request: Request, pk: str) -> Response:
        """What the server holds of the output; `truncated`: the agent has more."""
        execution = get_or_404(self.get_queryset(), pk)
        if not may_read_log(user_of(request), execution):
            raise NotAllowed
        return Response(LogSerializer(log_of(execution)).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        control.do_cancel_executions(user_of(request), [get_or_404(self.get_queryset(), pk)])
        return Response(self.get_serializer(get_or_404(self.get_queryset(), pk)).data)

    @extend_schema(
        operation_id="executions_cancel_many", request=IdsSerializer, responses={200: CountSerializer}
    )
    @action(detail=False, methods=["post"], url_path="cancel")
    def cancel_many(self, request: Request) -> Response:
        """End those of `ids` that wait or run; answers how many were still live."""
        return Response(
            {"count": control.do_cancel_executions(user_of(request), _named(self.get_queryset(), request))}
        )

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Run one that failed again, on its host; answers the new execution."""
        execution = get_or_404(self.get_queryset(), pk)
        (again,) = do_retry_executions(user_of(request), [execution])[:1]
        return Response(self.get_serializer(get_or_404(self.get_queryset(), again.pk)).data)

    @extend_schema(
        operation_id="executions_retry_many", request=IdsSerializer, responses={200: ExecutionIdsSerializer}
    )
    @action(detail=False, methods=["post"], url_path="retry")
    def retry_many(self, request: Request) -> Response:
        """Run those of `ids` again; answers the ids of the new executions."""
        again = do_retry_executions(user_of(request), _named(self.get_queryset(), request))
        return Response({"execution_ids": [execution.pk for execution in again]})

    @extend_schema(
        parameters=[
            OpenApiParameter("date_range", {"type": "string", "pattern": "^[1-9][0-9]{0,2}d$"}, default="7d")
        ],
        responses=StatsSerializer,
    )
    @action(detail=False, pagination_class=None)
    def stats(self, request: Request) -> Response:
        """Statistics of ?task_id=… over ?date_range=7d (days, today included)."""
        days = re.fullmatch(r"([1-9]\d{0,2})d", request.query_params.get("date_range", "7d"), re.ASCII)
        if days is None:
            raise InvalidInput({"date_range": [_("A number of days such as 7d.")]})
        executions = self.filter_queryset(self.get_queryset())
        found = stats(executions.filter(scheduled_time__gte=since(int(days[1]))))
        return Response(StatsSerializer(found).data)


def _named(executions: QuerySet[Execution], request: Request) -> list[Execution]:
    """Those of the body's `ids`. Raises InvalidInput, NotFound."""
    ids = id_list(known(request, {"ids"}), "ids", MOST_AT_ONCE)
    found = list(executions.filter(pk__in=ids))
    if len(found) != len(ids):
        raise NotFound
    return found
