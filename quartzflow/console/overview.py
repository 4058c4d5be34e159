"""The overview page's figures (FR-6.4)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from executions_app.overview import BAD, Ahead, Hour, ahead, hourly
from executions_app.reports import query, tables
from executions_app.reports.choices import Dimension
from executions_app.reports.drawing import Column, stacked
from executions_app.reports.figures import Figures
from executions_app.selectors import executions_for, stats
from groups_app.selectors import clients_for, live_bridges
from tasks_app.choices import TaskStatus
from tasks_app.selectors import tasks_for

from ..execution_status import ExecutionStatus
from ..lease import scheduler_alive
from .base import who

HOURS = 24
MINUTES = 60  # looked ahead
SHOWN = 6  # lines of a card
LISTED = 100  # tasks that an address names


def overview(request: HttpRequest) -> dict[str, Any]:
    """The page's context for this user: only what one may see is counted."""
    user = who(request)
    executions, tasks, clients = executions_for(user), tasks_for(user), clients_for(user)
    states = dict.fromkeys((True, False), 0)
    for online in clients.order_by().values_list("status", flat=True):
        states[bool(online)] += 1
    asked = query.asked(user, request.GET, "1")
    period, link = asked.period, query.links(asked.period)
    within = executions.filter(scheduled_time__gte=period.begin, scheduled_time__lt=period.end)
    figures = query.figures_for(user, period)
    return {
        "running": executions.filter(status=ExecutionStatus.RUNNING).count(),
        "pending": executions.filter(status=ExecutionStatus.PENDING).count(),
        "asked": asked,
        "ranges": [("1", _("Today")), ("7", _("Last 7 days")), ("30", _("Last 30 days"))],
        "in_range": _in_range(figures) if figures else stats(within),
        "p95": figures.p95 if figures else None,
        "too_many": figures is None,
        "links": {"all": link({}), "bad": link({"status": "bad"}), "success": link({"status": "3"})},
        "hosts_online": states[True],
        "hosts_total": sum(states.values()),
        "tasks_enabled": tasks.filter(status=TaskStatus.ENABLED).count(),
        "tasks_total": tasks.count(),
        "scheduler_alive": scheduler_alive(),
        "bridges": len(live_bridges()),
        **_trend(figures, asked, link, hourly(executions, HOURS) if asked.range == "1" else []),
        **(_cards(figures, link) if figures else {}),
        **_timeline(ahead(tasks, MINUTES, SHOWN)),
        "latest": list(executions.order_by("-id")[:8]),
        "failures": list(within.filter(status__in=BAD).order_by("-scheduled_time", "-id")[:SHOWN]),
    }


def _in_range(figures: Figures) -> dict[str, Any]:
    """As executions_app.selectors.stats has it."""
    total = figures.total
    return {
        "total_count": total.total,
        "success_count": total.success,
        "failure_count": total.failure,
        "timeout_count": total.timeout,
        "success_rate": total.rate,
        "avg_duration": total.mean,
    }


def _trend(
    figures: Figures | None, asked: query.Asked, link: tables.Links, hours: list[Hour]
) -> dict[str, Any]:
    """The chart: the last hours of today, else days, weeks or months."""
    if asked.range == "1":
        return {"hours": hours, "chart": _of_hours(hours)}
    if figures is None:
        return {"chart": None}
    found = tables.days(figures, asked.by, link)
    folds = [("day", _("By day")), ("week", _("By week")), ("month", _("By month"))]
    return {"trend": found, "folds": folds, "chart": tables.trend(found, asked.by)}


def _of_hours(hours: list[Hour]) -> dict[str, Any]:
    page = reverse("admin:executions_app_execution_changelist")
    columns = []
    for hour in hours:
        begin, end = (timezone.localtime(hour.start + timedelta(hours=more)) for more in (0, 1))
        span = f"{begin:%Y-%m-%dT%H:%M}..{end:%Y-%m-%dT%H:%M}"
        columns.append(Column(f"{begin:%m-%d %H:%M}", f"{begin:%H:%M}", hour, f"{page}?time={span}"))
    return stacked(columns)


def _cards(figures: Figures, link: tables.Links) -> dict[str, Any]:
    return {
        "rates": [
            tables.table(figures, name, SHOWN, link)
            for name in (Dimension.TASK, Dimension.GROUP, Dimension.HOST)
        ],
        "reasons": tables.reasons(figures, link)[:SHOWN],
        "failing": tables.failing(figures, link)[:SHOWN],
    }


def _timeline(found: Ahead) -> dict[str, Any]:
    """The next hour, minute by minute; a minute leads to its tasks, or to its only one."""
    columns = []
    for minute in found.minutes:
        at = timezone.localtime(minute.start)
        names = ", ".join(task.name for task in minute.tasks[:5]) + (" …" if minute.total > 5 else "")
        numbers = ",".join(str(task.pk) for task in minute.tasks[:LISTED])
        url = f"{reverse('admin:tasks_app_task_changelist')}?id__in={numbers}"
        if minute.total == 1:
            url = reverse("admin:tasks_app_task_detail", args=[minute.tasks[0].pk])
        columns.append(Column(f"{at:%H:%M} {names}", f"{at:%H:%M}", minute, url))
    return {
        "upcoming": found.first,
        "ahead": stacked(columns),
        "ahead_until": None if found.whole else found.until,
    }
