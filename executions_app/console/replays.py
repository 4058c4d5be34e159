"""The console's pages of replays: running a task for the times of a past window, with a look at them before."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from quartzflow.console.base import ReadOnlyAdmin, pill, who
from quartzflow.console.site import site
from quartzflow.errors import InvalidInput, QuartzError
from quartzflow.execution_status import LIVE, ExecutionStatus
from quartzflow.permissions import visible
from quartzflow.templatetags.console import moment
from tasks_app.console.fields import WallClock
from tasks_app.models import Task

from .. import control, replays
from ..choices import ExecutionType
from ..models import Execution, Replay

COLORS = {
    Replay.Status.RUNNING: "running",
    Replay.Status.DONE: "success",
    Replay.Status.CANCELLED: "cancelled",
}


class StatusFilter(admin.ChoicesFieldListFilter):
    """By status; the column has no words of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = _("Status")


class ReplayForm(forms.Form):
    """The window, in the task's time zone; executions_app.replays checks it."""

    begin = WallClock(label=_lazy("From"))
    end = WallClock(label=_lazy("Until"))
    parallel = forms.IntegerField(
        label=_lazy("Runs at once"), min_value=1, max_value=100, initial=10,
        help_text=_lazy("The next begins when one of them has ended."),
    )  # fmt: skip

    def __init__(self, task: Task, data: Any = None) -> None:
        self.zone = ZoneInfo(task.timezone)
        now = timezone.now().astimezone(self.zone).replace(second=0, microsecond=0)
        super().__init__(data, initial={"begin": now - timedelta(days=1), "end": now})
        for name in ("begin", "end"):
            self.fields[name].required = True

    def window(self) -> tuple[datetime, datetime]:
        begin, end = (self.cleaned_data[name].replace(tzinfo=self.zone) for name in ("begin", "end"))
        return begin, end

    def take_errors(self, error: InvalidInput) -> None:
        for field, texts in error.errors.items():
            self.add_error(field if field in self.fields else None, [str(text) for text in texts])


@admin.register(Replay, site=site)
class ReplayAdmin(ReadOnlyAdmin):
    """Reached from a task's page; whoever may see the task sees its replays."""

    list_display = ("task_cell", "status_cell", "window_cell", "count_cell", "by_cell", "created_cell")
    list_display_links = None
    nav_label = _lazy("Replays")
    empty_icon = "history"
    empty_title = _lazy("No replays yet")
    empty_text = _lazy("A replay runs a task for the times of a past window. It begins on the task's page.")
    list_filter = (("status", StatusFilter),)
    actions = None

    # --- who may ---

    def visible_rows(self, request: HttpRequest, action: str) -> QuerySet:
        return Replay.objects.filter(
            task__in=visible(who(request), Task.objects.all(), action)
        ).select_related("task")

    # --- list ---

    @admin.display(description=_lazy("Task"))
    def task_cell(self, replay: Replay) -> str:
        url = reverse("admin:executions_app_replay_change", args=[replay.pk])
        return format_html(
            '<a class="cell-main" href="{}">{}</a><span class="cell-sub">#{}</span>',
            url,
            replay.task.name,
            replay.pk,
        )

    @admin.display(description=_lazy("Status"))
    def status_cell(self, replay: Replay) -> str:
        status = Replay.Status(replay.status)
        return pill(COLORS[status], status.label)

    @admin.display(description=_lazy("Window"))
    def window_cell(self, replay: Replay) -> str:
        return format_html("{} – {}", moment(replay.begin), moment(replay.end))

    @admin.display(description=_lazy("Times"))
    def count_cell(self, replay: Replay) -> str:
        return format_html('<span class="num">{} / {}</span>', replay.fired + replay.existing, replay.total)

    @admin.display(description=_lazy("Started by"))
    def by_cell(self, replay: Replay) -> str:
        return replay.created_by or "—"

    @admin.display(description=_lazy("Started"))
    def created_cell(self, replay: Replay) -> str:
        return moment(replay.created_at, "ago")

    # --- pages ---

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("of/<int:task_id>/", wrap(self.start_view), name="executions_app_replay_start"),
            path("<path:object_id>/cancel/", wrap(self.cancel_view), name="executions_app_replay_cancel"),
            *super().get_urls(),
        ]

    def start_view(self, request: HttpRequest, task_id: int) -> HttpResponse:
        """GET: the form. POST with `look`: what the window holds; else the replay begins."""
        user = who(request)
        task = visible(user, Task.objects.select_related("calendar")).filter(pk=task_id).first()
        if task is None:
            raise Http404
        if not visible(user, Task.objects.filter(pk=task_id), "trigger").exists():
            raise PermissionDenied
        form = ReplayForm(task, request.POST if request.method == "POST" else None)
        preview: replays.Preview | None = None
        if request.method == "POST" and form.is_valid():
            begin, end = form.window()
            try:
                if "look" in request.POST:
                    preview = replays.preview(user, task, begin, end)
                else:
                    replay = replays.do_start_replay(user, task, begin, end, form.cleaned_data["parallel"])
                    return redirect("admin:executions_app_replay_change", replay.pk)
            except InvalidInput as error:
                form.take_errors(error)
            except QuartzError as error:
                form.add_error(None, str(error.message))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Replay “%(name)s”") % {"name": task.name},
            "task": task,
            "form": form,
            "preview": preview,
            "times": shown_times(task, preview) if preview else [],
            "earlier": list(self.visible_rows(request, "view").filter(task=task)[:8]),
        }
        return TemplateResponse(request, "console/replay_start.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        replay: Replay = self.access(request, object_id)
        progress = replays.progress(replay)
        handled = progress["fired"] + progress["existing"]
        status = Replay.Status(replay.status)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Replay of “%(name)s”") % {"name": replay.task.name},
            "replay": replay,
            "status": status,
            "color": COLORS[status],
            "progress": progress,
            "handled": handled,
            "percent": 100 * handled // max(progress["total"], 1),
            "counts": [(ExecutionStatus[name], count) for name, count in progress["counts"].items()],
            "history": f"{reverse('admin:executions_app_execution_changelist')}"
            f"?task__id__exact={replay.task_id}&execution_type__exact={ExecutionType.REPLAY.value}",
            "may_cancel": status == Replay.Status.RUNNING and self.may(request, replay, "cancel"),
        }
        return TemplateResponse(request, "console/replay.html", context)

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def cancel(request: HttpRequest, replay: Replay) -> str:
            live = [row for row in replays.do_cancel_replay(who(request), replay) if row.status in LIVE]
            if live:
                control.do_cancel_executions(who(request), live)
            return _("The replay is cancelled.")

        return self.post_view(request, object_id, cancel, "cancel")

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        messages.info(request, _("Replays are kept with the history."))
        return redirect("admin:executions_app_replay_change", object_id)


def shown_times(task: Task, preview: replays.Preview) -> list[tuple[datetime, bool]]:
    """The times of a preview, each with whether there are executions of it already."""
    kinds = (ExecutionType.SCHEDULED, ExecutionType.REPLAY)
    rows = Execution.objects.filter(task=task, scheduled_time__in=preview["times"], execution_type__in=kinds)
    known = set(rows.order_by().values_list("scheduled_time", flat=True).distinct())
    return [(time, time in known) for time in preview["times"]]
