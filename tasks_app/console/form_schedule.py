"""The part of the task form that says when it fires: by a schedule, and after other tasks."""

from __future__ import annotations

import zoneinfo
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _lazy

from ..choices import CalendarMode, DependencyMode, MisfirePolicy, ScheduleType
from ..models import Task
from .fields import CODE, Dependencies, ExplainedChoice, WallClock, number

# schedule → the fields that it needs
SCHEDULE_KEYS: dict[str, tuple[str, ...]] = {
    ScheduleType.CRON: ("cron_expr",),
    ScheduleType.FIXED_RATE: ("interval_seconds",),
    ScheduleType.FIXED_DELAY: ("interval_seconds",),
    ScheduleType.ONCE: ("run_at",),
    ScheduleType.NONE: (),
}
MOMENTS = ("run_at", "start_at", "end_at")


class ScheduleForm(forms.Form):
    """The fields of a schedule; its times are meant in the task's zone."""

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
    misfire_policy = ExplainedChoice(
        label=_lazy("When missed"), choices=MisfirePolicy.choices,
        help_text=_lazy("What to do about times that passed while the scheduler was down."),
        explanations={
            MisfirePolicy.FIRE_ONCE: _lazy("However many were missed: it runs once, for the latest of them."),
            MisfirePolicy.SKIP: _lazy("It waits for its next time; what was missed stays missed."),
            MisfirePolicy.FIRE_ALL: _lazy("It runs once for every missed time, the oldest first."),
        },
    )  # fmt: skip
    misfire_grace = number(
        _lazy("Grace time"), 1, 30 * 86400, _lazy("Later than this, a missed time is given up.")
    )

    dependencies = Dependencies(
        label=_lazy("Runs after"),
        help_text=_lazy("It runs when these tasks' runs have ended so, besides the times of its schedule."),
    )
    dependency_mode = ExplainedChoice(
        label=_lazy("Of several tasks"), choices=DependencyMode.choices,
        explanations={
            DependencyMode.ALL: _lazy("It runs once, when the latest run of each has ended as asked."),
            DependencyMode.ANY: _lazy("It runs each time that one of them has ended as asked."),
        },
    )  # fmt: skip

    @staticmethod
    def moments_of(task: Task) -> dict[str, Any]:
        """An existing task's times, in its zone."""
        zone = zoneinfo.ZoneInfo(task.timezone)
        return {name: moment.astimezone(zone) for name in MOMENTS if (moment := getattr(task, name))}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        zone = zoneinfo.ZoneInfo(cleaned.get("timezone") or settings.TIME_ZONE)
        for name in MOMENTS:
            if cleaned.get(name):
                cleaned[name] = cleaned[name].replace(tzinfo=zone)
        return cleaned

    def leave_out_others(self, data: dict[str, Any]) -> None:
        """Empty what belongs to other kinds of schedule."""
        for name in ("cron_expr", "interval_seconds", "run_at"):
            if name not in SCHEDULE_KEYS[self.cleaned_data["schedule_type"]]:
                data[name] = "" if name == "cron_expr" else None
