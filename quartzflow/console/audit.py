"""The console's audit log: who did what to which object, from where; to be searched, filtered and taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from .. import audit_export, audit_search
from ..distinct import distinct_values
from ..errors import InvalidInput
from ..models import AuditEntry
from ..templatetags.console import moment
from .base import ConsoleAdmin, ReadOnly, who
from .site import site

# Their entries hold values, lists among them; those of the others hold what was before and what is after.
SINGLE = (".create", ".delete", ".retry", ".export", ".trigger", ".replay")

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
    "alert": _lazy("Alert"),
    "alert_rule": _lazy("Alert rule"),
    "alert_channel": _lazy("Alert channel"),
    "alert_silence": _lazy("Silence window"),
    "setting": _lazy("System setting"),
    "secret": _lazy("Secret"),
    "rule": _lazy("Assignment rule"),
    "backup": _lazy("Backup"),
    "report": _lazy("Report"),
    "report_schedule": _lazy("Mailed report"),
    "consistency": _lazy("Consistency check"),
}
VERBS = {
    "create": _lazy("created"),
    "acknowledge": _lazy("acknowledged"),
    "resolve": _lazy("resolved"),
    "test": _lazy("tested"),
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
    "import": _lazy("imported"),
    "test_run": _lazy("tried on a host"),
    "apply": _lazy("applied"),
    "order": _lazy("put in order"),
    "enroll": _lazy("joined"),
    "withdraw": _lazy("withdrawn"),
    "rights": _lazy("rights changed"),
    "prune": _lazy("old entries dropped"),
    "fix": _lazy("mended"),
    "request": _lazy("requested"),
    "build": _lazy("built"),
    "download": _lazy("downloaded"),
    "send": _lazy("sent by hand"),
    "sent": _lazy("sent at its time"),
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
        return [(action, words_of(action)) for action in distinct_values(AuditEntry, "action")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(action=self.value()) if self.value() else queryset


class ActorFilter(admin.SimpleListFilter):
    title = _lazy("User")
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, name) for name in distinct_values(AuditEntry, "actor_name") if name]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(actor_name=self.value()) if self.value() else queryset


class KindFilter(admin.SimpleListFilter):
    title = _lazy("Kind of object")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        found = distinct_values(AuditEntry, "object_type")
        return [(kind, kind_words(kind)) for kind in found if kind]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(object_type=self.value()) if self.value() else queryset


class ObjectFilter(admin.SimpleListFilter):
    """One object's history, by a row's link: ?object=tasks_app.task:5. Nothing to choose until then."""

    title = _lazy("Object")
    parameter_name = "object"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        kind, _colon, pk = request.GET.get(self.parameter_name, "").partition(":")
        return [(f"{kind}:{pk}", f"{kind_words(kind)} #{pk}")] if pk else []

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        kind, _colon, pk = (self.value() or "").partition(":")
        return queryset.filter(object_type=kind, object_id=pk) if pk else queryset


class DateRangeFilter(admin.ListFilter):
    """From one day to another, both included, in the user's time zone."""

    title = _lazy("Date range")
    template = "console/filter_dates.html"
    names = ("from", "to")

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.days: dict[str, date] = {}
        for name in self.names:
            given = params.pop(name, None)
            text = given[-1] if isinstance(given, list) else given
            try:
                self.days[name] = date.fromisoformat(text or "")
            except ValueError:
                continue
            self.used_parameters[name] = text

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.names)

    def choices(self, changelist: Any) -> Any:
        others = {name: value for name, value in changelist.params.items() if name not in (*self.names, "p")}
        yield {
            "days": self.days,
            "first": self.days.get("from"),
            "last": self.days.get("to"),
            "others": others,
        }

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if first := self.days.get("from"):
            queryset = queryset.filter(at__gte=_midnight(first))
        if last := self.days.get("to"):
            queryset = queryset.filter(at__lt=_midnight(last + timedelta(days=1)))
        return queryset


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time_of_day()))


def kind_words(kind: str) -> str:
    """A model's label in words; one that is not there any more stays as it is."""
    try:
        return capfirst(str(apps.get_model(kind)._meta.verbose_name))
    except (LookupError, ValueError):
        return kind


@admin.register(AuditEntry, site=site)
class AuditAdmin(ReadOnly, ConsoleAdmin):
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
    list_filter = (AuditTimeFilter, DateRangeFilter, ActionFilter, ActorFilter, KindFilter, ObjectFilter)
    search_fields = ("object_name", "^actor_name", "address", "=request_id")
    search_help_text = _lazy("Object, user, address or request")
    actions = None

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        by_time = any(
            request.GET.get(name) for name in (AuditTimeFilter.parameter_name, *DateRangeFilter.names)
        )
        return audit_search.BY_TIME if by_time else audit_search.BY_NUMBER

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet, bool]:
        if search_term:
            queryset, older = audit_search.looked_at(queryset, search_term, self.get_ordering(request))
            if older:
                request.not_all_looked_at = audit_search.LOOKED_AT  # type: ignore[attr-defined]
        return super().get_search_results(request, queryset, search_term)

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
        if not entry.object_id:
            return format_html("{}", entry.object_name or "—")
        return format_html(
            '{}<span class="cell-sub"><a href="?object={}:{}" title="{}">#{}</a></span>', entry.object_name or "—",
            entry.object_type, entry.object_id, _("All that was done to it"), entry.object_id,
        )  # fmt: skip

    @admin.display(description=_lazy("Changes"))
    def changes_cell(self, entry: AuditEntry) -> str:
        changes = list(changes_of(entry))
        return render_to_string("console/audit_changes.html", {"changes": changes}) if changes else ""

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export_view)
        return [path("export/", export, name="quartzflow_auditentry_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """POST `format`, with the list's filters in the query: the entries as a file, newest first."""
        if request.method != "POST":
            return HttpResponse(status=405, headers={"Allow": "POST"})
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_changelist_instance(request).get_queryset(request)
        kind = request.POST.get("format", "csv")
        try:
            if hasattr(request, "not_all_looked_at"):
                raise InvalidInput({"format": [audit_search.not_all()]})
            stream = audit_export.do_export(who(request), rows, kind, request.GET.dict())
        except InvalidInput as error:
            messages.error(request, str(error.errors["format"][0]))
            url = reverse("admin:quartzflow_auditentry_changelist")
            return redirect(f"{url}?{request.GET.urlencode()}")
        response = StreamingHttpResponse(stream, content_type=audit_export.mime_of(kind))
        name = f"audit-{timezone.localtime():%Y%m%d-%H%M%S}.{kind}"
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
