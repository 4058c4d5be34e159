"""The console's pages of tasks: actions on one or many, and the form. The list's columns are in admin_list."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext
from quartzflow_agent.cron import ScheduleError
from quartzflow_agent.schedule import Schedule

from executions_app import control
from executions_app.models import Execution
from quartzflow.admin_base import who
from quartzflow.admin_site import site
from quartzflow.errors import Conflict, InvalidInput, QuartzError

from . import actions
from .admin_detail import TaskDetailAdmin
from .admin_forms import TaskForm
from .admin_list import EXECUTOR_ICONS
from .choices import CalendarMode, ScheduleType
from .models import SCHEDULE_FIELDS, Task

PREVIEW_TIMES = 5


@admin.register(Task, site=site)
class TaskAdmin(TaskDetailAdmin):
    """Everything one can do to tasks in the console."""

    # --- actions ---

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found = super().get_actions(request)
        needs = {
            "enable_selected": "change",
            "disable_selected": "change",
            "run_selected": "trigger",
            "delete_selected": "delete",
        }
        return {
            name: action
            for name, action in found.items()
            if name in needs and self._may(request, None, needs[name])
        }

    def _batch(self, request: HttpRequest, work: Any) -> None:
        try:
            messages.success(request, work())
        except QuartzError as error:
            messages.error(request, str(error.message))

    @admin.action(description=_lazy("Enable"))
    def enable_selected(self, request: HttpRequest, queryset: QuerySet) -> None:
        def work() -> str:
            count = control.do_enable_tasks(who(request), queryset)
            return ngettext("%d task enabled.", "%d tasks enabled.", count) % count

        self._batch(request, work)

    @admin.action(description=_lazy("Disable"))
    def disable_selected(self, request: HttpRequest, queryset: QuerySet) -> None:
        def work() -> str:
            count = control.do_disable_tasks(who(request), queryset)
            return ngettext("%d task disabled.", "%d tasks disabled.", count) % count

        self._batch(request, work)

    @admin.action(description=_lazy("Run now"))
    def run_selected(self, request: HttpRequest, queryset: QuerySet) -> None:
        def work() -> str:
            count = 0
            for task in queryset:
                count += len(control.do_trigger_task(who(request), task))
            return ngettext("%d execution started.", "%d executions started.", count) % count

        self._batch(request, work)

    @admin.action(description=_lazy("Delete"))
    def delete_selected(self, request: HttpRequest, queryset: QuerySet) -> None:
        def work() -> str:
            count = control.do_delete_tasks(who(request), queryset)
            return ngettext("%d task deleted.", "%d tasks deleted.", count) % count

        self._batch(request, work)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("preview/", wrap(self.preview_view), name="tasks_app_task_preview"),
            path("<path:object_id>/run/", wrap(self.run_view), name="tasks_app_task_run"),
            path("<path:object_id>/enable/", wrap(self.enable_view), name="tasks_app_task_enable"),
            path("<path:object_id>/disable/", wrap(self.disable_view), name="tasks_app_task_disable"),
            path("<path:object_id>/remove/", wrap(self.remove_view), name="tasks_app_task_remove"),
            *super().get_urls(),
        ]

    def run_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def run(request: HttpRequest, task: Task) -> dict[str, Any]:
            executions = control.do_trigger_task(who(request), task)
            url = reverse("admin:executions_app_execution_change", args=[executions[0].pk])
            if len(executions) > 1:
                url = f"{reverse('admin:executions_app_execution_changelist')}?task__id__exact={task.pk}"
            text = ngettext(
                "“%(name)s”: %(count)d execution started.",
                "“%(name)s”: %(count)d executions started.",
                len(executions),
            )
            words = text % {"name": task.name, "count": len(executions)}
            return {
                "message": words,
                "url": url,
                "link": _("Watch"),
                "executions": [e.pk for e in executions],
                "task": task.pk,
            }

        return self.post_view(request, object_id, run, "trigger")

    def enable_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def enable(request: HttpRequest, task: Task) -> dict[str, Any]:
            control.do_enable_tasks(who(request), [task])
            return {"message": _("“%(name)s” is enabled.") % {"name": task.name}, "reload": True}

        return self.post_view(request, object_id, enable, "change")

    def disable_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def disable(request: HttpRequest, task: Task) -> dict[str, Any]:
            control.do_disable_tasks(who(request), [task])
            return {"message": _("“%(name)s” is disabled.") % {"name": task.name}, "reload": True}

        return self.post_view(request, object_id, disable, "change")

    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def remove(request: HttpRequest, task: Task) -> dict[str, Any]:
            control.do_delete_tasks(who(request), [task])
            url = reverse("admin:tasks_app_task_changelist")
            return {"message": _("“%(name)s” is deleted.") % {"name": task.name}, "reload": True, "url": url}

        return self.post_view(request, object_id, remove, "delete")

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

    # --- form ---

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = TaskForm(who(request), None, request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                task = actions.do_create_task(who(request), form.data_for_actions())
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
                    control.do_update_task(who(request), changed, form.data_for_actions(), force=force)
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
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": task.name if task else _("New task"),
            "form": form,
            "task": task,
            "may_change": may_change,
            "may_trigger": task is not None and self.may(request, task, "trigger"),
            "menu": self.menu_items(task, {a for a in self.row_permissions if self.may(request, task, a)})
            if task
            else [],
            "recent": self._recent(task) if task else [],
            "executor_icons": EXECUTOR_ICONS,
            "groups": form.groups,
            "chosen_groups": {str(pk) for pk in form["group_ids"].value() or ()},
        }
        return TemplateResponse(request, "console/task_form.html", context)

    def _recent(self, task: Task) -> list[Execution]:
        return list(Execution.objects.filter(task=task)[:8])
