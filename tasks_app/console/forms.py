"""The task form: one field per thing one can say about a task, instead of JSON.

Its parts are in admin_form_schedule, admin_form_executor and form_alerts.
"""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from groups_app.selectors import groups_for
from quartzflow.declared_settings import task_defaults
from quartzflow.errors import InvalidInput
from quartzflow.permissions import User, visible
from quartzflow.preferences import time_zones

from ..checks import hidden_groups
from ..choices import ConcurrencyPolicy, DependencyCondition, OfflinePolicy, Routing, TaskStatus
from ..dependencies import hidden_parents
from ..models import Calendar, Task
from .fields import CODE, ExplainedChoice, NamedTexts, SelectorTexts, number
from .form_alerts import AlertsForm
from .form_executor import ExecutorForm
from .form_schedule import ScheduleForm

__all__ = ["CODE", "NamedTexts", "TaskForm"]


class TaskForm(ScheduleForm, ExecutorForm, AlertsForm):
    """Checks shapes only; what is right for a task is decided by tasks_app.actions, in `data_for_actions()`'s terms."""

    name = forms.CharField(label=_lazy("Name"), max_length=128)
    labels = NamedTexts(
        label=_lazy("Labels"), widget=forms.Textarea(attrs={**CODE, "rows": 2, "placeholder": "team=billing"}),
        help_text=_lazy("One name=value a line; for finding and grouping tasks."),
    )  # fmt: skip
    description = forms.CharField(label=_lazy("Description"), max_length=512, required=False)
    enabled = forms.BooleanField(label=_lazy("Enable"), required=False, initial=True)

    is_global = forms.BooleanField(label=_lazy("On every host"), required=False)
    group_ids = forms.TypedMultipleChoiceField(
        label=_lazy("Groups"), coerce=int, required=False, widget=forms.CheckboxSelectMultiple
    )
    routing = ExplainedChoice(
        label=_lazy("Routing"), choices=Routing.choices, help_text=_lazy("Which of the hosts online run it."),
        explanations={
            Routing.SHARDING: _lazy("Each host knows its part by QF_SHARD_INDEX and QF_SHARD_TOTAL."),
            Routing.CONSISTENT_HASH: _lazy("The same host each time, as long as it is online."),
            Routing.FAILOVER: _lazy("The first host by name; the next one when it is offline."),
        },
    )  # fmt: skip
    selector = SelectorTexts(
        label=_lazy("Only hosts with these labels"),
        widget=forms.Textarea(attrs={**CODE, "rows": 2, "placeholder": "env=prod"}),
        help_text=_lazy("One name=value a line; several values with commas. Empty: every host of the groups."),
    )  # fmt: skip
    offline_policy = forms.ChoiceField(
        label=_lazy("Hosts offline"), choices=OfflinePolicy.choices,
        help_text=_lazy("Those that are not there when it fires, where every host is meant."),
    )  # fmt: skip
    spread_seconds = number(
        _lazy("Spread"), 0, 3600, _lazy("The hosts begin one by one over this time instead of all at once.")
    )
    wave_size = forms.CharField(
        label=_lazy("Hosts at a time"), max_length=6, required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "20%"}),
        help_text=_lazy("A number, or a part such as 20%; the next go when these have ended. Empty: all at once."),
    )  # fmt: skip
    wave_max_failed = number(
        _lazy("Failures allowed"), 0, 100, _lazy("When more of the hosts so far have failed, the others are left out.")
    )  # fmt: skip

    timeout = number(_lazy("Timeout"), 10, 3600, _lazy("Ended by then, with everything it started."))
    concurrency = number(_lazy("Concurrency"), 1, 100, _lazy("Running at once on one host."))
    concurrency_policy = ExplainedChoice(
        label=_lazy("When still running"), choices=ConcurrencyPolicy.choices,
        explanations={
            ConcurrencyPolicy.QUEUE: _lazy("The new one waits on its host until a place is free."),
            ConcurrencyPolicy.SKIP: _lazy("The new one is not run; the history says so."),
            ConcurrencyPolicy.REPLACE: _lazy("The running one is ended, and the new one begins."),
        },
    )  # fmt: skip
    retry_count = number(
        _lazy("Retries"), 0, 10, _lazy("After a failure or a timeout, on the same host. 0: it fails at once.")
    )
    retry_interval = number(
        _lazy("Retry interval"), 1, 86400, _lazy("From the end of a failed attempt to the next one.")
    )
    retry_max_interval = number(
        _lazy("Longest retry interval"), 0, 86400, _lazy("Doubles up to this. 0: stays the same.")
    )
    force = forms.BooleanField(label=_lazy("Edit although it is executing"), required=False)

    def __init__(self, user: User, task: Task | None, data: Any = None, *, like: Task | None = None) -> None:
        """`like`: a new task begins with the values of this one."""
        self.task = task
        self.user = user
        self.groups = list(groups_for(user))
        self.hidden_groups = len(hidden_groups(user, task)) if task else 0
        self.hidden_parents = len(hidden_parents(user, task)) if task else 0
        source = task or like
        initial = self._initial(source) if source else self.defaults()
        if like and not task:
            initial |= {"name": _("%(name)s (copy)") % {"name": like.name[:100]}, "enabled": False}
        super().__init__(data, initial=initial)
        self.take_channels(user, source)
        zones = time_zones()
        current = self.initial["timezone"]
        self._choose(
            "timezone", [(name, name) for name in (zones if current in zones else [current, *zones])]
        )
        self.calendars = {calendar.pk: calendar for calendar in visible(user, Calendar.objects.all())}
        names: list[tuple[Any, str]] = [(calendar.pk, calendar.name) for calendar in self.calendars.values()]
        if task and task.calendar and task.calendar_id not in self.calendars:
            names.append((task.calendar_id, task.calendar.name))  # kept, though one may not choose it
        self._choose("calendar_id", [("", _("None")), *names])
        self._choose("group_ids", [(group.pk, group.name) for group in self.groups])
        for name, field in self.fields.items():
            if field.help_text or isinstance(field, ExplainedChoice):
                field.widget.attrs["aria-describedby"] = f"id_{name}_helptext"

    def _choose(self, name: str, choices: list[tuple[Any, str]]) -> None:
        cast(forms.ChoiceField, self.fields[name]).choices = choices

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """A new task's values."""
        names = (
            "timeout", "concurrency", "retry_count", "retry_interval", "misfire_policy", "misfire_grace",
            "concurrency_policy", "routing", "schedule_type", "executor_type", "spread_seconds", "retry_max_interval",
            "calendar_mode", "offline_policy", "dependency_mode", "wave_max_failed",
        )  # fmt: skip
        task = Task(**task_defaults())
        values = {name: getattr(task, name) for name in names}
        return {**values, **cls.config_defaults(), "enabled": True, "timezone": settings.TIME_ZONE}

    def _initial(self, task: Task) -> dict[str, Any]:
        """An existing task's values."""
        seen = visible(self.user, Task.objects.all()).values("pk")
        parents = task.dependencies.filter(parent__in=seen).select_related("parent").order_by("parent__name")
        return {
            **{name: getattr(task, name) for name in TASK_FIELDS},
            **self.moments_of(task),
            **self.config_of(task),
            "enabled": task.is_enabled,
            "group_ids": list(task.groups.values_list("pk", flat=True)),
            "dependencies": [{"name": p.parent.name, "condition": p.condition} for p in parents],
        }

    def clean_dependencies(self) -> list[dict[str, Any]]:
        """The names as ids of tasks that the user may see."""
        rows = self.cleaned_data["dependencies"] or []
        names = {row["name"] for row in rows}
        known = dict(visible(self.user, Task.objects.filter(name__in=names)).values_list("name", "pk"))
        if missing := sorted(names - known.keys()):
            raise forms.ValidationError(
                _("There is no task called %(names)s.") % {"names": ", ".join(missing)}
            )
        if any(row["condition"] not in DependencyCondition.values for row in rows):
            raise forms.ValidationError(_("Not one of the choices."))
        return [{"task_id": known[row["name"]], "condition": row["condition"]} for row in rows]

    def data_for_actions(self) -> dict[str, Any]:
        """The cleaned form as tasks_app.actions wants it; fields of other schedules and executors are left out."""
        cleaned = self.cleaned_data
        data = {name: cleaned[name] for name in TASK_FIELDS}
        self.leave_out_others(data)
        data["executor_config"] = self.config_data()
        data["status"] = TaskStatus.ENABLED if cleaned["enabled"] else TaskStatus.DISABLED
        data["group_ids"] = [] if cleaned["is_global"] else cleaned["group_ids"]
        data["dependencies"] = cleaned["dependencies"]
        return data

    def take_errors(self, error: InvalidInput) -> None:
        """Show the errors of the actions at the fields that they are about."""
        for field, texts in error.errors.items():
            for text in map(str, texts):
                target: str | None = field
                if field == "executor_config":
                    target, text = self.config_error(text)
                self.add_error(target if target in self.fields else None, text)


TASK_FIELDS = (
    "name", "description", "executor_type", "cron_expr", "timeout", "retry_count", "retry_interval", "concurrency",
    "is_global", "schedule_type", "timezone", "interval_seconds", "run_at", "start_at", "end_at",
    "misfire_policy", "misfire_grace", "concurrency_policy", "routing",
    "spread_seconds", "retry_max_interval", "labels", "selector", "offline_policy", "calendar_id", "calendar_mode",
    "dependency_mode", "wave_size", "wave_max_failed",
)  # fmt: skip
