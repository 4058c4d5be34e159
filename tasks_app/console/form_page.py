"""The console's form of a task: its page, what it asks while one types, and test runs of what is not stored yet."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.dates import WEEKDAYS_ABBR as WEEKDAYS
from django.utils.translation import gettext as _
from quartzflow_agent.cron import ScheduleError
from quartzflow_agent.plugins import base as plugins
from quartzflow_agent.schedule import Schedule

from executions_app import control, trials
from executions_app.choices import FailureReason
from executions_app.models import Execution
from executions_app.selectors import log_of
from groups_app.choices import ClientApproval, ClientStatus
from groups_app.selectors import clients_for
from quartzflow.console.base import who
from quartzflow.errors import Conflict, InvalidInput, QuartzError
from quartzflow.execution_status import LIVE
from quartzflow.permissions import visible

from .. import actions
from ..checks import check_task
from ..choices import CalendarMode, DependencyCondition, ScheduleType
from ..models import SCHEDULE_FIELDS, Task
from .detail import TaskDetailAdmin
from .forms import TaskForm
from .list import EXECUTOR_ICONS

PREVIEW_TIMES = 5
RECENT = 8  # executions beside the form
SUGGESTED = 20  # names offered while one types
MANY_GROUPS = 8  # from so many on they can be searched


class TaskFormAdmin(TaskDetailAdmin):
    """The form; actions on one or many tasks are in TaskAdmin."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        name = "tasks_app_task"
        return [
            path("preview/", wrap(self.preview_view), name=f"{name}_preview"),
            path("names/", wrap(self.names_view), name=f"{name}_names"),
            path("hosts/", wrap(self.hosts_view), name=f"{name}_hosts"),
            path("check/", wrap(self.check_view), name=f"{name}_check"),
            path("test-run/", wrap(self.test_run_view), name=f"{name}_test_run"),
            path("test-run/<int:pk>/", wrap(self.test_state_view), name=f"{name}_test_state"),
            path("<path:object_id>/check/", wrap(self.check_view), name=f"{name}_check_one"),
            path("<path:object_id>/test-run/", wrap(self.test_run_view), name=f"{name}_test_run_one"),
            *super().get_urls(),
        ]

    # --- what the form asks ---

    def preview_view(self, request: HttpRequest) -> JsonResponse:
        """GET with a form's schedule fields: {"times": […]} in the task's zone, or {"field", "error"}."""
        form = TaskForm(who(request), None, request.GET)
        form.is_valid()  # the other fields are not there; only the schedule's are read
        found = {name: form.cleaned_data.get(name) for name in SCHEDULE_FIELDS}
        values: dict[str, Any] = {name: value for name, value in found.items() if value}
        if "start_at" not in values and values.get("schedule_type") == ScheduleType.FIXED_RATE:
            values["anchor_at"] = timezone.now().replace(microsecond=0)
        calendar = form.calendars.get(form.cleaned_data.get("calendar_id") or 0)
        if calendar:
            values |= {
                "calendar": calendar.resolved,
                "calendar_mode": form.cleaned_data.get("calendar_mode") or CalendarMode.NOT_ON,
            }
        schedule = Schedule(**values)
        try:
            schedule.validate()
            times = schedule.upcoming(timezone.now(), PREVIEW_TIMES)
        except ScheduleError as error:
            field = error.field if error.field in SCHEDULE_FIELDS else "cron_expr"  # one of its own fields
            return JsonResponse({"field": field, "error": error.render(_)})
        return JsonResponse({"times": [time.isoformat() for time in times], "timezone": schedule.timezone})

    def names_view(self, request: HttpRequest) -> JsonResponse:
        """GET ?q=: names of tasks that the user may see."""
        tasks = visible(who(request), Task.objects.all()).filter(name__icontains=request.GET.get("q", ""))
        return JsonResponse(
            {"names": list(tasks.order_by("name").values_list("name", flat=True)[:SUGGESTED])}
        )

    def hosts_view(self, request: HttpRequest) -> JsonResponse:
        """GET ?q=: names of hosts that are online and that the user may see."""
        hosts = clients_for(who(request)).filter(
            status=ClientStatus.ONLINE,
            approval=ClientApproval.APPROVED,
            client_id__icontains=request.GET.get("q", ""),
        )
        names = hosts.order_by("client_id").values_list("client_id", flat=True)
        return JsonResponse({"names": list(names[:SUGGESTED])})

    def check_view(self, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        """POST a form: {"errors": {field: [words]}}, what saving it would say. Nothing is stored."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        form = TaskForm(who(request), self._stored(request, object_id), request.POST)
        if form.is_valid():
            try:
                draft = form.task if form.task else Task(owner=who(request))
                check_task(who(request), draft, form.data_for_actions())
            except InvalidInput as error:
                form.take_errors(error)
        return JsonResponse({"errors": {name: list(map(str, texts)) for name, texts in form.errors.items()}})

    def test_run_view(self, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        """POST a form and `test_host`: run it there, once. {"id"}, or {"message", "errors"}."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        form = TaskForm(who(request), self._stored(request, object_id), request.POST)
        try:
            if not form.is_valid():
                raise InvalidInput({name: [str(t) for t in texts] for name, texts in form.errors.items()})
            host = request.POST.get("test_host", "").strip()
            made = trials.do_test_run(who(request), form.task, form.data_for_actions(), host)
        except InvalidInput as error:
            words = _("Mend what the form shows, then try again.")
            if "test_host" in error.errors:
                words = str(error.errors["test_host"][0])
            elif form.is_valid():
                form.take_errors(error)
            errors = {name: list(map(str, texts)) for name, texts in form.errors.items()}
            return JsonResponse({"message": words, "errors": errors}, status=error.http_status)
        except QuartzError as error:
            return JsonResponse({"message": str(error.message)}, status=error.http_status)
        return JsonResponse({"id": made.pk})

    def test_state_view(self, request: HttpRequest, pk: int) -> JsonResponse:
        """GET: how a test run of one's own stands, with its output. POST: end it."""
        try:
            if request.method == "POST":
                trials.do_cancel_test_run(who(request), pk)
            execution = trials.test_run_of(who(request), pk)
        except QuartzError as error:
            return JsonResponse({"message": str(error.message)}, status=error.http_status)
        log = log_of(execution)
        return JsonResponse(
            {
                "id": execution.pk,
                "status": execution.status,
                "status_label": str(execution.status_enum.label),
                "live": execution.status in LIVE,
                "exit_code": execution.exit_code,
                "duration": execution.duration,
                "reason": str(FailureReason(execution.failure_reason).label)
                if execution.failure_reason
                else "",
                "output": log["output"],
                "error": log["error"],
            }
        )

    def _stored(self, request: HttpRequest, object_id: str | None) -> Task | None:
        """The task that a form is about; None for a new one. Raises Http404, PermissionDenied."""
        if object_id is None:
            if not self.has_add_permission(request):
                raise PermissionDenied
            return None
        task: Task = self.access(request, object_id, "change")
        return task

    # --- the page ---

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """?like=ID: a new task with the values of that one."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        like = self.access(request, request.GET["like"]) if request.GET.get("like") else None
        form = TaskForm(who(request), None, request.POST or None, like=like)
        if request.method == "POST" and form.is_valid():
            try:
                with transaction.atomic():
                    task = actions.do_create_task(who(request), form.data_for_actions())
                    form.save_alerts(who(request), task)
            except InvalidInput as error:
                form.take_errors(error)
            else:
                self.log_addition(request, task, "")
                messages.success(request, _("“%(name)s” is saved.") % {"name": task.name})
                return redirect("admin:tasks_app_task_changelist")
        return self._form_page(request, form, None)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        task = self.access(request, object_id)
        if request.method == "POST":
            form = TaskForm(who(request), task, request.POST)
            if form.is_valid():
                try:
                    # `task` takes the new values while they are checked; the page keeps showing the stored one.
                    changed = Task.objects.get(pk=task.pk)
                    force = form.cleaned_data["force"]
                    with transaction.atomic():
                        control.do_update_task(who(request), changed, form.data_for_actions(), force=force)
                        form.save_alerts(who(request), changed)
                except InvalidInput as error:
                    form.take_errors(error)
                except Conflict as error:
                    form.add_error("force", str(error.message))
                else:
                    self.log_change(request, changed, "")
                    messages.success(request, _("“%(name)s” is saved.") % {"name": changed.name})
                    return redirect("admin:tasks_app_task_change", task.pk)
        else:
            form = TaskForm(who(request), task)
        return self._form_page(request, form, task)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return redirect("admin:tasks_app_task_change", object_id)  # deleting is a menu item with a question

    def _form_page(self, request: HttpRequest, form: TaskForm, task: Task | None) -> HttpResponse:
        may_change = task is None or self.may(request, task, "change")
        if not may_change:
            for field in form.fields.values():
                field.disabled = True
        may = {a for a in self.row_permissions if task and self.may(request, task, a)}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": task.name if task else _("New task"),
            "form": form,
            "task": task,
            "may_change": may_change,
            "may_trigger": "trigger" in may,
            "may_test": may_change and trials.may_test(who(request), task),
            "menu": self.menu_items(task, may) if task else [],
            "recent": list(Execution.objects.filter(task=task)[:RECENT]) if task else [],
            "executor_icons": EXECUTOR_ICONS,
            "groups": form.groups,
            "many_groups": len(form.groups) >= MANY_GROUPS,
            "chosen_groups": {str(pk) for pk in form["group_ids"].value() or ()},
            "conditions": DependencyCondition.choices,
            "weekdays": [
                (day, WEEKDAYS[(day - 1) % 7]) for day in range(1, 8)
            ],  # Monday first, as cron counts
            "month_days": range(1, 32),
            "plugins": [(entry.name, plugins.find(entry.name)) for entry in plugins.BUILT_IN],
        }
        return TemplateResponse(request, "console/task_form.html", context)
