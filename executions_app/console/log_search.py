"""The console's log search: a text in the outputs of all executions whose logs one may read."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from quartzflow.console.base import ConsoleAdmin, who
from quartzflow.console.site import site
from quartzflow.errors import InvalidInput
from quartzflow.execution_status import LIVE, ExecutionStatus

from .. import log_search, log_search_index
from ..log_search import Hit, TooLong
from ..models import ExecutionLog
from ..retention import EXECUTIONS_DAYS, OUTPUT_DAYS
from ..selectors import readable_tasks, since

TIMES = {
    "hour": _lazy("Last hour"),
    "today": _lazy("Today"),
    "7": _lazy("Last 7 days"),
    "30": _lazy("Last 30 days"),
}


@admin.register(ExecutionLog, site=site)
class LogSearchAdmin(ConsoleAdmin):
    """Its list is the search."""

    section = "work"
    icon = "search"
    nav_order = 25
    nav_label = _lazy("Log search")

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        tasks = readable_tasks(who(request))
        return tasks is None or bool(tasks)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        given = {
            name: text for name, text in request.GET.dict().items() if name in (*log_search.FIELDS, "time")
        }
        found, errors, too_long = None, {}, ""
        if given.get("q"):
            try:
                found = log_search.search(who(request), log_search.check_wanted(_asked(given)))
            except InvalidInput as error:
                errors = {name: " ".join(map(str, texts)) for name, texts in error.errors.items()}
            except TooLong as error:
                too_long = str(error.message)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.nav_label,
            "given": given,
            "errors": errors,
            "too_long": too_long,
            "found": found,
            "results": [_result(hit, given["q"]) for hit in found.hits] if found else [],
            "narrowed": bool(set(filter(given.get, given)) - {"q", "before"}),
            "short": len(given.get("q", "")) < log_search.INDEXED,
            "state": log_search_index.state(),
            "kept_days": OUTPUT_DAYS.value or EXECUTIONS_DAYS.value,
            "times": TIMES.items(),
            "statuses": [
                ("bad", _("Failed or timed out")),
                *((str(value), label) for value, label in ExecutionStatus.choices if value not in LIVE),
            ],
        }
        return TemplateResponse(request, "console/log_search.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return redirect("admin:executions_app_execution_change", object_id)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return redirect("admin:executions_app_execution_change", object_id)


def _asked(given: dict[str, str]) -> dict[str, str]:
    """The page's query as log_search knows it: what was left empty is not there, and "today" has a beginning."""
    asked = {name: text for name, text in given.items() if text and name != "time"}
    if given.get("time") in TIMES and "from" not in asked:
        asked["from"] = _beginning(given["time"]).isoformat()
    return asked


def _beginning(name: str) -> datetime:
    if name == "hour":
        return timezone.now() - timedelta(hours=1)
    return since(1 if name == "today" else int(name))


def _result(hit: Hit, text: str) -> dict[str, Any]:
    """A hit as the page shows it, with links to the places in the execution's log."""
    url = reverse("admin:executions_app_execution_change", args=[hit.execution.pk])
    lines = [
        {
            "snippet": snippet,
            "url": f"{url}?{urlencode({'find': text, 'line': snippet.line})}#log"
            if snippet.where == "output"
            else f"{url}#error",
        }
        for snippet in hit.snippets
    ]
    return {
        "execution": hit.execution,
        "status": hit.execution.status_enum,
        "count": hit.count,
        "lines": lines,
        "url": lines[0]["url"] if lines else url,
        "more": hit.count - len(lines),
    }
