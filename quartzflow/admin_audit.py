"""The console's audit log: who did what to which object, from where; to be searched, filtered and taken away as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from .admin_base import ConsoleAdmin, who
from .admin_site import site
from .audit import record
from .models import AuditEntry
from .templatetags.console import moment

EXPORT_LIMIT = 100_000  # rows
# Their entries hold values, lists among them; those of the others hold what was before and what is after.
SINGLE = (".create", ".delete", ".retry", ".export", ".trigger", ".replay")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take a cell for a formula by

NOUNS = {
    "task": _lazy("Task"),
    "execution": _lazy("Execution"),
    "calendar": _lazy("Calendar"),
    "group": _lazy("Group"),
    "client": _lazy("Host"),
    "enrollment_token": _lazy("Enrollment token"),
    "api_token": _lazy("API token"),
    "user": _lazy("User"),
    "role": _lazy("Role"),
    "permission": _lazy("Permission"),
    "session": _lazy("Session"),
    "audit": _lazy("Audit log"),
    "setting": _lazy("System setting"),
    "secret": _lazy("Secret"),
}
VERBS = {
    "create": _lazy("created"),
    "update": _lazy("changed"),
    "delete": _lazy("deleted"),
    "enable": _lazy("enabled"),
    "disable": _lazy("disabled"),
    "trigger": _lazy("run by hand"),
    "cancel": _lazy("cancelled"),
    "retry": _lazy("retried"),
    "replay": _lazy("replayed"),
    "replay_cancel": _lazy("replay ended"),
    "revoke": _lazy("revoked"),
    "reset": _lazy("reset"),
    "rotate": _lazy("credential renewed"),
    "rotated": _lazy("credential taken"),
    "approve": _lazy("approved"),
    "approval_lapse": _lazy("approval lapsed"),
    "move": _lazy("moved"),
    "grant": _lazy("granted"),
    "login": _lazy("logged in"),
    "login_failed": _lazy("log-in failed"),
    "logout": _lazy("logged out"),
    "export": _lazy("exported"),
}


def words_of(action: str) -> str:
    """`noun.verb` in words; what has none stays as it is."""
    noun, _dot, verb = action.partition(".")
    return f"{NOUNS.get(noun, noun)} · {VERBS.get(verb, verb)}"


class AuditTimeFilter(admin.SimpleListFilter):
    title = _lazy("Time")
    parameter_name = "time"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("1", _("Last 24 hours")), ("7", _("Last 7 days")), ("30", _("Last 30 days"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        days = self.value()
        if days not in ("1", "7", "30"):
            return queryset
        return queryset.filter(at__gte=timezone.now() - timedelta(days=int(days)))


class ActionFilter(admin.SimpleListFilter):
    title = _lazy("Action")
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        found = AuditEntry.objects.order_by("action").values_list("action", flat=True).distinct()
        return [(action, words_of(action)) for action in found]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(action=self.value()) if self.value() else queryset


class ActorFilter(admin.SimpleListFilter):
    title = _lazy("User")
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        found = AuditEntry.objects.order_by("actor_name").values_list("actor_name", flat=True).distinct()
        return [(name, name) for name in found if name]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(actor_name=self.value()) if self.value() else queryset


@admin.register(AuditEntry, site=site)
class AuditAdmin(ConsoleAdmin):
    """Reads only. Those with quartzflow.view_auditentry see all of it."""

    section = "settings"
    icon = "shield-check"
    nav_order = 30
    nav_label = _lazy("Audit log")
    empty_icon = "shield-check"
    empty_title = _lazy("Nothing has been done yet")
    empty_text = _lazy("What people change, run and look after is written down here.")
    change_list_template = "console/audit_list.html"

    list_display = ("time_cell", "actor_cell", "action_cell", "object_cell", "changes_cell")
    list_display_links = None
    sortable_by = ()  # by id, newest first: every filter has its index in that order
    list_filter = (AuditTimeFilter, ActionFilter, ActorFilter)
    search_fields = ("object_name", "^actor_name", "address", "=request_id")
    search_help_text = _lazy("Object, user, address or request")
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @admin.display(description=_lazy("Time"))
    def time_cell(self, entry: AuditEntry) -> str:
        return moment(entry.at)

    @admin.display(description=_lazy("User"))
    def actor_cell(self, entry: AuditEntry) -> str:
        return format_html(
            '<span class="mono">{}</span><span class="cell-sub">{}</span>',
            entry.actor_name or "—",
            entry.address,
        )

    @admin.display(description=_lazy("Action"))
    def action_cell(self, entry: AuditEntry) -> str:
        return format_html('<span class="nowrap">{}</span>', words_of(entry.action))

    @admin.display(description=_lazy("Object"))
    def object_cell(self, entry: AuditEntry) -> str:
        number = f"#{entry.object_id}" if entry.object_id else ""
        return format_html('{}<span class="cell-sub">{}</span>', entry.object_name or "—", number)

    @admin.display(description=_lazy("Changes"))
    def changes_cell(self, entry: AuditEntry) -> str:
        changes = list(changes_of(entry))
        return render_to_string("console/audit_changes.html", {"changes": changes}) if changes else ""

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export_view)
        return [path("export/", export, name="quartzflow_auditentry_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """POST, with the list's filters in the query: the entries as CSV, newest first. Written down itself."""
        if request.method != "POST":
            return HttpResponse(status=405, headers={"Allow": "POST"})
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_changelist_instance(request).get_queryset(request).order_by("-id")[:EXPORT_LIMIT]
        record(who(request), "audit.export", None, {"query": request.GET.dict()})
        response = StreamingHttpResponse(csv_lines(rows), content_type="text/csv; charset=utf-8")
        name = f"audit-{timezone.localtime():%Y%m%d-%H%M%S}.csv"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return redirect("admin:quartzflow_auditentry_changelist")  # the list shows all there is of an entry


def changes_of(entry: AuditEntry) -> Iterator[tuple[str, str | None, str]]:
    """(field, before, after); before is None where there is only a value."""
    for name, value in entry.changes.items():
        if isinstance(value, list) and len(value) == 2 and not entry.action.endswith(SINGLE):
            yield name, _shown(value[0]), _shown(value[1])
        else:
            yield name, None, _shown(value)


def _shown(value: Any) -> str:
    if value in (None, "", [], {}):
        return "—"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class _Echo:
    """A file whose writing gives the text back."""

    def write(self, text: str) -> str:
        return text


def csv_lines(rows: QuerySet[AuditEntry]) -> Iterator[str]:
    """The entries as lines of CSV that a spreadsheet reads as text, never as formulas."""
    writer = csv.writer(_Echo())
    yield "\ufeff"  # Excel takes the file for UTF-8 by this
    yield writer.writerow(
        [
            "id",
            "time",
            "user",
            "address",
            "request",
            "action",
            "object_type",
            "object_id",
            "object",
            "changes",
        ]
    )
    for row in rows.iterator(2000):
        cells = [
            row.pk, row.at.isoformat(), row.actor_name, row.address, row.request_id, row.action, row.object_type,
            row.object_id, row.object_name, json.dumps(row.changes, ensure_ascii=False),
        ]  # fmt: skip
        yield writer.writerow([neutral(str(cell)) for cell in cells])


def neutral(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text
