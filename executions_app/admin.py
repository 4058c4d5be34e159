"""The console's list of executions; the page of one is in console.execution."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext

from groups_app.models import Client, Group
from quartzflow.console.base import menu, pill, who
from quartzflow.console.site import site
from quartzflow.durations import milliseconds
from quartzflow.errors import Conflict, QuartzError
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.permissions import visible
from quartzflow.templatetags.console import moment
from tasks_app.models import Task
from tasks_app.selectors import tasks_for

from . import control
from .choices import ExecutionType, FailureReason
from .console.alert_channels import AlertChannelAdmin
from .console.alert_rules import AlertRuleAdmin
from .console.alert_silences import AlertSilenceAdmin
from .console.alerts import AlertAdmin, AlertDeliveryAdmin
from .console.filters import NarrowFilter, StatusFilter, TimeFilter, day_of
from .console.log_search import LogSearchAdmin
from .console.replays import ReplayAdmin
from .console.report_schedules import ReportScheduleAdmin
from .console.reports import ReportAdmin
from .console.runs import RunPageAdmin
from .console.scheduler import MissedFiringAdmin
from .models import Execution
from .retries import RETRYABLE, do_retry_executions
from .selectors import span_of
from .trials import TRIAL

__all__ = [
    "AlertAdmin", "AlertChannelAdmin", "AlertDeliveryAdmin", "AlertRuleAdmin", "AlertSilenceAdmin", "ExecutionAdmin",
    "LogSearchAdmin", "MissedFiringAdmin", "ReplayAdmin", "ReportAdmin", "ReportScheduleAdmin",
]  # fmt: skip

MAX_SEARCHED_TASKS = 200


@admin.register(Execution, site=site)
class ExecutionAdmin(RunPageAdmin):
    section = "work"
    icon = "activity"
    nav_order = 20
    nav_label = _lazy("Executions")
    empty_icon = "activity"
    empty_title = _lazy("Nothing has run yet")
    empty_text = _lazy("Executions appear here as tasks fire, or when you run one by hand.")
    change_list_template = "console/execution_list.html"
    row_permissions = ("cancel", "trigger")
    list_per_page = 50

    list_display = (
        "task_cell", "status_cell", "client_cell", "type_cell", "scheduled_cell", "start_cell", "duration_cell",
        "row_menu",
    )  # fmt: skip
    list_display_links = None
    sortable_by = ()  # by id, newest first: filters have their indexes in that order
    list_filter = (StatusFilter, TimeFilter, "execution_type", NarrowFilter)
    search_fields = ("task_name",)
    search_help_text = _lazy("Task, host, number or execution id")
    actions = ("cancel_selected", "retry_selected")
    confirmations = {
        "retry_selected": _lazy("Run %(count)s executions again, each on its host?"),
        "cancel_selected": _lazy(
            "Cancel %(count)s executions? What runs is ended, with everything it started."
        ),
    }

    # --- list ---

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        # A stretch of time in the order of its index: by id, a day long ago would be looked for among all newer ones.
        asked = request.GET
        of_days = (
            span_of(asked.get("time", "")) or day_of(asked.get("from", "")) or day_of(asked.get("to", ""))
        )
        return ("-scheduled_time", "-id") if of_days else ("-id",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet, bool]:
        # Words are looked up among tasks and hosts, which are few; among executions that would be a full scan.
        term = search_term.strip()
        if not term:
            return queryset, False
        if term.startswith("exec_"):
            return queryset.filter(execution_id=term), False
        tasks = tasks_for(who(request)).filter(name__icontains=term).order_by()
        found = Q(task_id__in=list(tasks.values_list("pk", flat=True)[:MAX_SEARCHED_TASKS]))
        hosts = Client.objects.filter(Q(client_id__icontains=term) | Q(hostname__icontains=term))
        found |= Q(client_id__in=list(hosts.values_list("client_id", flat=True)[:MAX_SEARCHED_TASKS]))
        if term.lstrip("#").isdigit():
            found |= Q(pk=int(term.lstrip("#")[:18]))
        return queryset.filter(found), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        task = request.GET.get("task__id__exact", "")
        chosen = tasks_for(who(request)).filter(pk=int(task)).first() if task.isdigit() else None
        plain = not set(request.GET) - {"task__id__exact"}
        run = request.GET.get("run_id", "")
        reason = request.GET.get("failure_reason__exact", "")
        group = request.GET.get("group_id__exact", "")
        context = {
            "chosen_reason": FailureReason(reason).label if reason in FailureReason.values else "",
            "chosen_group": visible(who(request), Group.objects.filter(pk=int(group))).first()
            if re.fullmatch(r"[0-9]{1,18}", group)
            else None,
            "chosen_run": run,
            "chosen_run_url": reverse("admin:executions_app_run", args=[run])
            if run and "/" not in run
            else "",
            "retry_run": reverse("admin:executions_app_run_retry", args=[run])
            if self._run_failed(request, run)
            else "",
            "chosen_task": chosen,
            "chosen_client": request.GET.get("client_id__exact", ""),
            "may_retry": request.user.has_perm("tasks_app.trigger_task"),
            # New rows come in by themselves only where the page shows all of the newest.
            "live_insert": plain,
            "live_feed": chosen is None
            and not request.GET.get("p")
            and not run
            and request.user.has_perm("executions_app.view_execution"),
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def _run_failed(self, request: HttpRequest, run: str) -> bool:
        """Whether the page shows one run that has failed hosts which the user may run again."""
        return bool(run) and self.visible_rows(request, "trigger").filter(
            run_id=run, status__in=RETRYABLE
        ).exists()  # fmt: skip

    @admin.display(description=_lazy("Task"))
    def task_cell(self, execution: Execution) -> str:
        url = reverse("admin:executions_app_execution_change", args=[execution.pk])
        return format_html(
            '<a class="cell-main" href="{}">{}</a><span class="cell-sub">#{}</span>',
            url,
            execution.task_name,
            execution.pk,
        )

    @admin.display(description=_lazy("Status"))
    def status_cell(self, execution: Execution) -> str:
        status = execution.status_enum
        reason = FailureReason(execution.failure_reason).label if execution.failure_reason else ""
        shown = pill(status.color, status.label, status=status.value, execution=execution.pk)
        return format_html('{}<span class="cell-sub">{}</span>', shown, reason)

    @admin.display(description=_lazy("Host"))
    def client_cell(self, execution: Execution) -> str:
        return execution.client_id or "—"

    @admin.display(description=_lazy("Trigger"))
    def type_cell(self, execution: Execution) -> Any:
        return ExecutionType(execution.execution_type).label

    @admin.display(description=_lazy("Scheduled for"))
    def scheduled_cell(self, execution: Execution) -> str:
        return moment(execution.scheduled_time)

    @admin.display(description=_lazy("Started"))
    def start_cell(self, execution: Execution) -> str:
        return moment(execution.start_time)

    @admin.display(description=_lazy("Duration"))
    def duration_cell(self, execution: Execution) -> str:
        if execution.status == ExecutionStatus.RUNNING and execution.start_time:
            return format_html(
                '<span class="num" data-running-since="{}">…</span>', execution.start_time.isoformat()
            )
        return format_html('<span class="num">{}</span>', milliseconds(execution.duration))

    @admin.display(description="")
    def row_menu(self, execution: Any) -> str:
        retry = ""
        if "trigger" in execution.may and execution.task_id != TRIAL:
            url = reverse("admin:executions_app_execution_retry", args=[execution.pk])
            retry = render_to_string(
                "console/retry_now.html", {"label": self.menu_label(execution), "url": url}
            )
        return format_html('<div class="row-tools">{}{}</div>', retry, super().row_menu(execution))

    def menu_label(self, execution: Any) -> str:
        return f"{execution.task_name} #{execution.pk}"

    def menu_items(self, execution: Any, may: set[str]) -> list[dict[str, Any]]:
        def of(name: str, *arguments: Any) -> str:
            return reverse(f"admin:{name}", args=arguments)

        items: list[dict[str, Any]] = [
            {
                "label": _("Log"),
                "icon": "square-terminal",
                "url": of("executions_app_execution_change", execution.pk),
            },
        ]
        if execution.task_id != TRIAL:
            url = of("tasks_app_task_detail", execution.task_id)
            items.append({"label": _("Task"), "icon": "calendar-clock", "url": url})
        if "trigger" in may and execution.status in RETRYABLE:
            items.append(
                {
                    "label": _("Retry"),
                    "icon": "refresh-cw",
                    "post": of("executions_app_execution_retry", execution.pk),
                }
            )
        elif "trigger" in may:
            items.append(
                {
                    "label": _("Run again"),
                    "icon": "rotate-ccw",
                    "post": of("executions_app_execution_again", execution.pk),
                }
            )
        if "cancel" in may and execution.status in LIVE:
            ask = _("Cancel this execution? What runs is ended, with everything it started.")
            stop = of("executions_app_execution_cancel", execution.pk)
            items += [
                {"line": True},
                {
                    "label": _("Cancel"),
                    "icon": "circle-stop",
                    "post": stop,
                    "confirm": ask,
                    "danger": True,
                    "sure": _("Cancel the execution"),  # beside the dialog's own "Cancel"
                },
            ]
        return items

    # --- actions ---

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found = super().get_actions(request)
        needs = {"cancel_selected": "cancel", "retry_selected": "trigger"}
        return {
            name: action
            for name, action in found.items()
            if name in needs
            and (
                request.user.has_perm(f"tasks_app.{needs[name]}_task")
                or visible(who(request), Task.objects.all(), needs[name]).exists()
            )
        }

    @admin.action(description=_lazy("Retry"))
    def retry_selected(self, request: HttpRequest, queryset: QuerySet) -> None:
        try:
            count = len(do_retry_executions(who(request), queryset))
        except QuartzError as error:
            messages.error(request, str(error.message))
        else:
            messages.success(
                request, ngettext("%d execution started.", "%d executions started.", count) % count
            )

    @admin.action(description=_lazy("Cancel executions"))
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet) -> None:
        try:
            count = control.do_cancel_executions(who(request), queryset)
        except QuartzError as error:
            messages.error(request, str(error.message))
        else:
            messages.success(
                request, ngettext("%d execution cancelled.", "%d executions cancelled.", count) % count
            )

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            *self.run_urls(),
            path("<path:object_id>/cancel/", wrap(self.cancel_view), name="executions_app_execution_cancel"),
            path("<path:object_id>/menu/", wrap(self.menu_view), name="executions_app_execution_menu"),
            path("<path:object_id>/again/", wrap(self.again_view), name="executions_app_execution_again"),
            *super().get_urls(),
        ]

    def menu_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET: the menu of one row, as it is now; for rows that changed, or came in, while the page was open."""
        execution = self.access(request, object_id)
        may = {action for action in self.row_permissions if self.may(request, execution, action)}
        items = self.menu_items(execution, may)
        return HttpResponse(menu(execution.pk, self.menu_label(execution), items))

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def cancel(request: HttpRequest, execution: Execution) -> str:
            control.do_cancel_executions(who(request), [execution])
            return _("The execution is cancelled.")

        return self.post_view(request, object_id, cancel, "cancel")

    def again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def again(request: HttpRequest, execution: Execution) -> dict[str, Any]:
            task = tasks_for(who(request)).filter(pk=execution.task_id).first()
            if task is None:
                raise Conflict(_("The task is deleted."))
            clients = [execution.client_id] if execution.client_id else None
            fresh = control.do_trigger_task(who(request), task, execution.params, clients)
            url = reverse("admin:executions_app_execution_change", args=[fresh[0].pk])
            return {
                "message": _("“%(name)s” is started again.") % {"name": task.name},
                "url": url,
                "link": _("Watch"),
            }

        return self.post_view(request, object_id, again, "trigger")
