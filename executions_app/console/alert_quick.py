"""What the pages of tasks, groups and alerts have of the alerts' setup: which rules apply, and silence by one click."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from groups_app.models import Group
from quartzflow.permissions import User
from tasks_app.models import Task

from ..alerts import selectors
from ..alerts.choices import AlertState

HOURS = (1, 4, 24, 168)  # of the windows that are made with one click


def hours_in_words(hours: int) -> str:
    if hours % 24:
        return ngettext("%(count)s hour", "%(count)s hours", hours) % {"count": hours}
    days = hours // 24
    return ngettext("%(count)s day", "%(count)s days", days) % {"count": days}


def quick_items(kind: str, pk: int) -> list[dict[str, Any]]:
    """Menu items that silence a task or a group (`kind`) for a while."""
    return [
        {
            "label": _("Silence for %(time)s") % {"time": hours_in_words(hours)},
            "icon": "circle-pause",
            "post": reverse("admin:executions_app_alertsilence_quick", args=[kind, pk, hours]),
        }
        for hours in HOURS
    ]


def alerts_part(user: User, subject: Task | Group) -> dict[str, Any] | None:
    """For console/alerts_card.html: what is set up for a task or a group; None: nothing that the user may see."""
    may_add = user.has_perm("executions_app.add_alertrule")
    may_silence = user.has_perm("executions_app.add_alertsilence")
    rules = selectors.rules_about(user, subject)
    if not (may_add or may_silence or rules or user.has_perm("executions_app.view_alertrule")):
        return None
    kind = "task" if isinstance(subject, Task) else "group"
    open_count = 0
    if isinstance(subject, Task):
        alerts = selectors.alerts_for(user).filter(task_id=subject.pk)
        open_count = alerts.exclude(state=AlertState.RESOLVED).count()
    return {
        "rules": rules,
        "silences": selectors.silences_about(user, subject),
        "open_count": open_count,
        "add_url": f"{reverse('admin:executions_app_alertrule_add')}?{kind}={subject.pk}" if may_add else "",
        "menu": quick_items(kind, subject.pk) if may_silence else [],
        "name": subject.name,
    }
