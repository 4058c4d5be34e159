"""The task form: one field per thing one can say about a task, instead of JSON."""

from __future__ import annotations

import json
import re
import zoneinfo
from datetime import datetime
from typing import Any, cast

from django import forms
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from groups_app.selectors import groups_for
from quartzflow.errors import InvalidInput
from quartzflow.permissions import User, visible
from quartzflow.preferences import time_zones

from .choices import (
    CalendarMode,
    ConcurrencyPolicy,
    ExecutorType,
    MisfirePolicy,
    OfflinePolicy,
    Routing,
    ScheduleType,
    TaskStatus,
)  # fmt: skip
from .executors import HTTP_METHODS
from .models import Calendar, Task

# Errors of a configuration name their key first, also in Chinese with its wide colon.
KEY_OF_ERROR = re.compile(r"(\w+)(?:: |：)(.+)", re.S)
CONFIG = "config_"  # what the fields of an executor's configuration are called: config_<key>
# executor → its keys, in the order of the form
EXECUTOR_KEYS: dict[ExecutorType, tuple[str, ...]] = {
    ExecutorType.SHELL: ("command", "interpreter", "work_dir", "env", "run_as", "umask"),
    ExecutorType.HTTP: ("url", "method", "headers", "body", "expected_status", "verify_tls"),
    ExecutorType.PLUGIN: ("plugin", "params"),
}
# schedule → the fields that it needs
SCHEDULE_KEYS: dict[str, tuple[str, ...]] = {
    ScheduleType.CRON: ("cron_expr",),
    ScheduleType.FIXED_RATE: ("interval_seconds",),
    ScheduleType.FIXED_DELAY: ("interval_seconds",),
    ScheduleType.ONCE: ("run_at",),
    ScheduleType.NONE: (),
}
CODE = {"class": "code", "spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}


class NamedTexts(forms.CharField):
    """Names and values, one pair a line. A value in quotes is JSON text, so that it can hold line breaks."""

    widget = forms.Textarea

    def __init__(self, *, separator: str = "=", typed: bool = False, **kwargs: Any) -> None:
        self.separator = separator
        self.typed = typed  # unquoted numbers, true and false are values of their own
        super().__init__(required=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        joint = ": " if self.separator == ":" else self.separator
        return "\n".join(f"{name}{joint}{self._written(item)}" for name, item in value.items())

    def _written(self, value: Any) -> str:
        if not isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        plain = not self.typed or self._read(value) == value
        if plain and "\n" not in value and not value.startswith('"') and value == value.strip():
            return value
        return json.dumps(value, ensure_ascii=False)

    def _read(self, text: str) -> Any:
        if text.startswith('"') or self.typed:
            try:
                return json.loads(text)
            except ValueError:
                return text
        return text

    def to_python(self, value: Any) -> dict[str, Any]:  # type: ignore[override]
        pairs: dict[str, Any] = {}
        for number, line in enumerate(str(value or "").splitlines(), 1):
            if not line.strip():
                continue
            name, found, text = line.partition(self.separator)
            if not found or not name.strip():
                example = f"NAME{self.separator}value"
                raise forms.ValidationError(
                    _("Line %(number)s: write it as %(example)s.") % {"number": number, "example": example}
                )
            pairs[name.strip()] = self._read(text.strip())
        return pairs


class SelectorTexts(NamedTexts):
    """Labels that a host must have: a name and its value, or several that do, with commas between."""

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return super().prepare_value(
            {
                name: ", ".join(wanted) if isinstance(wanted, list) else wanted
                for name, wanted in value.items()
            }
        )

    def to_python(self, value: Any) -> dict[str, Any]:  # type: ignore[override]
        found: dict[str, Any] = {}
        for name, text in super().to_python(value).items():
            texts = [part.strip() for part in str(text).replace("，", ",").split(",") if part.strip()]
            found[name] = texts if len(texts) > 1 else "".join(texts)
        return found


class WallClock(forms.CharField):
    """A date and time without a zone, as the browser's own picker gives it."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return value.strftime("%Y-%m-%dT%H:%M:%S") if isinstance(value, datetime) else value

    def to_python(self, value: Any) -> datetime | None:  # type: ignore[override]
        if not value:
            return None
        try:
            return datetime.fromisoformat(str(value)).replace(tzinfo=None)
        except ValueError as error:
            raise forms.ValidationError(_("Not a date and time.")) from error


class StatusCodes(forms.CharField):
    """HTTP status codes, separated by commas."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[int]:  # type: ignore[override]
        try:
            return [int(part) for part in str(value or "").replace("，", ",").split(",") if part.strip()]
        except ValueError as error:
            raise forms.ValidationError(_("Write numbers such as 200, 204.")) from error


def _number(label: Any, low: int, high: int, help_text: Any = "") -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=low, max_value=high, help_text=help_text)


class TaskForm(forms.Form):
    """Checks shapes only; what is right for a task is decided by tasks_app.actions, in `data()`'s terms."""

    name = forms.CharField(label=_lazy("Name"), max_length=128)
    labels = NamedTexts(
        label=_lazy("Labels"), widget=forms.Textarea(attrs={**CODE, "rows": 2, "placeholder": "team=billing"}),
        help_text=_lazy("One name=value a line; for finding and grouping tasks."),
    )  # fmt: skip
    description = forms.CharField(label=_lazy("Description"), max_length=512, required=False)
    enabled = forms.BooleanField(label=_lazy("Enable"), required=False, initial=True)

    schedule_type = forms.ChoiceField(
        label=_lazy("Schedule"), choices=ScheduleType.choices, widget=forms.RadioSelect
    )
    cron_expr = forms.CharField(
        label=_lazy("Cron expression"), max_length=64, required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "0 2 * * *"}),
        help_text=_lazy("5 fields: minute hour day month weekday. 6 fields: a field for seconds comes first."),
    )  # fmt: skip
    interval_seconds = forms.IntegerField(
        label=_lazy("Interval"), min_value=1, max_value=366 * 86400, required=False
    )
    run_at = WallClock(label=_lazy("Run at"))
    timezone = forms.ChoiceField(label=_lazy("Time zone"))
    calendar_id = forms.TypedChoiceField(
        label=_lazy("Calendar"), coerce=int, required=False, empty_value=None,
        help_text=_lazy("Times that the calendar leaves out are skipped."),
    )  # fmt: skip
    calendar_mode = forms.ChoiceField(label=_lazy("Use of the calendar"), choices=CalendarMode.choices)
    start_at = WallClock(label=_lazy("Not before"))
    end_at = WallClock(label=_lazy("Not after"))
    misfire_policy = forms.ChoiceField(
        label=_lazy("When missed"), choices=MisfirePolicy.choices,
        help_text=_lazy("What to do about times that passed while the scheduler was down."),
    )  # fmt: skip
    misfire_grace = _number(
        _lazy("Grace time"), 1, 30 * 86400, _lazy("Later than this, a missed time is given up.")
    )

    executor_type = forms.TypedChoiceField(
        label=_lazy("Executor"), choices=ExecutorType.choices, coerce=int, widget=forms.RadioSelect
    )
    config_command = forms.CharField(
        label=_lazy("Command"), required=False, strip=False,
        widget=forms.Textarea(attrs={**CODE, "rows": 7, "data-code": ""}),
        help_text=_lazy("Runs on each target host. Parameters arrive as environment variables QF_PARAM_…"),
    )  # fmt: skip
    config_interpreter = forms.CharField(
        label=_lazy("Interpreter"),
        required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "sh"}),
    )
    config_work_dir = forms.CharField(
        label=_lazy("Working directory"),
        required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "/var/log"}),
    )
    config_env = NamedTexts(
        label=_lazy("Environment"), widget=forms.Textarea(attrs={**CODE, "rows": 3, "placeholder": "LANG=C.UTF-8"}),
        help_text=_lazy("One NAME=value a line."),
    )  # fmt: skip
    config_run_as = forms.CharField(
        label=_lazy("Run as user"), required=False, widget=forms.TextInput(attrs=CODE)
    )
    config_umask = forms.CharField(
        label=_lazy("File mode mask"),
        required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "022"}),
    )
    config_url = forms.CharField(
        label=_lazy("Address"),
        required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "https://"}),
    )
    config_method = forms.ChoiceField(
        label=_lazy("Method"), choices=[(m, m) for m in HTTP_METHODS], required=False
    )
    config_headers = NamedTexts(
        label=_lazy("Headers"), separator=":",
        widget=forms.Textarea(attrs={**CODE, "rows": 3, "placeholder": "Accept: application/json"}),
        help_text=_lazy("One “Name: value” a line."),
    )  # fmt: skip
    config_body = forms.CharField(
        label=_lazy("Body"), required=False, strip=False, widget=forms.Textarea(attrs={**CODE, "rows": 4})
    )
    config_expected_status = StatusCodes(
        label=_lazy("Expected status"), required=False,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "200, 204"}),
        help_text=_lazy("Anything below 400 when left empty."),
    )  # fmt: skip
    config_verify_tls = forms.BooleanField(
        label=_lazy("Check the server's certificate"), required=False, initial=True
    )
    config_plugin = forms.CharField(label=_lazy("Plugin"), required=False, widget=forms.TextInput(attrs=CODE))
    config_params = NamedTexts(
        label=_lazy("Parameters"), typed=True, widget=forms.Textarea(attrs={**CODE, "rows": 3}),
        help_text=_lazy("One name=value a line; numbers, true and false are taken as such, text in quotes as text."),
    )  # fmt: skip

    is_global = forms.BooleanField(label=_lazy("On every host"), required=False)
    group_ids = forms.TypedMultipleChoiceField(
        label=_lazy("Groups"), coerce=int, required=False, widget=forms.CheckboxSelectMultiple
    )
    routing = forms.ChoiceField(
        label=_lazy("Routing"), choices=Routing.choices, help_text=_lazy("Which of the hosts online run it.")
    )

    selector = SelectorTexts(
        label=_lazy("Only hosts with these labels"),
        widget=forms.Textarea(attrs={**CODE, "rows": 2, "placeholder": "env=prod"}),
        help_text=_lazy("One name=value a line; several values with commas. Empty: every host of the groups."),
    )  # fmt: skip
    offline_policy = forms.ChoiceField(
        label=_lazy("Hosts offline"), choices=OfflinePolicy.choices,
        help_text=_lazy("Those that are not there when it fires, where every host is meant."),
    )  # fmt: skip
    spread_seconds = _number(
        _lazy("Spread"), 0, 3600, _lazy("The hosts begin one by one over this time instead of all at once.")
    )

    timeout = _number(_lazy("Timeout"), 10, 3600, _lazy("Ended by then, with everything it started."))
    concurrency = _number(_lazy("Concurrency"), 1, 100, _lazy("Running at once on one host."))
    concurrency_policy = forms.ChoiceField(
        label=_lazy("When still running"), choices=ConcurrencyPolicy.choices
    )
    retry_count = _number(_lazy("Retries"), 0, 10)
    retry_interval = _number(_lazy("Retry interval"), 1, 86400)
    retry_max_interval = _number(
        _lazy("Longest retry interval"), 0, 86400, _lazy("Doubles up to this. 0: stays the same.")
    )
    force = forms.BooleanField(label=_lazy("Edit although it is executing"), required=False)

    def __init__(self, user: User, task: Task | None, data: Any = None) -> None:
        self.task = task
        self.groups = list(groups_for(user))
        super().__init__(data, initial=self.initial_of(task) if task else self.defaults())
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
            if field.help_text:
                field.widget.attrs["aria-describedby"] = f"id_{name}_helptext"

    def _choose(self, name: str, choices: list[tuple[Any, str]]) -> None:
        cast(forms.ChoiceField, self.fields[name]).choices = choices

    @staticmethod
    def defaults() -> dict[str, Any]:
        """A new task's values."""
        names = (
            "timeout", "concurrency", "retry_count", "retry_interval", "misfire_policy", "misfire_grace",
            "concurrency_policy", "routing", "schedule_type", "executor_type", "spread_seconds", "retry_max_interval",
            "calendar_mode", "offline_policy",
        )  # fmt: skip
        task = Task()
        values = {name: getattr(task, name) for name in names}
        return {
            **values,
            "enabled": True,
            "timezone": settings.TIME_ZONE,
            "config_verify_tls": True,
            "config_method": "GET",
        }

    @staticmethod
    def initial_of(task: Task) -> dict[str, Any]:
        """An existing task's values."""
        zone = zoneinfo.ZoneInfo(task.timezone)
        values: dict[str, Any] = {name: getattr(task, name) for name in TASK_FIELDS}
        values |= {
            name: moment.astimezone(zone)
            for name in ("run_at", "start_at", "end_at")
            if (moment := getattr(task, name))
        }
        values |= {f"{CONFIG}{key}": value for key, value in task.executor_config.items()}
        values.setdefault("config_verify_tls", True)
        values.setdefault("config_method", "GET")
        return {
            **values,
            "enabled": task.is_enabled,
            "group_ids": list(task.groups.values_list("pk", flat=True)),
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        zone = zoneinfo.ZoneInfo(cleaned.get("timezone") or settings.TIME_ZONE)
        for name in ("run_at", "start_at", "end_at"):
            if cleaned.get(name):
                cleaned[name] = cleaned[name].replace(tzinfo=zone)
        return cleaned

    def data_for_actions(self) -> dict[str, Any]:
        """The cleaned form as tasks_app.actions wants it; fields of other schedules and executors are left out."""
        cleaned = self.cleaned_data
        data = {name: cleaned[name] for name in TASK_FIELDS}
        for name in ("cron_expr", "interval_seconds", "run_at"):
            if name not in SCHEDULE_KEYS[cleaned["schedule_type"]]:
                data[name] = "" if name == "cron_expr" else None
        keys = EXECUTOR_KEYS[ExecutorType(cleaned["executor_type"])]
        config = {key: cleaned[f"{CONFIG}{key}"] for key in keys}
        if config.get("verify_tls") is True:
            del config["verify_tls"]  # the default
        if isinstance(config.get("command"), str):
            config["command"] = config["command"].replace("\r\n", "\n")
        data["executor_config"] = config
        data["status"] = TaskStatus.ENABLED if cleaned["enabled"] else TaskStatus.DISABLED
        data["group_ids"] = [] if cleaned["is_global"] else cleaned["group_ids"]
        return data

    def take_errors(self, error: InvalidInput) -> None:
        """Show the errors of the actions at the fields that they are about."""
        for field, texts in error.errors.items():
            for text in texts:
                target = field
                if field == "executor_config":
                    named = KEY_OF_ERROR.match(str(text))
                    if named and f"{CONFIG}{named[1]}" in self.fields:
                        target, text = f"{CONFIG}{named[1]}", named[2]
                self.add_error(target if target in self.fields else None, str(text))


TASK_FIELDS = (
    "name", "description", "executor_type", "cron_expr", "timeout", "retry_count", "retry_interval", "concurrency",
    "is_global", "schedule_type", "timezone", "interval_seconds", "run_at", "start_at", "end_at",
    "misfire_policy", "misfire_grace", "concurrency_policy", "routing",
    "spread_seconds", "retry_max_interval", "labels", "selector", "offline_policy", "calendar_id", "calendar_mode",
)  # fmt: skip
