"""The console's pages of alerts: what is open, who has taken it on, and what was sent of it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from quartzflow.console.base import ReadOnlyAdmin, pill, who
from quartzflow.console.site import site
from quartzflow.templatetags.console import moment

from ..alerts import actions, selectors
from ..alerts.choices import AlertState, DeliveryState, Kind, Severity
from ..models import Alert, AlertDelivery
from .alert_quick import quick_items

STATE_COLORS = {
    AlertState.OPEN: "failure",
    AlertState.ACKNOWLEDGED: "running",
    AlertState.RESOLVED: "success",
}
SENT_COLORS = {
    DeliveryState.PENDING: "pending",
    DeliveryState.SENT: "success",
    DeliveryState.FAILED: "failure",
    DeliveryState.SUPPRESSED: "cancelled",
}


class ChoiceFilter(admin.SimpleListFilter):
    """Rows whose field of this name has the chosen value."""

    choices_: Any

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return self.choices_

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


class StateFilter(ChoiceFilter):
    title, parameter_name, choices_ = _lazy("State"), "state", AlertState.choices


class KindFilter(ChoiceFilter):
    title, parameter_name, choices_ = _lazy("Event"), "kind", Kind.choices


class SeverityFilter(ChoiceFilter):
    title, parameter_name, choices_ = _lazy("Severity"), "severity", Severity.choices


class SentFilter(ChoiceFilter):
    title, parameter_name, choices_ = _lazy("State"), "state", DeliveryState.choices


class ChannelFilter(admin.RelatedFieldListFilter):
    """Only reached by whoever may see every channel."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = _("Channel")


class AlertListAdmin(ReadOnlyAdmin):
    """A list whose rows have no page of their own."""

    list_display_links = None
    actions = None
    empty_value_display = ""  # a row without a menu
    sortable_by = ()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """No form that would write past the actions."""
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")


@admin.register(Alert, site=site)
class AlertAdmin(AlertListAdmin):
    """Alerts about tasks and hosts that one may see; open ones first."""

    section = "alerts"
    icon = "bell"
    nav_order = 10
    nav_label = _lazy("Alerts")
    empty_icon = "circle-check"
    empty_title = _lazy("No alerts")
    empty_text = _lazy("What alert rules are about appears here when it happens.")
    list_display = (
        "subject_cell",
        "state_cell",
        "severity_cell",
        "count_cell",
        "first_cell",
        "last_cell",
        "row_menu",
    )
    list_filter = (StateFilter, KindFilter, SeverityFilter)
    search_fields = ("task_name", "client_id")
    search_help_text = _lazy("Search by task or host")
    row_permissions = ("change", "silence")
    change_list_template = "console/alert_list.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        user = who(request)
        context = {
            "no_rule": not selectors.rules_for(user).exists(),
            "may_add_rule": user.has_perm("executions_app.add_alertrule"),
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def visible_rows(self, request: HttpRequest, action: str) -> QuerySet:
        user = who(request)
        if action == "silence":
            may = user.has_perm("executions_app.add_alertsilence")
            return selectors.alerts_for(user).exclude(task_id=None) if may else Alert.objects.none()
        if action == "change" and not actions.may_handle(user):
            return Alert.objects.none()
        return selectors.alerts_for(user) if action in ("view", "change") else Alert.objects.none()

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if obj is not None:
            return self.may(request, obj, "view")
        return selectors.may_have_alerts(who(request))

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return selectors.open_first(selectors.alerts_for(who(request))).select_related("rule")

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        return ("order", "-id")

    @admin.display(description=_lazy("Alert"))
    def subject_cell(self, alert: Alert) -> str:
        name, url = alert.task_name or alert.client_id, ""
        if alert.execution:
            url = reverse("admin:executions_app_execution_change", args=[alert.execution])
        elif alert.task_id:
            url = reverse("admin:tasks_app_task_detail", args=[alert.task_id])
        main = (
            format_html('<a class="cell-main" href="{}">{}</a>', url, name)
            if url
            else format_html('<span class="cell-main">{}</span>', name)
        )
        return format_html(
            '{}<span class="cell-sub">{} · {}</span>', main, alert.get_kind_display(), alert.rule.name
        )

    @admin.display(description=_lazy("State"))
    def state_cell(self, alert: Alert) -> str:
        shown = pill(STATE_COLORS[AlertState(alert.state)], alert.get_state_display())
        if alert.state == AlertState.OPEN and alert.silenced_count == alert.count:
            return format_html('{}<span class="cell-sub">{}</span>', shown, _("Silenced"))
        by = alert.resolved_by if alert.state == AlertState.RESOLVED else alert.acknowledged_by
        return format_html('{}<span class="cell-sub">{}</span>', shown, by) if by else shown

    @admin.display(description=_lazy("Severity"))
    def severity_cell(self, alert: Alert) -> str:
        return alert.get_severity_display()

    @admin.display(description=_lazy("Events"))
    def count_cell(self, alert: Alert) -> str:
        return format_html('<span class="num">{}</span>', alert.count)

    @admin.display(description=_lazy("First"))
    def first_cell(self, alert: Alert) -> str:
        return moment(alert.first_at, "two")

    @admin.display(description=_lazy("Last"))
    def last_cell(self, alert: Alert) -> str:
        return moment(alert.last_at, "ago")

    def menu_items(self, alert: Any, may: set[str]) -> list[dict[str, Any]]:
        if alert.state == AlertState.RESOLVED:
            return []
        items: list[dict[str, Any]] = []
        if "change" in may:
            if alert.state == AlertState.OPEN:
                url = reverse("admin:executions_app_alert_acknowledge", args=[alert.pk])
                items.append({"label": _("Acknowledge"), "icon": "eye", "post": url})
            url = reverse("admin:executions_app_alert_resolve", args=[alert.pk])
            items.append({"label": _("Resolve"), "icon": "check", "post": url})
        if "silence" in may:
            items += ([{"line": True}] if items else []) + quick_items("task", alert.task_id)
        return items

    def get_urls(self) -> list[URLPattern]:
        name, own = "executions_app_alert", self.admin_site.admin_view
        return [
            path("<int:pk>/acknowledge/", own(self.acknowledge_view), name=f"{name}_acknowledge"),
            path("<int:pk>/resolve/", own(self.resolve_view), name=f"{name}_resolve"),
            *super().get_urls(),
        ]

    def acknowledge_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        def work(request: HttpRequest, alert: Alert) -> dict[str, Any]:
            actions.do_acknowledge(who(request), alert)
            return {"message": _("The alert is acknowledged."), "reload": True}

        return self.post_view(request, str(pk), work, "view")

    def resolve_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        def work(request: HttpRequest, alert: Alert) -> dict[str, Any]:
            actions.do_resolve(who(request), alert)
            return {"message": _("The alert is resolved."), "reload": True}

        return self.post_view(request, str(pk), work, "view")


@admin.register(AlertDelivery, site=site)
class AlertDeliveryAdmin(AlertListAdmin):
    """What was sent, of the channels that one may see."""

    section = "alerts"
    icon = "list-checks"
    nav_order = 40
    nav_label = _lazy("Alert messages")
    empty_icon = "inbox"
    empty_title = _lazy("Nothing was sent")
    empty_text = _lazy("Each message to a channel is here, with what became of it.")
    list_display = ("title_cell", "channel_cell", "state_cell", "attempts_cell", "made_cell", "sent_cell")
    list_filter = (SentFilter, ("channel", ChannelFilter))
    search_fields = ("title", "channel__name")
    search_help_text = _lazy("Search by title or channel")
    row_permissions = ()

    def visible_rows(self, request: HttpRequest, action: str) -> QuerySet:
        return selectors.deliveries_for(who(request)) if action == "view" else AlertDelivery.objects.none()

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if obj is not None:
            return self.may(request, obj, "view")
        return who(request).has_perm("executions_app.view_alertchannel")

    @admin.display(description=_lazy("Message"))
    def title_cell(self, delivery: AlertDelivery) -> str:
        error = delivery.error if delivery.state != DeliveryState.SENT else ""
        return format_html(
            '<span class="cell-main">{}</span><span class="cell-sub">{}</span>', delivery.title, error
        )

    @admin.display(description=_lazy("Channel"))
    def channel_cell(self, delivery: AlertDelivery) -> str:
        return format_html(
            '{}<span class="cell-sub">{}</span>', delivery.channel.name, delivery.channel.get_kind_display()
        )

    @admin.display(description=_lazy("State"))
    def state_cell(self, delivery: AlertDelivery) -> str:
        return pill(SENT_COLORS[DeliveryState(delivery.state)], delivery.get_state_display())

    @admin.display(description=_lazy("Tries"))
    def attempts_cell(self, delivery: AlertDelivery) -> str:
        return format_html('<span class="num">{}</span>', delivery.attempts)

    @admin.display(description=_lazy("Made"))
    def made_cell(self, delivery: AlertDelivery) -> str:
        return moment(delivery.created_at, "ago")

    @admin.display(description=_lazy("Sent"))
    def sent_cell(self, delivery: AlertDelivery) -> str:
        return moment(delivery.sent_at)
