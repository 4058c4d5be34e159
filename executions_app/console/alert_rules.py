"""The console's pages of alert rules: what makes an alert, whom it concerns, who is told, and how the message reads."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from groups_app.models import Group
from quartzflow.console.base import who
from quartzflow.console.site import site
from quartzflow.permissions import User, visible
from tasks_app.console.fields import CODE, ExplainedChoice
from tasks_app.models import Task

from ..alerts import actions, selectors, templates
from ..alerts.choices import THRESHOLDS, Kind, Scope, Severity
from ..alerts.models import AlertRule
from .alert_base import (
    AlertForm,
    AlertFormAdmin,
    ScopeForm,
    cards_of,
    channel_notes,
    names_more,
    scope_cell,
    seen_by,
    severity_pill,
)

SHOWN_ALERTS = 10
SHOWN_CHANNELS = 2
EXAMPLE_TASK = "nightly-backup"  # in the preview of a rule that names no task
PLAIN = (
    "name",
    "is_enabled",
    "kind",
    "severity",
    "repeat_minutes",
    "escalate_events",
    "escalate_minutes",
    "title",
    "body",
)


def threshold(kind: Kind, label: Any, help_text: Any) -> forms.IntegerField:
    least, most, default = THRESHOLDS[kind]
    return forms.IntegerField(
        label=label, min_value=least, max_value=most, initial=default, required=False, help_text=help_text
    )


class RuleForm(ScopeForm):
    """A rule's fields; executions_app.alerts.checks says what they mean."""

    name = forms.CharField(label=_lazy("Name"), max_length=64)
    is_enabled = forms.BooleanField(label=_lazy("Enabled"), required=False, initial=True)
    severity = forms.ChoiceField(label=_lazy("Severity"), choices=Severity.choices, widget=forms.RadioSelect)
    kind = ExplainedChoice(
        label=_lazy("Event"), choices=Kind.choices,
        explanations={
            Kind.FAILURE: _lazy("Each execution that ends with an error. Those of one task are one alert."),
            Kind.TIMEOUT: _lazy("Each execution that was ended because it took too long."),
            Kind.CONSECUTIVE: _lazy("For tasks that may fail now and then: only when it goes on."),
            Kind.NO_ONLINE_CLIENT: _lazy("The task fired and nobody was there to run it."),
            Kind.MISSED_FIRING: _lazy("A time of the schedule passed without any execution."),
            Kind.RECOVERED: _lazy("The all-clear: the task succeeds again after an alert of the kinds above."),
            Kind.AGENT_OFFLINE: _lazy("A host has not been heard of for so long. Over when it is back."),
            Kind.LATE_START: _lazy("An execution began so long after its time."),
        },
    )  # fmt: skip
    threshold_consecutive_failures = threshold(
        Kind.CONSECUTIVE, _lazy("Failures in a row"), _lazy("Timeouts count as failures.")
    )
    threshold_agent_offline = threshold(
        Kind.AGENT_OFFLINE, _lazy("Silent for"), _lazy("Short interruptions below this are nobody's worry.")
    )
    threshold_late_start = threshold(
        Kind.LATE_START, _lazy("Late by"), _lazy("A host's share of a spread is not counted.")
    )
    channel_ids = forms.TypedMultipleChoiceField(
        label=_lazy("Channels"), coerce=int, required=False, widget=forms.CheckboxSelectMultiple,
        help_text=_lazy("None: the alert is only shown in the console."),
    )  # fmt: skip
    repeat_minutes = forms.IntegerField(
        label=_lazy("Tell again after"), min_value=1, max_value=10_080, initial=60,
        help_text=_lazy("While it goes on and nobody has acknowledged it. Events in between are counted, not sent."),
    )  # fmt: skip
    escalate_minutes = forms.IntegerField(
        label=_lazy("Not acknowledged after"), min_value=0, max_value=10_080, initial=0, required=False,
        help_text=_lazy("0: does not count."),
    )  # fmt: skip
    escalate_events = forms.IntegerField(
        label=_lazy("Or after"), min_value=0, max_value=100_000, initial=0, required=False,
        help_text=_lazy("0: does not count."),
    )  # fmt: skip
    escalation_channel_ids = forms.TypedMultipleChoiceField(
        label=_lazy("These are told too"), coerce=int, required=False, widget=forms.CheckboxSelectMultiple
    )
    title = forms.CharField(
        label=_lazy("Title"), max_length=templates.MAX_TITLE, required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "{{ task.name }}: {{ execution.reason }}"}),
        help_text=_lazy("Empty: severity, event and task, in the channel's language."),
    )  # fmt: skip
    body = forms.CharField(
        label=_lazy("Text"), max_length=templates.MAX_BODY, required=False,
        widget=forms.Textarea(attrs={**CODE, "rows": 5}),
        help_text=_lazy("Empty: what is known of the alert, a line each."),
    )  # fmt: skip

    def __init__(self, user: User, rule: AlertRule | None, data: Any = None, *, like: Any = None) -> None:
        """`like`: initial values of a new rule."""
        initial: dict[str, Any] = {"scope": Scope.ALL, "severity": Severity.WARNING, "kind": Kind.FAILURE}
        initial |= like or {}
        if rule is not None:
            initial = {name: getattr(rule, name) for name in PLAIN} | self.scope_of(user, rule)
            initial |= {
                name: list(getattr(rule, actions.LISTS[name]).values_list("pk", flat=True))
                for name in ("channel_ids", "escalation_channel_ids")
            }
            if rule.kind in THRESHOLDS:
                initial[f"threshold_{rule.kind}"] = rule.threshold
        super().__init__(data, initial=initial)
        self.take_user(user)
        self.channels = list(selectors.channels_for(user))
        for name in ("channel_ids", "escalation_channel_ids"):
            self.choose(name, [(channel.pk, channel.name) for channel in self.channels])
        self.describe()

    def data_for_action(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        kind = cleaned["kind"]
        self.renamed = {"threshold": f"threshold_{kind}"}
        return {
            **{name: cleaned[name] for name in PLAIN},
            **self.scope_data(),
            "threshold": cleaned.get(f"threshold_{kind}") or 0,
            "escalate_events": cleaned["escalate_events"] or 0,
            "escalate_minutes": cleaned["escalate_minutes"] or 0,
            "channel_ids": cleaned["channel_ids"],
            "escalation_channel_ids": cleaned["escalation_channel_ids"],
        }

    def channel_cards(self) -> list[dict[str, Any]]:
        return cards_of(self, "channel_ids", channel_notes(self.channels))

    def escalation_cards(self) -> list[dict[str, Any]]:
        return cards_of(self, "escalation_channel_ids", channel_notes(self.channels))


@admin.register(AlertRule, site=site)
class AlertRuleAdmin(AlertFormAdmin):
    """What makes an alert, and who is told."""

    icon = "alarm-clock"
    nav_order = 20
    nav_label = _lazy("Alert rules")
    add_title = _lazy("New alert rule")
    empty_icon = "alarm-clock"
    empty_title = _lazy("No alert rules yet")
    empty_text = _lazy(
        "A rule says what is worth telling: a failure, a timeout, a silent host. Without one nobody is told."
    )
    change_list_template = "console/alert_rule_list.html"
    form_template = "console/alert_rule_form.html"
    save = staticmethod(actions.do_save_rule)
    checked = staticmethod(actions.checked_rule)
    remove = staticmethod(actions.do_delete_rule)
    switch = staticmethod(actions.do_switch_rule)
    delete_question = _lazy("Delete the alert rule “%(name)s”? Its alerts go with it.")

    list_display = ("name_cell", "scope_cell", "severity_cell", "channels_cell", "switch_cell", "row_menu")
    list_filter = ("kind", "severity", "is_enabled")
    search_fields = ("name",)
    search_help_text = _lazy("Search by name")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rules = super().get_queryset(request)
        return rules.prefetch_related("channels", "tasks", "groups")

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        seen = seen_by(who(request), rows)
        channels = set(selectors.channels_for(who(request)).values_list("pk", flat=True))
        for row in rows:
            row.seen, row.seen_channels = seen, channels

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {**first_channel(who(request)), **(extra_context or {})})

    @admin.display(description=_lazy("Name"), ordering="name")
    def name_cell(self, rule: AlertRule) -> str:
        return self.name_cell_of(rule, condition(rule))

    @admin.display(description=_lazy("Concerns"))
    def scope_cell(self, rule: Any) -> str:
        return scope_cell(rule.seen, rule)

    @admin.display(description=_lazy("Severity"))
    def severity_cell(self, rule: AlertRule) -> str:
        return severity_pill(rule.severity)

    @admin.display(description=_lazy("Channels"))
    def channels_cell(self, rule: Any) -> str:
        told = list(rule.channels.all())
        if not told:
            return format_html('<span class="muted">{}</span>', _("Only in the console"))
        shown = [channel.name for channel in told if channel.pk in rule.seen_channels][:SHOWN_CHANNELS]
        rest = len(told) - len(shown)
        tags = ((name,) for name in [*shown, *([f"+{rest}"] if rest else [])])
        return format_html(
            '<span class="tags">{}</span>', format_html_join("", '<span class="tag">{}</span>', tags)
        )

    @admin.display(description=_lazy("Enabled"), ordering="is_enabled")
    def switch_cell(self, rule: Any) -> str:
        return self.switch_cell_of(rule)

    def more_items(self, rule: Any, may: set[str]) -> list[dict[str, Any]]:
        alerts = f"{reverse('admin:executions_app_alert_changelist')}?rule__id__exact={rule.pk}"
        return [{"label": _("Alerts"), "icon": "bell", "url": alerts}]

    def get_urls(self) -> list[URLPattern]:
        preview = self.admin_site.admin_view(self.preview_view)
        return [path("preview/", preview, name="executions_app_alertrule_preview"), *super().get_urls()]

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """POST a form: {"title", "body"} of the message that it would make, or {"error"}. Nothing is stored."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request) and not self.has_add_permission(request):
            raise PermissionDenied
        form = RuleForm(who(request), None, request.POST)
        form.is_valid()  # what is wrong elsewhere does not matter here
        return JsonResponse(preview(form))

    def make_form(self, request: HttpRequest, obj: AlertRule | None, data: Any = None) -> AlertForm:
        like = prefilled(who(request), request.GET) if obj is None and data is None else {}
        return RuleForm(who(request), obj, data, like=like)

    def why_not(self, request: HttpRequest, obj: AlertRule) -> str:
        if names_more(who(request), obj):
            return _("The rule names what you may not see. Whoever sees all of it can change the rule.")
        return ""

    def page_context(self, request: HttpRequest, obj: AlertRule | None, form: Any) -> dict[str, Any]:
        user = who(request)
        alerts = (
            selectors.open_first(selectors.alerts_for(user).filter(rule=obj))[:SHOWN_ALERTS] if obj else ()
        )
        return {
            "preview_url": reverse("admin:executions_app_alertrule_preview"),
            "preview": preview(form),
            "placeholders": list(templates.VALUES),
            "alerts": list(alerts),
            **first_channel(user),
        }


def first_channel(user: User) -> dict[str, Any]:
    """For the template: whether there is no channel yet, and whether the user may make one."""
    return {
        "no_channel": not selectors.channels_for(user).exists(),
        "may_add_channel": user.has_perm("executions_app.add_alertchannel"),
    }


def prefilled(user: User, query: Any) -> dict[str, Any]:
    """Initial values from ?task=ID or ?group=ID, as far as the user may see it."""
    for name, model, scope, field in (
        ("task", Task, Scope.TASKS, "task_ids"),
        ("group", Group, Scope.GROUPS, "group_ids"),
    ):
        pk = query.get(name, "")
        found: Any = (
            visible(user, model.objects.filter(pk=int(pk))).first() if pk.isdigit() and len(pk) < 19 else None
        )
        if found is not None:
            value = found.name if scope == Scope.TASKS else found.pk
            return {
                "scope": scope,
                field: [value],
                "name": _("Alerts of %(name)s") % {"name": found.name[:40]},
            }
    return {}


def condition(rule: AlertRule) -> str:
    """What a rule is about, in short."""
    words = str(rule.get_kind_display())
    if rule.kind == Kind.CONSECUTIVE:
        return words + " · " + _("%(count)s times") % {"count": rule.threshold}
    if rule.kind in THRESHOLDS:
        return words + " · " + _("%(count)s s") % {"count": rule.threshold}
    return words


def preview(form: RuleForm) -> dict[str, Any]:
    """Title and text of the message that a form would make, in the language of its first channel; or what is wrong."""
    found = getattr(form, "cleaned_data", None) if form.is_bound else None
    values = {**{name: field.initial for name, field in form.fields.items()}, **form.initial, **(found or {})}
    title, body = values.get("title") or "", values.get("body") or ""
    error = templates.check(title) or templates.check(body)
    if error:
        return {"error": error}
    kind = values.get("kind") or Kind.FAILURE.value
    rule = AlertRule(
        name=values.get("name") or _("New alert rule"),
        kind=kind,
        severity=values.get("severity") or Severity.WARNING,
        threshold=values.get(f"threshold_{kind}") or 0,
        title=title,
        body=body,
    )
    chosen = {int(pk) for pk in values.get("channel_ids") or ()}
    language = next((c.language for c in form.channels if c.pk in chosen), get_language() or "zh-hans")
    shown_title, text = templates.preview(rule, _example(form, values), language)
    return {"title": shown_title, "body": text, "language": language}


def _example(form: RuleForm, values: dict[str, Any]) -> str:
    """A task's name for the preview: the first one that is named."""
    named = form["task_ids"].value() or ()
    if values.get("scope") == Scope.TASKS and named:
        return str(named[0])
    return EXAMPLE_TASK
