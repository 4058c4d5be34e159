"""The filters of the console's list of executions."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from groups_app.selectors import clients_for
from quartzflow.console.base import who
from quartzflow.execution_status import LIVE, ExecutionStatus
from tasks_app.selectors import tasks_for

from ..selectors import since, span_of

MOST = 200  # tasks or hosts that one word may mean


class StatusFilter(admin.SimpleListFilter):
    title = _lazy("Status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("live", _("Waiting or running")),
            ("bad", _("Failed or timed out")),
            *((str(v), label) for v, label in ExecutionStatus.choices),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        value = self.value()
        if value == "live":
            return queryset.filter(status__in=LIVE)
        if value == "bad":
            return queryset.filter(status__in=(ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT))
        return queryset.filter(status=int(value)) if value and value.isdigit() else queryset


class TimeFilter(admin.SimpleListFilter):
    title = _lazy("Time")
    parameter_name = "time"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        span = request.GET.get("time", "")
        own = [(span, span.replace("..", " – ").replace("T", " "))] if span_of(span) else []
        return [
            ("hour", _("Last hour")),
            ("today", _("Today")),
            ("7", _("Last 7 days")),
            ("30", _("Last 30 days")),
            *own,
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if (span := span_of(self.value() or "")) is not None:
            return queryset.filter(scheduled_time__gte=span[0], scheduled_time__lt=span[1])
        starts = {
            "hour": lambda: timezone.now() - timedelta(hours=1),
            "today": lambda: since(1),
            "7": lambda: since(7),
            "30": lambda: since(30),
        }
        start = starts.get(self.value() or "")
        return queryset.filter(scheduled_time__gte=start()) if start else queryset


class NarrowFilter(admin.ListFilter):
    """Of a task, on a host, from one day to another: each where it is given. Days are whole, in the user's zone."""

    title = _lazy("Narrow down")
    template = "console/filter_narrow.html"
    names = ("task", "host", "from", "to")

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.request = request
        self.given: dict[str, str] = {}
        for name in self.names:
            found = params.pop(name, None)
            text = (found[-1] if isinstance(found, list) else found or "").strip()
            if text and (name in ("task", "host") or day_of(text)):
                self.given[name] = self.used_parameters[name] = text

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.names)

    def choices(self, changelist: Any) -> Any:
        others = {name: value for name, value in changelist.params.items() if name not in (*self.names, "p")}
        shown = [self.given.get(name, "") for name in ("task", "host")]
        if days := [self.given.get(name, "…") for name in ("from", "to") if {"from", "to"} & set(self.given)]:
            shown.append(" – ".join(days))
        yield {"given": self.given, "words": ", ".join(filter(None, shown)), "others": others}

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if name := self.given.get("task"):
            queryset = queryset.filter(task_id__in=_meant(tasks_for(who(self.request)), "name", name, "pk"))
        if name := self.given.get("host"):
            hosts = _meant(clients_for(who(self.request)), "client_id", name, "client_id")
            queryset = queryset.filter(client_id__in=hosts)
        if first := day_of(self.given.get("from", "")):
            queryset = queryset.filter(scheduled_time__gte=_midnight(first))
        if last := day_of(self.given.get("to", "")):
            queryset = queryset.filter(scheduled_time__lt=_midnight(last + timedelta(days=1)))
        return queryset


def day_of(text: str) -> date | None:
    """The day of `2026-01-31`; None for anything else."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _meant(rows: QuerySet, field: str, text: str, wanted: str) -> list[Any]:
    """What is called exactly so; else what has the text in its name."""
    plain = rows.order_by()
    exact = list(plain.filter(**{field: text}).values_list(wanted, flat=True)[:MOST])
    return exact or list(plain.filter(**{f"{field}__icontains": text}).values_list(wanted, flat=True)[:MOST])


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time_of_day()))
