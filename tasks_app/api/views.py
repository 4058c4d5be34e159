"""/api/v1/tasks (PRD §8.1)."""

from typing import Any
from zoneinfo import ZoneInfo

import django_filters
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from quartzflow_agent.cron import ScheduleError
from quartzflow_agent.schedule import Schedule
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from executions_app import control
from quartzflow.api.filters import IntegerFilter, ordering
from quartzflow.api.idempotency import PARAMETER as IDEMPOTENCY_KEY
from quartzflow.api.idempotency import idempotent
from quartzflow.api.requests import flag, get_or_404, id_list, known, object_body, user_of
from quartzflow.api.schema import IF_MATCH
from quartzflow.errors import InvalidInput, PreconditionFailed
from quartzflow.permissions import visible
from tasks_app import actions
from tasks_app.choices import CalendarMode
from tasks_app.models import Calendar, Task
from tasks_app.push_state import push_state
from tasks_app.selectors import tasks_for, with_label, with_parents

from .exchange import ExchangeActions
from .serializers import (
    BatchedSerializer,
    BatchSerializer,
    CopySerializer,
    CronSerializer,
    PushStateSerializer,
    TaskCreateSerializer,
    TaskSerializer,
    TaskWriteSerializer,
    TriggeredSerializer,
    TriggerSerializer,
)
from .versions import VersionActions

PREVIEW_COUNT = 5


class TaskFilter(django_filters.FilterSet):
    status = IntegerFilter(field_name="status")
    group_id = IntegerFilter(field_name="groups", distinct=True)
    executor_type = IntegerFilter(field_name="executor_type")
    keyword = django_filters.CharFilter(method="search")
    owner = django_filters.CharFilter(field_name="owner__username", help_text="A user name, whole.")
    label = django_filters.CharFilter(method="by_label", help_text="Such as team=billing.")
    ordering = ordering("id", "name", "status", "executor_type", "created_at", "updated_at")

    class Meta:
        model = Task
        fields: list[str] = []

    def by_label(self, queryset: QuerySet[Task], name: str, value: str) -> QuerySet[Task]:
        label, _equals, wanted = value.partition("=")
        return with_label(queryset, label.strip(), wanted.strip())

    def search(self, queryset: QuerySet[Task], name: str, value: str) -> QuerySet[Task]:
        return queryset.filter(Q(name__icontains=value) | Q(description__icontains=value))


MOST_AT_ONCE = 500
FORCE = OpenApiParameter("force", bool, description="Edit it although it is executing.")


class TaskViewSet(ExchangeActions, VersionActions, viewsets.GenericViewSet[Task]):
    """Tasks: list, create, change, copy, delete, enable, disable, run now; preview of a cron expression."""

    serializer_class = TaskSerializer
    filterset_class = TaskFilter
    queryset = Task.objects.none()

    def get_queryset(self) -> Any:
        user = user_of(self.request)
        return with_parents(user, tasks_for(user))

    def _answer(self, pk: int, code: int = status.HTTP_200_OK) -> Response:
        """The task; its ETag is its version."""
        task: Task = get_or_404(self.get_queryset(), pk)
        return Response(self.get_serializer(task).data, status=code, headers={"ETag": f'"{task.version}"'})

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        answer: Response = self.get_paginated_response(self.get_serializer(page, many=True).data)
        return answer

    @extend_schema(request=TaskCreateSerializer)
    def create(self, request: Request) -> Response:
        return self._answer(
            actions.do_create_task(user_of(request), _body(request)).pk, status.HTTP_201_CREATED
        )

    def retrieve(self, request: Request, pk: str) -> Response:
        """The answer's ETag names the task's version, for If-Match."""
        return self._answer(get_or_404(self.get_queryset(), pk).pk)

    @extend_schema(request=TaskWriteSerializer, parameters=[FORCE, IF_MATCH])
    def update(self, request: Request, pk: str) -> Response:
        """Fields left out keep their value. Refused while the task executes, unless forced."""
        task = get_or_404(self.get_queryset(), pk)
        how = {"force": flag(request, "force"), "expected": _expected(request, task)}
        return self._answer(control.do_update_task(user_of(request), task, _body(request), **how).pk)

    partial_update = update

    @extend_schema(parameters=[IF_MATCH])
    def destroy(self, request: Request, pk: str) -> Response:
        """Its executions stay readable; what waits or runs of it is cancelled."""
        task = get_or_404(self.get_queryset(), pk)
        control.do_delete_tasks(user_of(request), [task], expected=_expected(request, task))
        return Response(None)

    @extend_schema(request=CopySerializer, responses={201: TaskSerializer})
    @action(detail=True, methods=["post"])
    def copy(self, request: Request, pk: str) -> Response:
        """A new task like this one, disabled. Without a name it gets one made from this one's."""
        task, body = get_or_404(self.get_queryset(), pk), known(request, {"name"})
        name = body.get("name", "")
        if not isinstance(name, str):
            raise InvalidInput({"name": [_("Must be text.")]})
        return self._answer(
            actions.do_copy_task(user_of(request), task, name.strip()).pk, status.HTTP_201_CREATED
        )

    @extend_schema(request=BatchSerializer, responses={200: BatchedSerializer})
    @action(detail=False, methods=["post"])
    def batch(self, request: Request) -> Response:
        """Do one thing to many tasks: to all of them, or, when one forbids it, to none."""
        user, body = user_of(request), known(request, {"action", "ids", "params"})
        ids = id_list(body, "ids", MOST_AT_ONCE)
        tasks = list(self.get_queryset().filter(pk__in=ids))
        if len(tasks) < len(ids):
            missing = sorted(set(ids) - {task.pk for task in tasks})
            raise InvalidInput(
                {"ids": [_("There is no task %(ids)s.") % {"ids": ", ".join(map(str, missing))}]}
            )
        count, executions = control.do_batch(user, tasks, body.get("action"), body.get("params"))
        return Response({"count": count, "execution_ids": executions})

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def enable(self, request: Request, pk: str) -> Response:
        task = get_or_404(self.get_queryset(), pk)
        control.do_enable_tasks(user_of(request), [task])
        return self._answer(task.pk)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def disable(self, request: Request, pk: str) -> Response:
        task = get_or_404(self.get_queryset(), pk)
        control.do_disable_tasks(user_of(request), [task])
        return self._answer(task.pk)

    @extend_schema(responses=PushStateSerializer)
    @action(detail=True, url_path="push-state")
    def push_state(self, request: Request, pk: str) -> Response:
        """Which of the hosts that are online do not hold the task as it is now."""
        task = get_or_404(self.get_queryset(), pk)
        return Response(PushStateSerializer(push_state(user_of(request), task)).data)

    @extend_schema(
        parameters=[IDEMPOTENCY_KEY], request=TriggerSerializer, responses={200: TriggeredSerializer}
    )
    @action(detail=True, methods=["post"])
    @idempotent
    def trigger(self, request: Request, pk: str) -> Response:
        """Run now. `execution_id` is the first execution; `execution_ids` all of them."""
        body = known(request, {"params"})
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

    @extend_schema(
        parameters=[
            OpenApiParameter("expr", str, required=True),
            OpenApiParameter(
                "timezone", str, description="Such as Asia/Shanghai; the account's own by default."
            ),
            OpenApiParameter("calendar_id", int),
            OpenApiParameter("calendar_mode", str, enum=CalendarMode.values),
        ],
        responses=CronSerializer,
        filters=False,
    )
    @action(detail=False, url_path="cron/parse", pagination_class=None)
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


def _expected(request: Request, task: Task) -> int | None:
    """The version that If-Match names; None: it names none. Raises PreconditionFailed for another than the present."""
    header = request.headers.get("If-Match")
    if header is None or header.strip() == "*":
        return None
    if f'"{task.version}"' not in [tag.strip() for tag in header.split(",")]:
        raise PreconditionFailed
    return task.version


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
