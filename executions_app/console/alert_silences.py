"""The console's pages of silence windows: when alerts are noted and nobody is told."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.dates import WEEKDAYS, WEEKDAYS_ABBR
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from groups_app.models import Group
from quartzflow.console.base import pill, who
from quartzflow.console.site import site
from quartzflow.errors import QuartzError
from quartzflow.permissions import allowed
from quartzflow.preferences import time_zones
from quartzflow.templatetags.console import moment
from tasks_app.console.fields import WallClock
from tasks_app.models import Task

from ..alerts import selectors, silences
from ..alerts.choices import Scope, SilenceState
from ..alerts.models import AlertSilence
from .alert_base import AlertForm, AlertFormAdmin, ScopeForm, names_more, scope_cell, seen_by
from .alert_quick import HOURS, hours_in_words
from .alert_rules import prefilled

SPAN, WEEKLY = "span", "weekly"
COLORS = {SilenceState.NOW: "cancelled", SilenceState.LATER: "timeout", SilenceState.OVER: "pending"}
SUBJECTS: dict[str, type[Task] | type[Group]] = {"task": Task, "group": Group}


class SilenceForm(ScopeForm):
    """A window's fields; executions_app.alerts.checks says what they mean."""

    reason = forms.CharField(
        label=_lazy("Reason"), max_length=256, required=False,
        help_text=_lazy("What the others should know, such as “database moves, ticket 4711”."),
    )  # fmt: skip
    name = forms.CharField(
        label=_lazy("Name"),
        max_length=64,
        required=False,
        help_text=_lazy("Empty: made of what it silences, and until when."),
    )
    window = forms.ChoiceField(label=_lazy("For how long from now on, or when"), widget=forms.RadioSelect)
    begins = WallClock(label=_lazy("From"))
    ends = WallClock(label=_lazy("Until"))
    weekdays = forms.TypedMultipleChoiceField(
        label=_lazy("Days"), coerce=int, required=False, widget=forms.CheckboxSelectMultiple,
        choices=[(day, WEEKDAYS_ABBR[day]) for day in range(7)],
    )  # fmt: skip
    time_begins = forms.CharField(
        label=_lazy("From"), required=False, widget=forms.TextInput(attrs={"type": "time"})
    )
    time_ends = forms.CharField(
        label=_lazy("Until"), required=False, widget=forms.TextInput(attrs={"type": "time"}),
        help_text=_lazy("Before the begin: until the next morning."),
    )  # fmt: skip
    zone = forms.ChoiceField(label=_lazy("Time zone"), required=False)

    def __init__(
        self, user: Any, silence: AlertSilence | None, data: Any = None, *, like: Any = None
    ) -> None:
        """`like`: initial values of a new window."""
        here = timezone.get_current_timezone_name()
        initial: dict[str, Any] = {"scope": Scope.ALL, "window": "4", "zone": here, **(like or {})}
        if silence is not None:
            initial = {"name": silence.name, "reason": silence.reason, **self.scope_of(user, silence)}
            if silence.weekdays:
                initial |= {"window": WEEKLY, "weekdays": silence.weekdays, "zone": silence.zone}
                initial |= {name: f"{getattr(silence, name):%H:%M}" for name in ("time_begins", "time_ends")}
            else:
                initial |= {"window": SPAN, "zone": here}
                initial |= {name: timezone.localtime(getattr(silence, name)) for name in ("begins", "ends")}
        super().__init__(data, initial=initial)
        quick = [(str(hours), hours_in_words(hours)) for hours in HOURS]
        self.choose("window", [*quick, (SPAN, _("From – until")), (WEEKLY, _("Every week"))])
        zone, zones = initial["zone"], ["UTC", *time_zones()]
        self.choose("zone", [(name, name) for name in (zones if zone in zones else [zone, *zones])])
        self.take_user(user)
        self.describe()

    def data_for_action(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        window = cleaned["window"]
        data = {
            "name": cleaned["name"], "reason": cleaned["reason"], **self.scope_data(),
            "begins": None, "ends": None, "weekdays": [], "time_begins": None, "time_ends": None,
        }  # fmt: skip
        if window == WEEKLY:
            data |= {name: cleaned[name] for name in ("weekdays", "time_begins", "time_ends", "zone")}
        elif window == SPAN:
            data |= {name: self._aware(cleaned[name]) for name in ("begins", "ends")}
        else:
            now = timezone.now()
            data |= {"begins": now, "ends": now + timedelta(hours=int(window))}
        if not data["name"].strip():
            data["name"] = silences.name_of(self._subject(), data["ends"])
        return data

    @staticmethod
    def _aware(value: datetime | None) -> datetime | None:
        return timezone.make_aware(value) if value else None

    def _subject(self) -> str:
        """In short, what it silences."""
        cleaned = self.cleaned_data
        if cleaned["scope"] == Scope.TASKS:
            names = sorted(set(self["task_ids"].value() or ()))
        elif cleaned["scope"] == Scope.GROUPS:
            names = [group.name for group in self.groups if group.pk in cleaned["group_ids"]]
        else:
            names = [str(Scope.ALL.label)]
        return ", ".join(names)

    def clean(self) -> dict[str, Any]:
        if self.cleaned_data.get("window") == WEEKLY and not self.cleaned_data.get("weekdays"):
            self.add_error("weekdays", _("Choose at least one day."))
        return self.cleaned_data


class StateFilter(admin.SimpleListFilter):
    title, parameter_name = _lazy("State"), "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("current", _("Now or later")), ("over", SilenceState.OVER.label)]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        over = Q(ends__lte=timezone.now())
        if self.value() == "over":
            return queryset.filter(over)
        return queryset.exclude(over) if self.value() == "current" else queryset


@admin.register(AlertSilence, site=site)
class AlertSilenceAdmin(AlertFormAdmin):
    """When nobody is to be disturbed."""

    icon = "circle-pause"
    nav_order = 35
    nav_label = _lazy("Silences")
    add_title = _lazy("New silence")
    empty_icon = "circle-pause"
    empty_title = _lazy("Nothing is silenced")
    empty_text = _lazy("During maintenance: alerts are noted and shown, and nobody is told.")
    form_template = "console/alert_silence_form.html"
    save = staticmethod(silences.do_save_silence)
    checked = staticmethod(silences.checked_silence)
    remove = staticmethod(silences.do_delete_silence)
    delete_question = _lazy("Delete the silence “%(name)s”? Alerts are told again at once.")

    list_display = ("name_cell", "state_cell", "scope_cell", "window_cell", "by_cell", "row_menu")
    list_filter = (StateFilter,)
    sortable_by = ()
    search_fields = ("name", "reason")
    search_help_text = _lazy("Search by name or reason")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return selectors.silences_for(who(request)).prefetch_related("tasks", "groups")

    def get_ordering(self, request: HttpRequest) -> tuple[Any, ...]:
        return ()  # that of the selector

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        seen, now = seen_by(who(request), rows), timezone.now()
        for row in rows:
            row.seen, row.state = seen, selectors.silence_state(row, now)

    @admin.display(description=_lazy("Name"))
    def name_cell(self, silence: AlertSilence) -> str:
        return self.name_cell_of(silence, silence.reason)

    @admin.display(description=_lazy("State"))
    def state_cell(self, silence: Any) -> str:
        return pill(COLORS[silence.state], silence.state.label)

    @admin.display(description=_lazy("Concerns"))
    def scope_cell(self, silence: Any) -> str:
        return scope_cell(silence.seen, silence)

    @admin.display(description=_lazy("Window"))
    def window_cell(self, silence: AlertSilence) -> str:
        return window_in_words(silence)

    @admin.display(description=_lazy("By"))
    def by_cell(self, silence: AlertSilence) -> str:
        return format_html(
            '{}<span class="cell-sub">{}</span>', silence.created_by or "—", moment(silence.created_at, "ago")
        )

    def more_items(self, silence: AlertSilence, may: set[str]) -> list[dict[str, Any]]:
        if "change" not in may or silence.ends is None or silence.ends <= timezone.now():
            return []
        return [{"label": _("End now"), "icon": "circle-stop", "post": self.url("end", silence.pk)}]

    def get_urls(self) -> list[URLPattern]:
        own, name = self.admin_site.admin_view, "executions_app_alertsilence"
        return [
            path("for/<str:kind>/<int:pk>/<int:hours>/", own(self.quick_view), name=f"{name}_quick"),
            path("<path:object_id>/end/", own(self.end_view), name=f"{name}_end"),
            *super().get_urls(),
        ]

    def end_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def work(request: HttpRequest, silence: AlertSilence) -> dict[str, Any]:
            silences.do_end_silence(who(request), silence)
            return {"message": _("“%(name)s” has ended.") % {"name": silence.name}, "reload": True}

        return self.post_view(request, object_id, work, "change")

    def quick_view(self, request: HttpRequest, kind: str, pk: int, hours: int) -> HttpResponse:
        """POST: silence one task or group from now on."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        model: Any = SUBJECTS.get(kind)
        subject = model.objects.filter(pk=pk).first() if model else None
        if subject is None or not allowed(who(request), subject, "view"):
            raise Http404
        try:
            silences.do_silence_for(who(request), subject, hours)
        except QuartzError as error:
            return self._answer(request, {"message": str(error.message)}, error.http_status)
        words = _("Nobody is told of alerts of “%(name)s” for %(time)s.") % {
            "name": subject.name,
            "time": hours_in_words(hours),
        }
        return self._answer(request, {"message": words, "reload": True}, 200)

    def make_form(self, request: HttpRequest, obj: AlertSilence | None, data: Any = None) -> AlertForm:
        like = prefilled(who(request), request.GET) if obj is None and data is None else {}
        like.pop("name", None)
        return SilenceForm(who(request), obj, data, like=like)

    def why_not(self, request: HttpRequest, obj: AlertSilence) -> str:
        if names_more(who(request), obj):
            return _("The window names what you may not see. Whoever sees all of it can change it.")
        return ""

    def page_context(self, request: HttpRequest, obj: AlertSilence | None, form: Any) -> dict[str, Any]:
        if obj is None:
            return {}
        state = selectors.silence_state(obj)
        may_end = bool(self.more_items(obj, {"change"})) and self.may(request, obj, "change")
        return {
            "state": state.label,
            "state_color": COLORS[state],
            "end_url": self.url("end", obj.pk) if may_end else "",
        }


def window_in_words(silence: AlertSilence) -> str:
    """When it is open."""
    if not silence.weekdays:
        return format_html(
            '<span class="nowrap">{} –</span> <span class="nowrap">{}</span>',
            moment(silence.begins),
            moment(silence.ends),
        )
    days = ", ".join(str(WEEKDAYS[day]) for day in silence.weekdays)
    if len(silence.weekdays) == 7:
        days = _("Every day")
    return format_html(
        '{}<span class="cell-sub">{} – {} · {}</span>',
        days, f"{silence.time_begins:%H:%M}", f"{silence.time_ends:%H:%M}", silence.zone,
    )  # fmt: skip
