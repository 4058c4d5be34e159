"""The console's pages of reports: figures over a range of days, and the files that are built of them (FR-6.4)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from groups_app.models import Group
from quartzflow.console.base import ObjectPermissionAdmin, pill, who
from quartzflow.console.site import site
from quartzflow.errors import InvalidInput, NotAllowed, QuartzError
from quartzflow.permissions import visible
from quartzflow.templatetags.console import moment
from tasks_app.models import Task

from ..reports import actions, query, selectors, tables, words
from ..reports.choices import OPEN, Dimension, Format, ReportState
from ..reports.declared import KEPT_DAYS
from ..reports.downloads import as_attachment
from ..reports.figures import Figures
from ..reports.models import Report

COLORS = {
    ReportState.WAITING: "pending",
    ReportState.BUILDING: "running",
    ReportState.DONE: "success",
    ReportState.FAILED: "failure",
    ReportState.CANCELLED: "cancelled",
}
SHOWN = 50  # rows of a table
FOLDS = (("day", _lazy("By day")), ("week", _lazy("By week")), ("month", _lazy("By month")))
LIST = "admin:executions_app_report_changelist"


def figure_parts(
    figures: Figures, by: str, link: tables.Links, dimensions: Any = Dimension.values
) -> dict[str, Any]:
    """What templates/console/figures.html shows."""
    of_days = tables.days(figures, by, link)
    return {
        "figures": figures,
        "key_figures": words.key_figures(figures),
        "note": words.note(figures),
        "labels": words.labels(),
        "by": by,
        "days_table": of_days if Dimension.DAY in dimensions else None,
        "chart": tables.trend(of_days, by),
        "tables": [
            tables.table(figures, name, SHOWN, link) for name in dimensions if Dimension(name) in tables.ROWS
        ],
        "reasons": tables.reasons(figures, link) if Dimension.REASON in dimensions else None,
        "failing": tables.failing(figures, link),
        "shown": SHOWN,
    }


@admin.register(Report, site=site)
class ReportAdmin(ObjectPermissionAdmin):
    """Reports that one has asked for."""

    section = "reports"
    icon = "file-text"
    nav_order = 70
    nav_label = _lazy("Built reports")
    empty_icon = "file-text"
    empty_title = _lazy("No reports yet")
    empty_text = _lazy(
        "Choose days on the page of statistics, and have them built as an Excel workbook or PDF."
    )
    change_list_template = "console/report_list.html"
    list_display = (
        "days_cell",
        "state_cell",
        "format_cell",
        "owner_cell",
        "asked_cell",
        "size_cell",
        "row_menu",
    )
    list_display_links = None
    sortable_by = ()
    list_filter = ("format", "state")
    actions = None
    row_permissions = ()

    # --- who may ---

    def visible_rows(self, request: HttpRequest, action: str) -> QuerySet:
        return selectors.reports_for(who(request)).select_related("owner")

    def may(self, request: HttpRequest, obj: Model, action: str) -> bool:
        return self.visible_rows(request, action).filter(pk=obj.pk).exists()

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if obj is not None:
            return self.may(request, obj, "view")
        return selectors.may_have_figures(who(request)) or self.visible_rows(request, "view").exists()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # it is asked for on the page of statistics

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).defer("figures", "seen")

    # --- list ---

    @admin.display(description=_lazy("Days"))
    def days_cell(self, report: Report) -> str:
        url = reverse("admin:executions_app_report_change", args=[report.pk])
        parts = ", ".join(str(Dimension(name).label) for name in report.dimensions)
        return format_html(
            '<a class="cell-main num" href="{}">{}</a><span class="cell-sub">{}</span>', url, report, parts
        )

    @admin.display(description=_lazy("State"))
    def state_cell(self, report: Report) -> str:
        state = ReportState(report.state)
        below = f"{report.percent} %" if state == ReportState.BUILDING else report.error
        return format_html('{}<span class="cell-sub">{}</span>', pill(COLORS[state], state.label), below)

    @admin.display(description=_lazy("Format"))
    def format_cell(self, report: Report) -> Any:
        return Format(report.format).label

    @admin.display(description=_lazy("Built for"))
    def owner_cell(self, report: Report) -> str:
        return report.owner.get_username()

    @admin.display(description=_lazy("Asked for"))
    def asked_cell(self, report: Report) -> str:
        return moment(report.created_at, "ago")

    @admin.display(description=_lazy("Size"))
    def size_cell(self, report: Report) -> str:
        return format_html(
            '<span class="num">{}</span>', f"{report.size / 1024:.0f} KB" if report.size else "—"
        )

    def menu_label(self, report: Any) -> str:
        return f"{report} #{report.pk}"

    def menu_items(self, report: Any, may: set[str]) -> list[dict[str, Any]]:
        def of(name: str) -> str:
            return reverse(f"admin:executions_app_report_{name}", args=[report.pk])

        items: list[dict[str, Any]] = [{"label": _("View"), "icon": "eye", "url": of("change")}]
        if report.state in OPEN:
            ask = _("Cancel this report?")
            return [
                *items,
                {"label": _("Cancel"), "icon": "circle-stop", "post": of("cancel"), "confirm": ask},
            ]
        if report.state == ReportState.DONE:
            items.append({"label": _("Download"), "icon": "download", "url": of("download")})
        items.append({"label": _("Build again"), "icon": "refresh-cw", "post": of("again")})
        ask = _("Delete this report and its file?")
        remove = {
            "label": _("Delete"),
            "icon": "trash-2",
            "post": of("remove"),
            "confirm": ask,
            "danger": True,
        }
        return [*items, {"line": True}, remove]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"open_reports": self.visible_rows(request, "view").filter(state__in=OPEN).exists()}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    # --- pages ---

    def get_urls(self) -> list[URLPattern]:
        own, name = self.admin_site.admin_view, "executions_app_report"
        return [
            path("statistics/", own(self.statistics_view), name="executions_app_statistics"),
            path("build/", own(self.build_view), name=f"{name}_build"),
            path("<int:pk>/download/", own(self.download_view), name=f"{name}_download"),
            path("<int:pk>/cancel/", own(self.cancel_view), name=f"{name}_cancel"),
            path("<int:pk>/again/", own(self.again_view), name=f"{name}_again"),
            path("<int:pk>/remove/", own(self.remove_view), name=f"{name}_remove"),
            *super().get_urls(),
        ]

    def statistics_view(self, request: HttpRequest) -> HttpResponse:
        """The figures of the days and filters in the address."""
        user = who(request)
        asked = query.asked(user, request.GET)
        link = query.links(asked.period, asked.chosen)
        figures = query.figures_for(user, asked.period, asked.chosen)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Statistics"),
            "asked": asked,
            "ranges": [("1", _("Today")), ("7", _("Last 7 days")), ("30", _("Last 30 days"))],
            "folds": FOLDS,
            "groups": visible(user, Group.objects.all()).order_by("name"),
            "filtered": any((asked.task, asked.group, asked.chosen.client_id)),
            "too_many": figures is None,
            "formats": [(value, label, _icon(value)) for value, label in Format.choices],
            "dimensions": Dimension.choices,
            "executions_url": link({}),
            "may_schedule": user.has_perm("executions_app.add_reportschedule"),
            **(figure_parts(figures, asked.by, link) if figures else {}),
        }
        return TemplateResponse(request, "console/statistics.html", context)

    def build_view(self, request: HttpRequest) -> HttpResponse:
        """POST `format`, `dimension` (several) and the page's own days and filters: have them built."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        user = who(request)
        asked = query.asked(user, request.POST)
        data: dict[str, Any] = {
            "format": request.POST.get("format", ""),
            "dimensions": request.POST.getlist("dimension"),
            "language": get_language(),
            "zone": timezone.get_current_timezone_name(),
            "task_id": asked.chosen.task_id,
            "group_id": asked.chosen.group_id,
            "client_id": asked.chosen.client_id,
            "days": asked.days.value,
        }
        if not asked.range:
            data |= {"from": asked.period.first, "to": asked.period.last}
        try:
            report = actions.do_request_report(user, data)
        except InvalidInput as error:
            text = " ".join(str(words_) for texts in error.errors.values() for words_ in texts)
            return self._answer(request, {"message": asked.error or text}, error.http_status)
        except QuartzError as error:
            return self._answer(request, {"message": str(error.message)}, error.http_status)
        url = reverse("admin:executions_app_report_change", args=[report.pk])
        return self._answer(
            request, {"message": _("The report is being built."), "url": url, "reload": True}, 200
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Its progress; then what is in it."""
        report: Report = self.access(request, object_id)
        user = who(request)
        state = ReportState(report.state)
        may_see = selectors.may_download(user, report)
        parts: dict[str, Any] = {}
        if report.figures and may_see:
            link = query.links(selectors.period_of_report(report), selectors.chosen_of(report))
            # Its days are those of another clock than the page's: the lists behind would not be the same.
            link = link if report.zone == timezone.get_current_timezone_name() else tables.no_links
            parts = figure_parts(Figures.from_json(report.figures), "day", link, report.dimensions)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(report),
            "report": report,
            "state": state,
            "color": COLORS[state],
            "open": state in OPEN,
            "there": selectors.has_file(report),
            "may_see": may_see,
            "parts_text": ", ".join(str(Dimension(name).label) for name in report.dimensions),
            "format_text": Format(report.format).label,
            "task": visible(user, Task.objects.filter(pk=report.task_id)).first() if report.task_id else None,
            "group": visible(user, Group.objects.filter(pk=report.group_id)).first()
            if report.group_id
            else None,
            "kept_days": KEPT_DAYS.value,
            **parts,
        }
        return TemplateResponse(request, "console/report.html", context)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return redirect("admin:executions_app_report_change", object_id)

    def download_view(self, request: HttpRequest, pk: int) -> HttpResponse | FileResponse:
        report = selectors.reports_for(who(request)).filter(pk=pk).first()
        if report is None:
            raise Http404
        try:
            file = actions.do_download_report(who(request), report)
        except (NotAllowed, actions.ReportGone) as error:
            url = reverse("admin:executions_app_report_change", args=[pk])
            return self._answer(request, {"message": str(error.message), "url": url}, error.http_status)
        return as_attachment(file, report)

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        def work(request: HttpRequest, report: Report) -> dict[str, Any]:
            actions.do_cancel_report(who(request), report)
            return {"message": _("The report is cancelled."), "reload": True}

        return self.post_view(request, str(pk), work, "view")

    def again_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        def work(request: HttpRequest, report: Report) -> dict[str, Any]:
            fresh = actions.do_build_again(who(request), report)
            url = reverse("admin:executions_app_report_change", args=[fresh.pk])
            return {"message": _("The report is being built."), "url": url, "reload": True}

        return self.post_view(request, str(pk), work, "view")

    def remove_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        def work(request: HttpRequest, report: Report) -> dict[str, Any]:
            actions.do_delete_report(who(request), report)
            return {"message": _("The report is deleted."), "reload": True, "url": reverse(LIST)}

        return self.post_view(request, str(pk), work, "view")


def _icon(format_: str) -> str:
    return {Format.XLSX: "columns-3", Format.PDF: "file-text"}[Format(format_)]


site.add_page(
    "reports",
    _lazy("Statistics"),
    "chart-column",
    "admin:executions_app_statistics",
    selectors.may_have_figures,
)
