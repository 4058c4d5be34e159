"""/api/v1/tasks (PRD §8.1)."""

from typing import Any
from zoneinfo import ZoneInfo

import django_filters
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from quartzflow_agent.cron import ScheduleError
from quartzflow_agent.schedule import Schedule
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app import control
from quartzflow.api.fields import ModelSerializer
from quartzflow.api.requests import get_or_404, object_body, user_of
from quartzflow.errors import InvalidInput
from quartzflow.permissions import visible
from tasks_app import actions
from tasks_app.choices import CalendarMode
from tasks_app.models import Calendar, Task
from tasks_app.push_state import push_state
from tasks_app.selectors import next_fire_time, tasks_for

PREVIEW_COUNT = 5


class TaskSerializer(ModelSerializer[Task]):
    """Reads only: writes are validated in tasks_app.actions, the same for pages and API."""

    groups = serializers.SerializerMethodField()
    calendar_id = serializers.IntegerField(read_only=True)
    group_ids = serializers.SerializerMethodField()
    owner = serializers.CharField(source="owner.username", default=None, read_only=True)
    next_exec_time = serializers.SerializerMethodField()
    dependencies = serializers.SerializerMethodField()

    class Meta:
        model = Task
        fields = [
            "id", "name", "description", "executor_type", "executor_config", "cron_expr", "timeout",
            "retry_count", "retry_interval", "retry_max_interval", "concurrency", "status", "created_by",
            "created_at", "updated_at", "owner", "groups", "group_ids", "is_global", "labels", "schedule_type",
            "timezone", "interval_seconds", "run_at", "start_at", "end_at", "misfire_policy", "misfire_grace",
            "concurrency_policy", "routing", "spread_seconds", "selector", "offline_policy", "calendar_id",
            "calendar_mode", "skipped_count", "last_skipped_at", "dependencies", "dependency_mode",
            "wave_size", "wave_max_failed", "version",
            "next_exec_time",
        ]  # fmt: skip

    def get_dependencies(self, task: Task) -> list[dict[str, Any]]:
        """The tasks that this one runs after."""
        return [{"task_id": d.parent_id, "condition": d.condition} for d in task.dependencies.all()]

    def get_groups(self, task: Task) -> list[str]:
        return [group.name for group in task.groups.all()]

    def get_group_ids(self, task: Task) -> list[int]:
        return [group.pk for group in task.groups.all()]

    def get_next_exec_time(self, task: Task) -> str | None:
        moment = next_fire_time(task)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


class TaskFilter(django_filters.FilterSet):
    status = django_filters.NumberFilter(field_name="status")
    group_id = django_filters.NumberFilter(field_name="groups", distinct=True)
    executor_type = django_filters.NumberFilter(field_name="executor_type")
    keyword = django_filters.CharFilter(method="search")

    class Meta:
        model = Task
        fields: list[str] = []

    def search(self, queryset: QuerySet[Task], name: str, value: str) -> QuerySet[Task]:
        return queryset.filter(Q(name__icontains=value) | Q(description__icontains=value))


class TaskViewSet(viewsets.GenericViewSet[Task]):
    """Tasks: list, create, change, delete, enable, disable, run now; preview of a cron expression."""

    serializer_class = TaskSerializer
    filterset_class = TaskFilter
    queryset = Task.objects.none()

    def get_queryset(self) -> Any:
        return tasks_for(user_of(self.request)).prefetch_related("dependencies")

    def _answer(self, pk: int, code: int = status.HTTP_200_OK) -> Response:
        return Response(self.get_serializer(get_or_404(self.get_queryset(), pk)).data, status=code)

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def create(self, request: Request) -> Response:
        return self._answer(
            actions.do_create_task(user_of(request), _body(request)).pk, status.HTTP_201_CREATED
        )

    def retrieve(self, request: Request, pk: str) -> Response:
        return self._answer(get_or_404(self.get_queryset(), pk).pk)

    def update(self, request: Request, pk: str) -> Response:
        """Fields left out keep their value. `?force=1` edits a task that is executing."""
        task = get_or_404(self.get_queryset(), pk)
        force = request.query_params.get("force") in ("1", "true")
        return self._answer(control.do_update_task(user_of(request), task, _body(request), force=force).pk)

    partial_update = update

    def destroy(self, request: Request, pk: str) -> Response:
        control.do_delete_tasks(user_of(request), [get_or_404(self.get_queryset(), pk)])
        return Response(None)

    @action(detail=True, methods=["post"])
    def enable(self, request: Request, pk: str) -> Response:
        task = get_or_404(self.get_queryset(), pk)
        control.do_enable_tasks(user_of(request), [task])
        return self._answer(task.pk)

    @action(detail=True, methods=["post"])
    def disable(self, request: Request, pk: str) -> Response:
        task = get_or_404(self.get_queryset(), pk)
        control.do_disable_tasks(user_of(request), [task])
        return self._answer(task.pk)

    @action(detail=True, url_path="push-state")
    def push_state(self, request: Request, pk: str) -> Response:
        """Which of the hosts that are online do not hold the task as it is now."""
        task = get_or_404(self.get_queryset(), pk)
        return Response(push_state(user_of(request), task))

    @action(detail=True, methods=["post"])
    def trigger(self, request: Request, pk: str) -> Response:
        """Run now. `execution_id` is the first execution; `execution_ids` all of them."""
        body = object_body(request)
        if unknown := sorted(set(body) - {"params"}):
            raise InvalidInput({name: [_("Unknown field.")] for name in unknown})
        executions = control.do_trigger_task(
            user_of(request), get_or_404(self.get_queryset(), pk), body.get("params")
        )
        ids = [execution.pk for execution in executions]
        return Response({"execution_id": ids[0], "execution_ids": ids, "run_id": executions[0].run_id})

    def _calendar(self, request: Request) -> dict[str, Any]:
        pk = request.query_params.get("calendar_id")
        if not pk:
            return {}
        calendar = get_or_404(visible(user_of(request), Calendar.objects.all()), pk)
        return {
            "calendar": calendar.resolved,
            "calendar_mode": request.query_params.get("calendar_mode") or CalendarMode.NOT_ON,
        }

    @action(detail=False, url_path="cron/parse")
    def parse_cron(self, request: Request) -> Response:
        """The next times of ?expr=… in ?timezone=…, by ?calendar_id=…, or what is wrong with it."""
        zone = request.query_params.get("timezone") or timezone.get_current_timezone_name()
        schedule = Schedule(
            schedule_type="cron",
            cron_expr=request.query_params.get("expr", "").strip(),
            timezone=zone,
            **self._calendar(request),
        )
        try:
            schedule.validate()
        except ScheduleError as error:
            field = error.field if error.field in ("timezone", "calendar_mode") else "expr"
            raise InvalidInput({field: [error.render(_)]}) from error
        times = schedule.upcoming(timezone.now(), PREVIEW_COUNT)
        return Response(
            {
                "next_executions": [t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in times],
                "local_times": [timezone.localtime(t, timezone=ZoneInfo(zone)).isoformat() for t in times],
                "timezone": zone,
            }
        )


def _body(request: Request) -> dict[str, Any]:
    """The task's fields; texts that stand for moments are parsed here, as JSON has no type for them."""
    body = object_body(request)
    errors: dict[str, list[str]] = {}
    for name in ("run_at", "start_at", "end_at"):
        if isinstance(body.get(name), str):
            try:
                body[name] = serializers.DateTimeField().to_internal_value(body[name])
            except serializers.ValidationError:
                errors[name] = [_("Must be a moment such as 2025-01-10T02:00:00Z.")]
    if errors:
        raise InvalidInput(errors)
    return body
