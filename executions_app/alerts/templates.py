"""Titles and texts of messages. Names in double braces, of a fixed list; there are no expressions."""

import re
from collections.abc import Callable
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from ..choices import FailureReason
from .choices import Kind
from .models import Alert, AlertRule

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
MAX_TITLE = 200  # characters
MAX_BODY = 4000
MAX_VALUE = 500


def _reason(alert: Alert) -> Any:
    return dict(FailureReason.choices).get(alert.reason, alert.reason)


VALUES: dict[str, Callable[[Alert], Any]] = {
    "rule.name": lambda alert: alert.rule.name,
    "alert.id": lambda alert: alert.pk,
    "alert.kind": lambda alert: alert.get_kind_display(),
    "alert.severity": lambda alert: alert.get_severity_display(),
    "alert.count": lambda alert: alert.count,
    "alert.seconds": lambda alert: f"{alert.seconds:g}",
    "alert.first": lambda alert: _moment(alert.first_at),
    "alert.last": lambda alert: _moment(alert.last_at),
    "task.id": lambda alert: alert.task_id or "",
    "task.name": lambda alert: alert.task_name,
    "host.id": lambda alert: alert.client_id,
    "execution.id": lambda alert: alert.execution or "",
    "execution.reason": _reason,
}


def _moment(at: Any) -> str:
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S %Z}"


def check(text: str) -> str | None:
    """What is wrong with a template, in words; None: nothing."""
    unknown = sorted({name for name in _PLACEHOLDER.findall(text) if name not in VALUES})
    if unknown:
        return _("Unknown: %(names)s. There are: %(known)s.") % {
            "names": ", ".join(unknown),
            "known": ", ".join(VALUES),
        }
    return None


def fill(text: str, alert: Alert) -> str:
    """The template with its values put in, in one pass: what is put in is never read for placeholders."""
    return _PLACEHOLDER.sub(lambda found: str(VALUES[found.group(1)](alert))[:MAX_VALUE], text)


def message(alert: Alert, language: str, *, escalated: bool = False) -> tuple[str, str]:
    """Title and text, in the channel's language."""
    with override(language):
        title = fill(alert.rule.title, alert) if alert.rule.title else _title(alert)
        if escalated:
            title = _("Escalated: %(title)s") % {"title": title}
        return title[:300], fill(alert.rule.body, alert) if alert.rule.body else _body(alert)


def preview(rule: AlertRule, task_name: str, language: str) -> tuple[str, str]:
    """The message that a rule's first alert would be, with examples for what only an alert knows. Nothing is stored."""
    of_host, without_host = rule.kind == Kind.AGENT_OFFLINE, rule.kind in _WITHOUT_HOST
    now = timezone.now()
    alert = Alert(
        pk=1,
        rule=rule,
        kind=rule.kind,
        severity=rule.severity,
        task_id=None if of_host else 1,
        task_name="" if of_host else task_name,
        client_id="" if without_host else "web-1",
        execution=None if of_host or rule.kind == Kind.MISSED_FIRING else 1001,
        reason=_REASONS.get(rule.kind, ""),
        seconds=rule.threshold,
        count=1,
        first_at=now,
        last_at=now,
    )
    return message(alert, language)


_WITHOUT_HOST = (Kind.MISSED_FIRING, Kind.NO_ONLINE_CLIENT)
_REASONS: dict[str, str] = {
    Kind.FAILURE: FailureReason.EXIT_CODE.value,
    Kind.CONSECUTIVE: FailureReason.EXIT_CODE.value,
    Kind.TIMEOUT: FailureReason.TIMEOUT.value,
    Kind.NO_ONLINE_CLIENT: FailureReason.NO_ONLINE_CLIENT.value,
}


def _title(alert: Alert) -> str:
    subject = alert.task_name or alert.client_id
    return f"[{alert.get_severity_display()}] {alert.get_kind_display()}: {subject}"


def _body(alert: Alert) -> str:
    lines = [(_("Rule"), alert.rule.name)]
    if alert.task_name:
        lines.append((_("Task"), alert.task_name))
    if alert.client_id:
        lines.append((_("Host"), alert.client_id))
    if alert.reason:
        lines.append((_("Reason"), str(_reason(alert))))
    if alert.kind in (Kind.LATE_START, Kind.AGENT_OFFLINE):
        lines.append((_("Seconds"), f"{alert.seconds:g}"))
    lines += [(_("Events"), str(alert.count)), (_("Last"), _moment(alert.last_at))]
    return "\n".join(f"{label}: {value}" for label, value in lines)
