"""What the console does to tasks; the list's columns are in console.list, the form in console.form_page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext

from executions_app import control
from quartzflow.console.base import who
from quartzflow.console.site import site
from quartzflow.errors import QuartzError

from .console.calendars import CalendarAdmin
from .console.exchange import TaskExchangeAdmin
from .console.form_page import TaskFormAdmin
from .console.versions import TaskVersionsAdmin
from .models import Task

__all__ = ["CalendarAdmin", "TaskAdmin"]


@admin.register(Task, site=site)
class TaskAdmin(TaskVersionsAdmin, TaskExchangeAdmin, TaskFormAdmin):
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
                url = reverse("admin:executions_app_run", args=[executions[0].run_id])
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
