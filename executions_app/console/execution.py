"""The console's page of one execution: its facts, attempts and log; running it again; the log as a file."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from groups_app.models import Client, Group
from quartzflow.console.base import ObjectPermissionAdmin, who
from quartzflow.errors import QuartzError
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.permissions import visible
from tasks_app.models import Task
from tasks_app.selectors import tasks_for

from ..choices import ExecutionType, FailureReason
from ..models import Attempt, Execution
from ..retention import output_is_gone
from ..retries import RETRYABLE, do_retry_executions, do_retry_run
from ..selectors import executions_for, log_of, may_read_log

TIMELINE = 1000  # units of the drawing's width


class ExecutionPageAdmin(ObjectPermissionAdmin):
    """The page; the list is in ExecutionAdmin."""

    # --- who may ---

    def visible_rows(self, request: HttpRequest, action: str) -> QuerySet:
        if action == "view":
            return executions_for(who(request))
        if action in ("cancel", "trigger"):
            return Execution.objects.filter(task__in=visible(who(request), Task.objects.all(), action))
        return Execution.objects.none()

    def may(self, request: HttpRequest, obj: Model, action: str) -> bool:
        return self.visible_rows(request, action).filter(pk=obj.pk).exists()

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if obj is not None:
            return self.may(request, obj, "view")
        return request.user.has_perm("executions_app.view_execution") or tasks_for(who(request)).exists()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    # --- pages ---

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        name = "executions_app_execution"
        return [
            # First: the next would take "runs/…" for an id.
            path("runs/<str:run_id>/retry/", wrap(self.retry_run_view), name="executions_app_run_retry"),
            path("<path:object_id>/retry/", wrap(self.retry_view), name=f"{name}_retry"),
            path("<path:object_id>/log/", wrap(self.log_view), name=f"{name}_log"),
            *super().get_urls(),
        ]

    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def retry(request: HttpRequest, execution: Execution) -> dict[str, Any]:
            made = do_retry_executions(who(request), [execution])
            return {
                "message": _("“%(name)s” is started again.") % {"name": execution.task_name},
                "url": reverse("admin:executions_app_execution_change", args=[made[0].pk]),
                "link": _("Watch"),
            }

        return self.post_view(request, object_id, retry, "trigger")

    def retry_run_view(self, request: HttpRequest, run_id: str) -> HttpResponse:
        """POST: run the failed hosts of a run again."""
        if request.method != "POST":
            return HttpResponse(status=405, headers={"Allow": "POST"})
        if not executions_for(who(request)).filter(run_id=run_id).exists():
            raise Http404
        try:
            made = do_retry_run(who(request), run_id)
        except QuartzError as error:
            return self._answer(request, {"message": str(error.message)}, error.http_status)
        url = reverse("admin:executions_app_run", args=[made[0].run_id])
        words = _("The failed hosts are started again.")
        return self._answer(request, {"message": words, "url": url, "link": _("Watch")}, 200)

    def log_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET ?as=txt|json: what the server holds of the output, as a file."""
        execution = self.access(request, object_id)
        if not may_read_log(who(request), execution):
            raise PermissionDenied
        kind = request.GET.get("as", "txt")
        if kind not in ("txt", "json"):
            return HttpResponseBadRequest()
        log = log_of(execution)
        response: HttpResponse
        if kind == "json":
            response = JsonResponse(
                facts_of(execution) | {"log": log}, json_dumps_params={"ensure_ascii": False, "indent": 2}
            )
        else:
            text = log["output"] + (f"\n--- stderr ---\n{log['error']}" if log["error"] else "")
            response = HttpResponse(text, content_type="text/plain; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{execution.execution_id}.{kind}"'
        response["X-Content-Type-Options"] = "nosniff"
        return response

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        execution = self.get_object(request, object_id)
        if execution is None:
            raise Http404
        status = execution.status_enum
        may = {action for action in self.row_permissions if self.may(request, execution, action)}
        group = Group.objects.filter(pk=execution.group_id).first() if execution.group_id else None
        attempts = attempts_of(execution)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": execution.task_name,
            "execution": execution,
            "status": status,
            "is_live": status in LIVE,
            "task": tasks_for(who(request)).filter(pk=execution.task_id).first(),
            "client": Client.objects.filter(client_id=execution.client_id).first()
            if execution.client_id
            else None,
            "group": group,
            "trigger": ExecutionType(execution.execution_type).label,
            "reason": FailureReason(execution.failure_reason).label if execution.failure_reason else "",
            "log": log_of(execution) if may_read_log(who(request), execution) else None,
            "log_gone": status not in LIVE and output_is_gone(execution),
            "facts_json": json.dumps(facts_of(execution), ensure_ascii=False),
            "attempts": attempts,
            "timeline": timeline(attempts),
            "run_size": executions_for(who(request)).filter(run_id=execution.run_id).count(),
            "earlier": executions_for(who(request)).filter(pk=execution.retry_of or 0).first(),
            "may_cancel": "cancel" in may,
            "may_run": "trigger" in may,
            "retryable": status in RETRYABLE,
        }
        return TemplateResponse(request, "console/execution.html", context)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return redirect("admin:executions_app_execution_change", object_id)  # history is not deleted by hand


def facts_of(execution: Execution) -> dict[str, Any]:
    """An execution as its log's JSON file has it; times are ISO 8601."""

    def text(moment: datetime | None) -> str | None:
        return moment.isoformat() if moment else None

    return {
        "execution_id": execution.execution_id,
        "task_id": execution.task_id,
        "task_name": execution.task_name,
        "client_id": execution.client_id,
        "status": execution.status_enum.name,
        "exit_code": execution.exit_code,
        "scheduled_time": text(execution.scheduled_time),
        "start_time": text(execution.start_time),
        "end_time": text(execution.end_time),
        "duration_ms": execution.duration,
        "params": execution.params,
    }


def attempts_of(execution: Execution) -> list[Attempt]:
    """The attempts with their words, when there was more than one."""
    rows = list(execution.attempts.all())
    for row in rows:
        row.shown = ExecutionStatus(row.status)  # type: ignore[attr-defined]
        row.reason = FailureReason(row.failure_reason).label if row.failure_reason else ""  # type: ignore[attr-defined]
    return rows if len(rows) > 1 else []


def timeline(attempts: list[Attempt]) -> list[dict[str, Any]]:
    """Where each attempt lies in the whole time, in units of the drawing; one that runs lasts until now."""
    now = timezone.now()
    begun = [(row, row.start_time, row.end_time or now) for row in attempts if row.start_time]
    if not begun:
        return []
    first = min(start for _row, start, _end in begun)
    whole = (max(end for _row, _start, end in begun) - first).total_seconds() or 1.0
    bars = []
    for row, start, end in begun:
        x = TIMELINE * (start - first).total_seconds() / whole
        width = TIMELINE * (end - start).total_seconds() / whole
        width = max(width, 6.0)  # a short one must be seen, too
        bars.append({"x": round(min(x, TIMELINE - width), 1), "width": round(width, 1), "attempt": row})
    return bars
