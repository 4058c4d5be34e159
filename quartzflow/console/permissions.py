"""Choosing permissions: check boxes by kind of object, in words, instead of two long lists of code names."""

from __future__ import annotations

from typing import Any

from django import forms
from django.apps import apps
from django.contrib.auth.models import Permission
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

# The kinds of objects that the console has pages of; permissions on anything else would grant nothing.
APPS = ("tasks_app", "executions_app", "groups_app", "quartzflow", "auth")
# kind → the permissions that mean something there; None: all. Executions and hosts are made by the product itself.
SHOWN: dict[str, set[str] | None] = {
    "task": None,
    "calendar": None,
    "execution": {"view_execution"},
    "group": None,
    "client": {"view_client", "change_client", "delete_client"},
    "enrollmenttoken": None,
    "secret": None,
    "systemsetting": None,
    "auditentry": None,
    "user": None,
}


def standard_label(codename: str) -> str:
    """The words for Django's own four permissions; "" for others."""
    return {"view": _("View"), "add": _("Create"), "change": _("Change"), "delete": _("Delete")}.get(
        codename, ""
    )


def permission_choices() -> list[tuple[str, list[tuple[int, str]]]]:
    """(kind of object, [(id, words)]) in the order of APPS."""
    rows = (
        Permission.objects.filter(content_type__app_label__in=APPS)
        .select_related("content_type")
        .order_by("pk")
    )
    groups: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for row in rows:
        kind = row.content_type
        if kind.model not in SHOWN or row.codename not in (SHOWN[kind.model] or {row.codename}):
            continue
        model = apps.get_model(kind.app_label, kind.model)
        name = (
            _("Roles")
            if kind.app_label == "auth" and kind.model == "group"
            else model._meta.verbose_name_plural
        )
        action, _separator, rest = row.codename.partition("_")
        words = standard_label(action) if rest == kind.model else ""
        # The names of our own permissions are msgids: they were stored without a language.
        groups.setdefault((APPS.index(kind.app_label), str(capfirst(name))), []).append(
            (row.pk, words or _(row.name))
        )
    return [(name, choices) for (_order, name), choices in sorted(groups.items())]


class PermissionBoxes(forms.CheckboxSelectMultiple):
    """Check boxes in groups."""

    def _render(self, template_name: str, context: dict[str, Any], renderer: Any = None) -> SafeString:
        # Forms look for templates among Django's own only.
        return render_to_string("console/permissions.html", context)


class PermissionsField(forms.ModelMultipleChoiceField):
    """A set of permissions."""

    widget = PermissionBoxes

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            queryset=Permission.objects.filter(content_type__app_label__in=APPS), required=False, **kwargs
        )
        self.choices = permission_choices
