"""The console's pages of scheduled reports: what is built, when, and who gets it by mail."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dates import WEEKDAYS
from django.utils.html import format_html
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from groups_app.models import Group
from quartzflow.console.base import FormPageAdmin, pill, who
from quartzflow.console.site import site
from quartzflow.errors import InvalidInput
from quartzflow.permissions import User, visible
from quartzflow.preferences import time_zones
from quartzflow.templatetags.console import moment
from tasks_app.models import Task

from ..reports import actions, selectors
from ..reports.choices import Days, Dimension, Every, Format, MailState
from ..reports.models import ReportMail, ReportSchedule

SHOWN = 20  # mails of a schedule
COLORS = {
    MailState.WAITING: "running",
    MailState.PENDING: "pending",
    MailState.SENT: "success",
    MailState.FAILED: "failure",
}
PLAIN = ("name", "days", "dimensions", "format", "every", "language", "zone", "weekday", "month_day", "hour")


class ScheduleForm(forms.Form):
    """A schedule's fields; executions_app.reports.checks says what they mean."""

    name = forms.CharField(
        label=_lazy("Name"), max_length=64, help_text=_lazy("It is the subject of the mail, too.")
    )
    is_enabled = forms.BooleanField(label=_lazy("Enabled"), required=False, initial=True)
    days = forms.ChoiceField(
        label=_lazy("Days"), choices=[(value, label) for value, label in Days.choices if value != Days.CUSTOM]
    )
    dimensions = forms.MultipleChoiceField(
        label=_lazy("Parts"), choices=Dimension.choices, widget=forms.CheckboxSelectMultiple
    )
    format = forms.ChoiceField(label=_lazy("Format"), choices=Format.choices, widget=forms.RadioSelect)
    language = forms.ChoiceField(
        label=_lazy("Language"), choices=[("zh-hans", "简体中文"), ("en", "English")]
    )
    task = forms.CharField(
        label=_lazy("Only this task"), required=False, max_length=128,
        widget=forms.TextInput(attrs={"list": "task-names", "autocomplete": "off"}),
    )  # fmt: skip
    group = forms.ModelChoiceField(
        Group.objects.none(), label=_lazy("Only this host group"), required=False, empty_label="—"
    )
    client_id = forms.CharField(label=_lazy("Only this host"), required=False, max_length=64)
    recipients = forms.CharField(
        label=_lazy("Recipients"),
        help_text=_lazy("One e-mail address a line."),
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
    )
    every = forms.ChoiceField(label=_lazy("How often"), choices=Every.choices, widget=forms.RadioSelect)
    weekday = forms.TypedChoiceField(label=_lazy("Weekday"), coerce=int, choices=list(WEEKDAYS.items()))
    month_day = forms.TypedChoiceField(
        label=_lazy("Day of the month"), coerce=int, choices=[(day, str(day)) for day in range(1, 29)]
    )
    hour = forms.TypedChoiceField(
        label=_lazy("At"), coerce=int, choices=[(hour, f"{hour:02d}:00") for hour in range(24)]
    )
    zone = forms.ChoiceField(label=_lazy("Time zone"))

    def __init__(self, user: User, schedule: ReportSchedule | None, data: Any = None) -> None:
        self.user = user
        zone = schedule.zone if schedule else timezone.get_current_timezone_name()
        initial: dict[str, Any] = {
            "days": Days.YESTERDAY, "dimensions": list(Dimension.values), "format": Format.XLSX, "every": Every.DAY,
            "weekday": 0, "month_day": 1, "hour": 8, "zone": zone, "language": get_language(),
        }  # fmt: skip
        if schedule is not None:
            initial = {name: getattr(schedule, name) for name in (*PLAIN, "is_enabled", "client_id")}
            task = visible(user, Task.objects.filter(pk=schedule.task_id or 0)).first()
            initial |= {
                "task": task.name if task else "",
                "group": schedule.group_id,
                "recipients": "\n".join(schedule.recipients),
            }
        super().__init__(data, initial=initial)
        self.fields["group"].queryset = visible(user, Group.objects.all()).order_by("name")  # type: ignore[attr-defined]
        zones = ["UTC", *time_zones()]
        self.fields["zone"].choices = [(name, name) for name in (zones if zone in zones else [zone, *zones])]  # type: ignore[attr-defined]
        self.fields["task"].widget.attrs["data-suggest"] = reverse("admin:tasks_app_task_names")

    def clean_task(self) -> int | None:
        name = self.cleaned_data["task"].strip()
        if not name:
            return None
        found = visible(self.user, Task.objects.filter(name=name)).first()
        if found is None:
            raise forms.ValidationError(_("There is no task called %(name)s.") % {"name": name})
        return int(found.pk)

    def data_for_action(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        return {
            **{name: cleaned[name] for name in (*PLAIN, "is_enabled")},
            "client_id": cleaned["client_id"].strip(),
            "task_id": cleaned["task"],
            "group_id": cleaned["group"].pk if cleaned["group"] else None,
            "recipients": [line.strip() for line in cleaned["recipients"].replace(",", "\n").splitlines()],
        }

    def take_errors(self, error: InvalidInput) -> None:
        own = {"task_id": "task", "group_id": "group"}
        for field, texts in error.errors.items():
            name = own.get(field, field)
            self.add_error(name if name in self.fields else None, [str(text) for text in texts])


def when_words(schedule: ReportSchedule) -> str:
    """When it is sent, in words."""
    at = f"{schedule.hour:02d}:00 ({schedule.zone})"
    if schedule.every == Every.WEEK:
        return _("Every %(day)s at %(time)s") % {"day": WEEKDAYS[schedule.weekday], "time": at}
    if schedule.every == Every.MONTH:
        return _("On day %(day)s of every month at %(time)s") % {"day": schedule.month_day, "time": at}
    return _("Every day at %(time)s") % {"time": at}


@admin.register(ReportSchedule, site=site)
class ReportScheduleAdmin(FormPageAdmin):
    """Reports that are sent by mail again and again."""

    section = "reports"
    icon = "clock"
    nav_order = 80
    nav_label = _lazy("Scheduled reports")
    add_title = _lazy("New scheduled report")
    empty_icon = "clock"
    empty_title = _lazy("No scheduled reports yet")
    empty_text = _lazy("A scheduled report is built every day, week or month, and sent by mail.")
    list_display = ("name_cell", "when_cell", "next_cell", "last_cell", "owner_cell", "row_menu")
    list_display_links = None
    sortable_by = ()
    search_fields = ("name",)
    search_help_text = _lazy("Search by name")
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        newest = ReportMail.objects.filter(schedule=OuterRef("pk")).order_by("-id").values("pk")[:1]
        rows = super().get_queryset(request).select_related("owner")
        return rows.annotate(last_id=Subquery(newest))  # type: ignore[no-any-return]

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        found = ReportMail.objects.in_bulk([row.last_id for row in rows if row.last_id])
        for row in rows:
            row.last = found.get(row.last_id)

    @admin.display(description=_lazy("Name"))
    def name_cell(self, schedule: ReportSchedule) -> str:
        url = reverse("admin:executions_app_reportschedule_change", args=[schedule.pk])
        what = f"{schedule.get_days_display()} · {schedule.get_format_display()}"
        return format_html(
            '<a class="cell-main" href="{}">{}</a><span class="cell-sub">{}</span>', url, schedule.name, what
        )

    @admin.display(description=_lazy("When"))
    def when_cell(self, schedule: ReportSchedule) -> str:
        people = ", ".join(schedule.recipients[:2]) + (" …" if len(schedule.recipients) > 2 else "")
        return format_html('{}<span class="cell-sub">{}</span>', when_words(schedule), people)

    @admin.display(description=_lazy("Next"))
    def next_cell(self, schedule: ReportSchedule) -> str:
        return moment(schedule.next_at) if schedule.is_enabled else pill("pending", _("Disabled"))

    @admin.display(description=_lazy("Last sent"))
    def last_cell(self, schedule: Any) -> str:
        mail = schedule.last
        if mail is None:
            return format_html('<span class="muted">{}</span>', "—")
        return format_html(
            '{}<span class="cell-sub">{}</span>',
            pill(COLORS[MailState(mail.state)], MailState(mail.state).label),
            mail.error or moment(mail.sent_at or mail.due_at, "ago"),
        )

    @admin.display(description=_lazy("Built for"))
    def owner_cell(self, schedule: ReportSchedule) -> str:
        return schedule.owner.get_username() if schedule.owner else "—"

    def menu_items(self, schedule: Any, may: set[str]) -> list[dict[str, Any]]:
        def of(name: str) -> str:
            return reverse(f"admin:executions_app_reportschedule_{name}", args=[schedule.pk])

        label, icon = (_("Edit"), "pencil") if "change" in may else (_("View"), "eye")
        items: list[dict[str, Any]] = [{"label": label, "icon": icon, "url": of("change")}]
        if "change" in may:
            items.append({"label": _("Send now"), "icon": "zap", "post": of("send")})
        if "delete" in may:
            ask = _("Delete “%(name)s”? Reports that were built stay.") % {"name": schedule.name}
            remove = {
                "label": _("Delete"),
                "icon": "trash-2",
                "post": of("remove"),
                "confirm": ask,
                "danger": True,
            }
            items += [{"line": True}, remove]
        return items

    def get_urls(self) -> list[URLPattern]:
        own, name = self.admin_site.admin_view, "executions_app_reportschedule"
        return [
            path("<int:pk>/send/", own(self.send_view), name=f"{name}_send"),
            path("<int:pk>/remove/", own(self.remove_view), name=f"{name}_remove"),
            *super().get_urls(),
        ]

    def send_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        def work(request: HttpRequest, schedule: ReportSchedule) -> dict[str, Any]:
            actions.do_send_now(who(request), schedule)
            url = reverse("admin:executions_app_reportschedule_change", args=[schedule.pk])
            return {"message": _("The report is being built, and then sent."), "url": url, "reload": True}

        return self.post_view(request, str(pk), work, "change")

    def remove_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        def work(request: HttpRequest, schedule: ReportSchedule) -> dict[str, Any]:
            name = schedule.name
            actions.do_delete_schedule(who(request), schedule)
            words = _("“%(name)s” is deleted.") % {"name": name}
            url = reverse("admin:executions_app_reportschedule_changelist")
            return {"message": words, "url": url, "reload": True}

        return self.post_view(request, str(pk), work, "delete")

    def form_page(self, request: HttpRequest, schedule: ReportSchedule | None) -> HttpResponse:
        user = who(request)
        may = {action for action in self.row_permissions if schedule and self.may(request, schedule, action)}
        may_change = schedule is None or "change" in may
        if request.method == "POST" and not may_change:
            raise PermissionDenied
        form = ScheduleForm(user, schedule, request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                # The page keeps showing what is stored, whatever the action puts into its own copy.
                copy = ReportSchedule.objects.get(pk=schedule.pk) if schedule else None
                stored = actions.do_save_schedule(user, copy, form.data_for_action())
            except InvalidInput as error:
                form.take_errors(error)
            else:
                messages.success(request, _("“%(name)s” is saved.") % {"name": stored.name})
                return redirect("admin:executions_app_reportschedule_change", stored.pk)
        for field in form.fields.values():
            field.disabled = not may_change
        mails = list(selectors.mails_of(schedule)[:SHOWN]) if schedule else []
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": schedule.name if schedule else self.add_title,
            "form": form,
            "schedule": schedule,
            "may_change": may_change,
            "becomes_mine": bool(schedule and may_change and schedule.owner != user),
            "no_mail": not settings.QF_MAIL,
            "menu": [item for item in self.menu_items(schedule, may) if not item.get("url")]
            if schedule
            else [],
            "may_send": "change" in may,
            "mails": [(mail, COLORS[MailState(mail.state)]) for mail in mails],
            "open_mails": any(mail.state in (MailState.WAITING, MailState.PENDING) for mail in mails),
            "own_reports": set(
                selectors.reports_for(user).filter(mails__in=mails).values_list("pk", flat=True)
            ),
        }
        return TemplateResponse(request, "console/report_schedule_form.html", context)
