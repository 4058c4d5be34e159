"""Tags and filters of the console's templates."""

import json
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from quartzflow.durations import milliseconds

ICON_SPRITE = "vendor/lucide-1.62.0/icons.svg"
MESSAGE_ICONS = {"success": "circle-check", "error": "circle-alert", "warning": "triangle-alert"}

register = template.Library()
register.filter(milliseconds)


@register.simple_tag
@lru_cache(maxsize=1000)  # a page of fifty rows has hundreds of them
def icon(name: str, css: str = "") -> SafeString:
    """An icon of the sprite, for decoration only: a control with no text needs an aria-label of its own."""
    url = static(ICON_SPRITE)
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        css,
        url,
        name,
    )


@register.simple_tag
def icon_sprite_url() -> str:
    """Where scripts find the sprite."""
    return static(ICON_SPRITE)


@register.filter
def message_icon(level_tag: str) -> str:
    return MESSAGE_ICONS.get(level_tag, "info")


@register.filter
def value_text(value: Any) -> str:
    """A value of a field as people read it: texts as they are, nothing as a dash, anything else as JSON."""
    if isinstance(value, str):
        return value or "—"
    return "—" if value is None else json.dumps(value, ensure_ascii=False)


@register.filter
def as_json(value: Any) -> str:
    """For a data-* attribute that a script reads; the template escapes it."""
    return json.dumps(value, ensure_ascii=False)


@register.simple_tag
def moment(value: datetime | None, style: str = "full") -> SafeString:
    """A time in the user's zone.

    `style`: full (date and time), two (the same on two lines) or ago (how long ago; a script keeps it true).
    """
    if value is None:
        return format_html('<span class="muted">{}</span>', "—")
    local = timezone.localtime(value)
    full = local.strftime("%Y-%m-%d %H:%M:%S")
    text: str = ago(timezone.now() - value) if style == "ago" else full
    if style == "two":
        text = format_html('{}<span class="cell-sub">{}</span>', full[11:], full[:10])
    return format_html(
        '<time datetime="{}" data-time="{}" title="{} {}">{}</time>',
        value.isoformat(),
        style,
        full,
        local.tzname(),
        text,
    )


def ago(delta: timedelta) -> str:
    """How long ago (or ahead), in the largest fitting unit."""
    seconds = round(delta.total_seconds())
    if abs(seconds) < 5:
        return _("just now")
    for size, past, ahead in _units(abs(seconds)):
        if abs(seconds) >= size:
            return past if seconds > 0 else ahead
    raise AssertionError("the last unit is one second")


def _units(seconds: int) -> list[tuple[int, str, str]]:
    days, hours, minutes = seconds // 86400, seconds // 3600, seconds // 60
    return [
        (
            86400,
            ngettext("%d day ago", "%d days ago", days) % days,
            ngettext("in %d day", "in %d days", days) % days,
        ),
        (
            3600,
            ngettext("%d hour ago", "%d hours ago", hours) % hours,
            ngettext("in %d hour", "in %d hours", hours) % hours,
        ),
        (
            60,
            ngettext("%d minute ago", "%d minutes ago", minutes) % minutes,
            ngettext("in %d minute", "in %d minutes", minutes) % minutes,
        ),
        (
            1,
            ngettext("%d second ago", "%d seconds ago", seconds) % seconds,
            ngettext("in %d second", "in %d seconds", seconds) % seconds,
        ),
    ]


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: Any) -> str:
    """The page's query string with some parameters changed; None takes one out."""
    params = context["request"].GET.copy()
    for name, value in changes.items():
        if value is None:
            params.pop(name, None)
        else:
            params[name] = str(value)
    return f"?{params.urlencode()}"
