"""The console's page of one task: what it is, how it goes, which hosts hold it, and running it with parameters."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from executions_app import control
from executions_app.console.alert_quick import alerts_part
from executions_app.selectors import executions_for, since, stats
from groups_app.choices import ClientApproval
from groups_app.labels import matches
from groups_app.models import Client
from groups_app.selectors import clients_for, groups_for
from quartzflow.console.base import who
from quartzflow.console.rights import RightsAdmin
from quartzflow.errors import InvalidInput, QuartzError
from quartzflow.templatetags.console import value_text

from ..choices import ExecutorType, ScheduleType
from ..models import Task
from ..selectors import next_fire_time
from .form_executor import CONFIG, ExecutorForm
from .forms import CODE, NamedTexts
from .graph import graph_around, links_of
from .list import TaskListAdmin

NEXT_TIMES = 5
RECENT = 12  # executions
SHOWN_HOSTS = 100


def settings_of(task: Task) -> list[tuple[Any, str]]:
    """What the executor is told beside the command: the form's labels, and values as one writes them there."""
    fields = ExecutorForm.base_fields
    labels = {name.removeprefix(CONFIG): field.label for name, field in fields.items()}
    return [
        (labels.get(key, key), in_lines(value))
        for key, value in task.executor_config.items()
        if key != "command" and value not in ("", None, {}, [])
    ]


def in_lines(value: Any) -> str:
    """A value of a configuration: NAME=value a line, a list with commas, anything else as it is."""
    if isinstance(value, dict):
        return "\n".join(f"{name}={value_text(text)}" for name, text in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else value_text(value)


class RunForm(forms.Form):
    """A run by hand with values of its own; executions_app.control checks them."""

    params = NamedTexts(
        label=_lazy("Parameters"), widget=forms.Textarea(attrs={**CODE, "rows": 3, "placeholder": "DATE=2026-01-31"}),
        help_text=_lazy("One NAME=value a line. The run finds them as QF_PARAM_NAME in its environment."),
    )  # fmt: skip
    host = forms.ChoiceField(label=_lazy("Host"), required=False)

    def __init__(self, hosts: list[Any], data: Any = None) -> None:
        super().__init__(data)
        names = [(host.client_id, host.client_id) for host in hosts]
        self.fields["host"].choices = [("", _("All hosts of the task")), *names]  # type: ignore[attr-defined]
        self.fields["params"].widget.attrs["aria-describedby"] = "id_params_helptext"


class TaskDetailAdmin(RightsAdmin, TaskListAdmin):
    """The page; the form and the actions are in TaskAdmin."""

    rights = (
        ("view", _lazy("View")),
        ("view_logs", _lazy("Read logs")),
        ("trigger", _lazy("Run")),
        ("cancel", _lazy("Cancel runs")),
        ("change", _lazy("Change")),
        ("delete", _lazy("Delete")),
    )

    def rights_back(self, obj: Model) -> str:
        return reverse("admin:tasks_app_task_detail", args=[obj.pk])

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.detail_view)
        return [path("<path:object_id>/detail/", view, name="tasks_app_task_detail"), *super().get_urls()]

    def detail_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET: the page. POST: run it with the parameters of the form."""
        task = self.access(request, object_id, "trigger" if request.method == "POST" else "view")
        hosts = self._hosts(request, task)
        form = RunForm(hosts, request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            chosen = [form.cleaned_data["host"]] if form.cleaned_data["host"] else None
            try:
                made = control.do_trigger_task(who(request), task, form.cleaned_data["params"], chosen)
            except InvalidInput as error:
                for text in [text for texts in error.errors.values() for text in texts]:
                    form.add_error("params", str(text))
            except QuartzError as error:
                form.add_error(None, str(error.message))
            else:
                if len(made) == 1:
                    return redirect("admin:executions_app_execution_change", made[0].pk)
                return redirect("admin:executions_app_run", made[0].run_id)
        may = {action for action in self.row_permissions if self.may(request, task, action)}
        executions = executions_for(who(request)).filter(task=task)
        visible_groups = groups_for(who(request)).filter(pk__in=task.groups.values("pk"))
        command = task.executor_config.get("command")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": task.name,
            "task": task,
            "may_trigger": "trigger" in may,
            "may_change": "change" in may,
            "menu": self.with_rights(request, task, self.menu_items(task, may)),
            "executor": ExecutorType(task.executor_type).label,
            "command": command,
            "settings": settings_of(task),
            "periods": [
                (_("Today"), "today", stats(executions.filter(scheduled_time__gte=since(1)))),
                (_("Last 7 days"), "7", stats(executions.filter(scheduled_time__gte=since(7)))),
            ],
            "times": next_times(task),
            "recent": list(executions.order_by("-id")[:RECENT]),
            "groups": list(visible_groups),
            "hosts": hosts,
            "behind": sum(not host.holds for host in hosts),
            "form": form,
            "alerts": alerts_part(who(request), task),
            "graph": graph_around(who(request), task),
            "parents": links_of(who(request), task),
            "may_replay": "trigger" in may
            and task.schedule_type not in (ScheduleType.NONE, ScheduleType.FIXED_DELAY),
        }
        return TemplateResponse(request, "console/task.html", context)

    def _hosts(self, request: HttpRequest, task: Task) -> list[Any]:
        """The hosts that the task is for, as far as one may see them, and whether each holds its present version."""
        hosts = clients_for(who(request)).filter(approval=ClientApproval.APPROVED)
        if not task.is_global:
            hosts = hosts.filter(group__in=task.groups.all())
        rows: list[Any] = [
            host
            for host in hosts.order_by("-status", "client_id")[:SHOWN_HOSTS]
            if matches(task.selector, host.labels)
        ]
        for row in rows:
            row.holds = holds(row, task)
        return rows


def holds(client: Client, task: Task) -> bool:
    """Whether the host has applied a configuration that has the task as it is now."""
    return client.task_version >= task.version


def next_times(task: Task) -> list[datetime]:
    """The next times that it fires by its schedule."""
    first = next_fire_time(task)
    if first is None:
        return []
    times = task.schedule_spec().upcoming(timezone.now(), NEXT_TIMES)
    return times or [first]
