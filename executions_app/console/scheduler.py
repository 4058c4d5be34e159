"""The console's pages of scheduling: how the scheduler stands, and the firings that did not happen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from quartzflow.api.observe import scheduler_state
from quartzflow.console.base import ReadOnlyAdmin, pill, who
from quartzflow.console.site import site
from quartzflow.execution_status import ExecutionStatus
from quartzflow.permissions import visible
from quartzflow.templatetags.console import moment
from tasks_app.models import Task

from ..models import MissedFiring

SHOWN_MISSED = 8
SEE = "executions_app.view_execution"


class ResolvedFilter(admin.SimpleListFilter):
    title = _lazy("State")
    parameter_name = "resolved"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("no", _("Still missing")), ("yes", _("Came after all"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(resolved_at__isnull=self.value() == "no") if self.value() else queryset


@admin.register(MissedFiring, site=site)
class MissedFiringAdmin(ReadOnlyAdmin):
    """Firings that should have been and left no execution; whoever may see the task sees them."""

    nav_label = _lazy("Missed firings")
    empty_icon = "circle-check"
    empty_title = _lazy("Nothing was missed")
    empty_text = _lazy("Every time of every schedule has left its executions.")
    list_display = ("task_cell", "count_cell", "first_cell", "last_cell", "found_cell", "state_cell")
    list_display_links = None
    list_filter = (ResolvedFilter,)
    search_fields = ("task_name",)
    search_help_text = _lazy("Search by the task's name")
    actions = None

    # --- who may ---

    def visible_rows(self, request: HttpRequest, action: str) -> QuerySet:
        if action != "view":
            return MissedFiring.objects.none()
        return MissedFiring.objects.filter(task_id__in=visible(who(request), Task.objects.all()).values("pk"))

    # --- list ---

    @admin.display(description=_lazy("Task"))
    def task_cell(self, event: MissedFiring) -> str:
        url = reverse("admin:tasks_app_task_detail", args=[event.task_id])
        return format_html('<a class="cell-main" href="{}">{}</a>', url, event.task_name)

    @admin.display(description=_lazy("Times"))
    def count_cell(self, event: MissedFiring) -> str:
        return format_html('<span class="num">{}</span>', event.count)

    @admin.display(description=_lazy("First"))
    def first_cell(self, event: MissedFiring) -> str:
        return moment(event.first_time)

    @admin.display(description=_lazy("Last"))
    def last_cell(self, event: MissedFiring) -> str:
        return moment(event.last_time)

    @admin.display(description=_lazy("Found"))
    def found_cell(self, event: MissedFiring) -> str:
        return moment(event.detected_at, "ago")

    @admin.display(description=_lazy("State"))
    def state_cell(self, event: MissedFiring) -> str:
        if event.resolved_at:
            return pill("success", _("Came after all"))
        return pill("failure", _("Still missing"))

    # --- the scheduler ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.health_view)
        return [path("scheduler/", view, name="executions_app_scheduler"), *super().get_urls()]

    def health_view(self, request: HttpRequest) -> HttpResponse:
        if not request.user.has_perm(SEE):
            raise PermissionDenied
        state = scheduler_state()
        instances = [
            {
                "name": name,
                "leads": bool(facts.get("leader")),
                "tasks": facts.get("tasks", 0),
                "backlog": facts.get("backlog", 0),
                "at": datetime.fromtimestamp(facts["at"], UTC),
            }
            for name, facts in sorted(state["instances"].items())
        ]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Scheduler"),
            "state": state,
            "instances": instances,
            "backlog": sum(instance["backlog"] for instance in instances if instance["leads"]),
            "planned": sum(instance["tasks"] for instance in instances if instance["leads"]),
            "waiting": state["live"].get(ExecutionStatus.PENDING.name, 0),
            "running": state["live"].get(ExecutionStatus.RUNNING.name, 0),
            "missed": list(self.visible_rows(request, "view").filter(resolved_at=None)[:SHOWN_MISSED]),
        }
        return TemplateResponse(request, "console/scheduler.html", context)


site.add_page("work", _lazy("Scheduler"), "gauge", "admin:executions_app_scheduler", SEE)
