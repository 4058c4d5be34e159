"""The console's page of one run: all executions of a firing (hosts, shards, waves) and the chain that it is part of."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from quartzflow.console.base import who
from quartzflow.errors import NotFound, QuartzError
from quartzflow.execution_status import LIVE, TERMINAL, ExecutionStatus
from tasks_app.graphs import Box, Drawing, lay_out
from tasks_app.selectors import tasks_for

from .. import control
from ..choices import ExecutionType, FailureReason, Hold
from ..models import Execution
from ..retries import RETRYABLE
from ..runs import RunView, run_view
from ..selectors import executions_for
from .execution import ExecutionPageAdmin

SHOWN = 500  # executions; the list has all of them


class RunPageAdmin(ExecutionPageAdmin):
    """The page of a run, and ending what of it waits or runs; running its failed hosts again is in its base."""

    def run_urls(self) -> list[URLPattern]:
        """Before all others, which would take "runs/…" for an id."""
        wrap = self.admin_site.admin_view
        return [
            path("runs/<str:run_id>/", wrap(self.run_page), name="executions_app_run"),
            path("runs/<str:run_id>/cancel/", wrap(self.cancel_run_view), name="executions_app_run_cancel"),
        ]

    def run_page(self, request: HttpRequest, run_id: str) -> HttpResponse:
        user = who(request)
        try:
            run = run_view(user, run_id)
        except NotFound as error:
            raise Http404 from error
        rows = executions_for(user).filter(run_id=run_id)
        shown = list(rows.order_by("wave", "shard_index", "client_id", "id")[:SHOWN])
        for row in shown:
            row.reason = FailureReason(row.failure_reason).label if row.failure_reason else ""  # type: ignore[attr-defined]
            row.held = Hold(row.hold).label if row.hold and row.status in LIVE else ""  # type: ignore[attr-defined]
        status = ExecutionStatus(run["status"])
        may = {action for action in self.row_permissions if self._may_run(request, run_id, action)}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": run["task_name"],
            "run": run,
            "status": status,
            "trigger": ExecutionType(run["execution_type"]).label,
            "counts": [(ExecutionStatus[name], count) for name, count in run["counts"].items()],
            "task": tasks_for(user).filter(pk=run["task_id"]).first(),
            "rows": shown,
            "waves": waves_of(rows),
            "chain": chain_of(run) if len(run["chain"]) > 1 else None,
            "may_retry": "trigger" in may and any(s.name in run["counts"] for s in RETRYABLE),
            "may_cancel": "cancel" in may and status in LIVE,
            "rest": run["total"] - len(shown),
        }
        return TemplateResponse(request, "console/run.html", context)

    def _may_run(self, request: HttpRequest, run_id: str, action: str) -> bool:
        return bool(self.visible_rows(request, action).filter(run_id=run_id).exists())

    def cancel_run_view(self, request: HttpRequest, run_id: str) -> HttpResponse:
        """POST: end what of the run waits or runs."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        rows = executions_for(who(request)).filter(run_id=run_id)
        if not rows.exists():
            raise Http404
        if not self._may_run(request, run_id, "cancel"):
            raise PermissionDenied
        try:
            control.do_cancel_executions(who(request), rows.filter(status__in=LIVE))
        except QuartzError as error:
            return self._answer(request, {"message": str(error.message)}, error.http_status)
        return self._answer(request, {"message": _("The run is cancelled.")}, 200)


def waves_of(rows: Any) -> list[dict[str, Any]]:
    """How each wave of a broadcast stands: `number` (1 is the first), `total`, `ended`, `failed`, `percent` ended."""
    bad = (ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT)
    counted = (
        rows.exclude(wave=None)
        .order_by("wave")
        .values("wave")
        .annotate(
            total=Count("id"),
            ended=Count("id", filter=Q(status__in=TERMINAL)),
            failed=Count("id", filter=Q(status__in=bad)),
        )
    )
    return [
        {**wave, "number": wave["wave"] + 1, "percent": 100 * wave["ended"] // wave["total"]}
        for wave in counted
    ]


def chain_of(run: RunView) -> Drawing:
    """The runs before and after this one, drawn."""
    boxes = [
        Box(
            key=node["run_id"],
            label=node["task_name"],
            note=str(ExecutionStatus(node["status"]).label),
            url=""
            if node["run_id"] == run["run_id"]
            else reverse("admin:executions_app_run", args=[node["run_id"]]),
            css=f"graph-{ExecutionStatus(node['status']).color}"
            + (" graph-current" if node["run_id"] == run["run_id"] else ""),
        )
        for node in run["chain"]
    ]
    return lay_out(boxes, [(edge["parent"], edge["child"]) for edge in run["edges"]], {})


def run_url(execution: Execution) -> str:
    """Where the run of an execution is shown."""
    return reverse("admin:executions_app_run", args=[execution.run_id])
