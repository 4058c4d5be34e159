"""The overview page's figures (FR-6.4)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from executions_app.overview import BAD, Hour, hourly, upcoming
from executions_app.selectors import executions_for, since, stats
from groups_app.selectors import clients_for, live_bridges
from tasks_app.choices import TaskStatus
from tasks_app.selectors import tasks_for

from .admin_base import who
from .execution_status import ExecutionStatus
from .lease import scheduler_alive

HOURS = 24
RANGES = ("1", "7", "30")  # days that one can choose, today included
CHART_HEIGHT = 132  # units of the drawing
CHART_STEP = 30
CHART_BAR = 18


def overview(request: HttpRequest) -> dict[str, Any]:
    """The page's context for this user: only what one may see is counted."""
    user = who(request)
    executions, tasks, clients = (
        executions_for(user),
        tasks_for(user),
        clients_for(user),
    )
    states = dict.fromkeys((True, False), 0)
    for online in clients.order_by().values_list("status", flat=True):
        states[bool(online)] += 1
    hours = hourly(executions, HOURS)
    chosen = request.GET.get("days", "")
    days = int(chosen) if chosen in RANGES else 1
    return {
        "running": executions.filter(status=ExecutionStatus.RUNNING).count(),
        "pending": executions.filter(status=ExecutionStatus.PENDING).count(),
        "days": days,
        "ranges": [
            (1, _("Today")),
            (7, _("Last 7 days")),
            (30, _("Last 30 days")),
        ],
        "in_range": stats(executions.filter(scheduled_time__gte=since(days))),
        "range_query": "today" if days == 1 else str(days),  # of the list of executions
        "hosts_online": states[True],
        "hosts_total": sum(states.values()),
        "tasks_enabled": tasks.filter(status=TaskStatus.ENABLED).count(),
        "tasks_total": tasks.count(),
        "scheduler_alive": scheduler_alive(),
        "bridges": len(live_bridges()),
        "chart": chart(hours),
        "hours": hours,
        "upcoming": upcoming(tasks, timedelta(hours=1), 8),
        "latest": list(executions.order_by("-id")[:8]),
        "failures": list(executions.filter(status__in=BAD, scheduled_time__gte=since(7)).order_by("-id")[:8]),
    }


def chart(hours: list[Hour]) -> dict[str, Any]:
    """Bars for the drawing of the last hours: rectangles in its own units, stacked from the bottom."""
    top = max((hour.total for hour in hours), default=0) or 1
    bars = []
    for index, hour in enumerate(hours):
        y = float(CHART_HEIGHT)
        parts = []
        for kind in ("success", "other", "bad"):
            count = getattr(hour, kind)
            height = round(CHART_HEIGHT * count / top, 2)
            # A single failure among thousands must still be seen.
            height = max(height, 2.0) if count else 0.0
            y -= height
            if count:
                parts.append({"kind": kind, "y": round(y, 2), "height": height})
        bars.append(
            {
                "x": index * CHART_STEP + (CHART_STEP - CHART_BAR) // 2,
                "hour": hour,
                "parts": parts,
                "label": index % 3 == 2,
            }
        )
    return {
        "bars": bars,
        "width": len(hours) * CHART_STEP,
        "height": CHART_HEIGHT,
        "bar": CHART_BAR,
        "top": max((hour.total for hour in hours), default=0),
        "now": timezone.now(),
    }
