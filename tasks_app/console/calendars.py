"""The console's pages of calendars: the list, and a form with a field for every kind of rule."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.forms.formsets import BaseFormSet, formset_factory
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dates import WEEKDAYS_ABBR
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext
from quartzflow_agent.calendars import Calendar as Parsed
from quartzflow_agent.cron import ScheduleError

from executions_app import control
from quartzflow.console.base import FormPageAdmin, who
from quartzflow.console.site import site
from quartzflow.errors import InvalidInput
from quartzflow.preferences import time_zones
from quartzflow.templatetags.console import moment

from .. import calendars
from ..calendar_days import next_days
from ..models import Calendar
from ..selectors import tasks_for
from .fields import CODE

PREVIEW_DAYS = 10
SHOWN_TASKS = 50
MAX_PERIOD = 366 * 24 * 60  # minutes
WEEK = [(day, WEEKDAYS_ABBR[day - 1]) for day in range(1, 8)]


class WeeklyForm(forms.Form):
    """A window on some days of the week; one without days is none."""

    days = forms.TypedMultipleChoiceField(
        label=_lazy("Days"), coerce=int, required=False, choices=WEEK, widget=forms.CheckboxSelectMultiple
    )
    start = forms.CharField(
        label=_lazy("From"), required=False, widget=forms.TextInput(attrs={"type": "time"})
    )
    end = forms.CharField(
        label=_lazy("Until"), required=False, widget=forms.TextInput(attrs={"type": "time"})
    )

    def rule(self) -> dict[str, Any] | None:
        cleaned = self.cleaned_data
        if not cleaned.get("days"):
            return None
        return {
            "days": sorted(cleaned["days"]),
            "start": cleaned["start"] or "00:00",
            "end": cleaned["end"] or "24:00",
        }


class PeriodForm(forms.Form):
    """So long from each time of a cron expression on; one without an expression is none."""

    start = forms.CharField(
        label=_lazy("Begins (cron expression)"), max_length=64, required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "0 2 * * 6"}),
    )  # fmt: skip
    minutes = forms.IntegerField(
        label=_lazy("Lasts"), min_value=1, max_value=MAX_PERIOD, required=False, initial=60
    )

    def rule(self) -> dict[str, Any] | None:
        cleaned = self.cleaned_data
        if not cleaned.get("start"):
            return None
        return {"start": cleaned["start"].strip(), "minutes": cleaned.get("minutes") or 60}


WeeklySet: Any = formset_factory(WeeklyForm, extra=1)
PeriodSet: Any = formset_factory(PeriodForm, extra=1)


class CalendarForm(forms.Form):
    """A calendar's fields; tasks_app.calendars checks what they mean."""

    name = forms.CharField(label=_lazy("Name"), max_length=64)
    description = forms.CharField(label=_lazy("Description"), max_length=256, required=False)
    timezone = forms.ChoiceField(
        label=_lazy("Time zone"), help_text=_lazy("Where a day begins, and what the clock says.")
    )
    working_days = forms.ChoiceField(
        label=_lazy("Working days"), required=False, choices=[
            ("", _lazy("Not in it")),
            ("week", _lazy("Monday to Friday")),
            (calendars.CHINA, _lazy("China's official working days, days off in lieu included")),
        ],
    )  # fmt: skip
    dates = forms.CharField(
        label=_lazy("Single days"), required=False,
        widget=forms.Textarea(attrs={**CODE, "rows": 4, "placeholder": "2026-10-01\n2026-12-24/2026-12-31"}),
        help_text=_lazy("Whole days: one date a line, or the first and the last one with a slash between."),
    )  # fmt: skip

    def __init__(self, calendar: Calendar | None, data: Any = None) -> None:
        rules = calendar.rules if calendar else {}
        initial = {
            "name": calendar.name if calendar else "",
            "description": calendar.description if calendar else "",
            "timezone": calendar.timezone if calendar else settings.TIME_ZONE,
            "working_days": rules.get("working_days") or "",
            "dates": "\n".join(rules.get("dates", ())),
        }
        super().__init__(data, initial=initial)
        windows = [
            {**w, "end": "" if w.get("end") == "24:00" else w.get("end")} for w in rules.get("weekly", ())
        ]
        self.weekly: BaseFormSet[WeeklyForm] = WeeklySet(data, prefix="weekly", initial=windows)
        self.periods: BaseFormSet[PeriodForm] = PeriodSet(data, prefix="cron", initial=rules.get("cron", []))
        zones = ["UTC", *time_zones()]
        zone = initial["timezone"]
        self.fields["timezone"].choices = [  # type: ignore[attr-defined]
            (name, name) for name in (zones if zone in zones else [zone, *zones])
        ]
        for name, field in self.fields.items():
            if field.help_text:
                field.widget.attrs["aria-describedby"] = f"id_{name}_helptext"

    def is_valid(self) -> bool:
        return all([super().is_valid(), self.weekly.is_valid(), self.periods.is_valid()])

    def data_for_actions(self) -> dict[str, Any]:
        """As tasks_app.calendars wants it."""
        cleaned = self.cleaned_data
        rules: dict[str, Any] = {
            "dates": re.split(r"\s*[\n,，]\s*", cleaned["dates"].strip()) if cleaned["dates"].strip() else [],
            "weekly": [rule for form in self.weekly.forms if (rule := form.rule())],
            "cron": [rule for form in self.periods.forms if (rule := form.rule())],
            "working_days": cleaned["working_days"],
        }
        return {
            **{name: cleaned[name] for name in ("name", "description", "timezone")},
            "rules": {key: value for key, value in rules.items() if value},
        }

    def take_errors(self, error: InvalidInput) -> None:
        for field, texts in error.errors.items():
            for text in texts:
                self.add_error(field if field in self.fields else None, str(text))


@admin.register(Calendar, site=site)
class CalendarAdmin(FormPageAdmin):
    """Calendars that tasks share."""

    section = "work"
    icon = "calendar-clock"
    nav_order = 30
    nav_label = _lazy("Calendars")
    add_title = _lazy("New calendar")
    empty_icon = "calendar-clock"
    empty_title = _lazy("No calendars yet")
    empty_text = _lazy("Holidays, working days, maintenance windows: tasks run only in one, or never in one.")

    list_display = ("name_cell", "rules_cell", "zone_cell", "tasks_cell", "updated_cell", "row_menu")
    list_display_links = None
    search_fields = ("name", "description")
    search_help_text = _lazy("Search by name or description")
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).annotate(tasks=Count("task"))  # type: ignore[no-any-return]

    @admin.display(description=_lazy("Name"), ordering="name")
    def name_cell(self, calendar: Calendar) -> str:
        url = reverse("admin:tasks_app_calendar_change", args=[calendar.pk])
        return format_html(
            '<a class="cell-main" href="{}">{}</a><span class="cell-sub">{}</span>',
            url, calendar.name, calendar.description,
        )  # fmt: skip

    @admin.display(description=_lazy("Rules"))
    def rules_cell(self, calendar: Calendar) -> str:
        tags = format_html_join(
            "", '<span class="tag">{}</span>', ((text,) for text in rules_in_words(calendar))
        )
        return format_html('<span class="tags">{}</span>', tags)

    @admin.display(description=_lazy("Time zone"), ordering="timezone")
    def zone_cell(self, calendar: Calendar) -> str:
        return calendar.timezone

    @admin.display(description=_lazy("Tasks"), ordering="tasks")
    def tasks_cell(self, calendar: Any) -> str:
        return format_html('<span class="num">{}</span>', calendar.tasks)

    @admin.display(description=_lazy("Changed"), ordering="updated_at")
    def updated_cell(self, calendar: Calendar) -> str:
        return moment(calendar.updated_at, "ago")

    def menu_items(self, calendar: Any, may: set[str]) -> list[dict[str, Any]]:
        url = reverse("admin:tasks_app_calendar_change", args=[calendar.pk])
        change = "change" in may
        items: list[dict[str, Any]] = [
            {"label": _("Edit") if change else _("View"), "icon": "pencil" if change else "eye", "url": url}
        ]
        if "delete" in may:
            ask = _("Delete the calendar “%(name)s”?") % {"name": calendar.name}
            remove = reverse("admin:tasks_app_calendar_remove", args=[calendar.pk])
            items += [
                {"line": True},
                {"label": _("Delete"), "icon": "trash-2", "post": remove, "confirm": ask, "danger": True},
            ]
        return items

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("preview/", wrap(self.preview_view), name="tasks_app_calendar_preview"),
            path("<path:object_id>/remove/", wrap(self.remove_view), name="tasks_app_calendar_remove"),
            *super().get_urls(),
        ]

    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def remove(request: HttpRequest, calendar: Calendar) -> dict[str, Any]:
            name = calendar.name
            calendars.do_delete_calendar(who(request), calendar)
            url = reverse("admin:tasks_app_calendar_changelist")
            return {"message": _("“%(name)s” is deleted.") % {"name": name}, "reload": True, "url": url}

        return self.post_view(request, object_id, remove, "delete")

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """POST the form: {"html"} with the next days in it and out of it, or {"error"}. Nothing is stored."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request) and not self.has_add_permission(request):
            raise PermissionDenied
        form = CalendarForm(None, request.POST)
        form.is_valid()  # a name is not needed to see its days
        try:
            if form.errors.keys() - {"name", "description"} or not (
                form.weekly.is_valid() and form.periods.is_valid()
            ):
                raise InvalidInput({})
            data = form.data_for_actions() if "name" in form.cleaned_data else _nameless(form)
            context = days_of(calendars.resolve(data["rules"], data["timezone"], timezone.now().date()))
        except ScheduleError as error:
            return JsonResponse({"error": error.render(_)})
        except InvalidInput:
            return JsonResponse({"error": _("Mend what the form shows, then try again.")})
        return JsonResponse({"html": render_to_string("console/calendar_days.html", context)})

    def form_page(self, request: HttpRequest, calendar: Calendar | None) -> HttpResponse:
        may = {action for action in self.row_permissions if calendar and self.may(request, calendar, action)}
        may_change = calendar is None or "change" in may
        if request.method == "POST" and not may_change:
            raise PermissionDenied
        form = CalendarForm(calendar, request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                # The page keeps showing what is stored, whatever the check puts into its own copy.
                copy = Calendar.objects.get(pk=calendar.pk) if calendar else None
                stored = control.do_save_calendar(who(request), form.data_for_actions(), copy)
            except InvalidInput as error:
                form.take_errors(error)
            else:
                (self.log_change if calendar else self.log_addition)(request, stored, "")
                messages.success(request, _("“%(name)s” is saved.") % {"name": stored.name})
                return redirect("admin:tasks_app_calendar_change", stored.pk)
        if not may_change:
            for part in (form, *form.weekly.forms, *form.periods.forms):
                for field in part.fields.values():
                    field.disabled = True
        tasks = list(tasks_for(who(request)).filter(calendar=calendar)[:SHOWN_TASKS]) if calendar else []
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": calendar.name if calendar else _("New calendar"),
            "calendar": calendar,
            "form": form,
            "may_change": may_change,
            "menu": [item for item in self.menu_items(calendar, may) if item.get("label") != _("Edit")]
            if calendar
            else [],
            "tasks": tasks,
            "until": calendars.announced_until(),
            **(days_of(calendar.resolved) if calendar else {}),
        }
        return TemplateResponse(request, "console/calendar_form.html", context)


def _nameless(form: CalendarForm) -> dict[str, Any]:
    form.cleaned_data |= {"name": "", "description": ""}
    return form.data_for_actions()


def days_of(resolved: str) -> dict[str, Any]:
    """For the template: the next days that the calendar covers, and those that it does not."""
    parsed = Parsed.parse(resolved)
    return {
        "days_in": next_days(parsed, True, PREVIEW_DAYS),
        "days_out": next_days(parsed, False, PREVIEW_DAYS),
        "today": datetime.now(parsed.tz).date(),
    }


def rules_in_words(calendar: Calendar) -> list[str]:
    """The kinds of rules that a calendar has, in short."""
    rules = calendar.rules
    words = []
    if rules.get("working_days") == calendars.CHINA:
        words.append(_("China's working days"))
    elif rules.get("working_days"):
        words.append(_("Monday to Friday"))
    dates, weekly, cron = (len(rules.get(key, ())) for key in ("dates", "weekly", "cron"))
    if dates:
        words.append(ngettext("%d date", "%d dates", dates) % dates)
    if weekly:
        words.append(ngettext("%d weekly window", "%d weekly windows", weekly) % weekly)
    if cron:
        words.append(ngettext("%d period", "%d periods", cron) % cron)
    return words
