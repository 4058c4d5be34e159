"""The console's page of system settings (FR-6.5): one form, made from what is registered."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from executions_app.kept import what_is_kept

from .. import system_settings
from ..errors import InvalidInput
from ..models import SystemSetting
from ..system_settings import SECTIONS, Setting, State
from .base import ConsoleAdmin, who
from .site import site


class LinesField(forms.CharField):
    """A text a line."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]


def field_of(setting: Setting[Any]) -> forms.Field:
    """The form's field; system_settings checks what is typed into it."""
    common: dict[str, Any] = {"label": setting.label, "required": False, "help_text": help_of(setting)}
    if setting.choices:
        return forms.TypedChoiceField(
            choices=[(str(value), words) for value, words in setting.choices],
            coerce=lambda text: next(value for value, _w in setting.choices if str(value) == text),
            **common,
        )
    if setting.kind is bool:
        return forms.BooleanField(**common)
    if setting.kind is int:
        return forms.IntegerField(**common)
    if setting.kind is float:
        return forms.FloatField(**common)
    if setting.kind is list:
        return LinesField(**common, widget=forms.Textarea(attrs={"rows": 4, "class": "mono"}))
    return forms.CharField(**common)


def help_of(setting: Setting[Any]) -> str:
    """The explanation, and the default, which an empty field goes back to."""
    default = setting.default_value
    if isinstance(default, list):
        default = ", ".join(default)
    elif setting.choices:
        default = next((words for value, words in setting.choices if value == default), default)
    if setting.kind is bool or default == "":
        return str(setting.help)
    words = _("Default: %(value)s.") % {"value": default}
    return f"{setting.help} {words}".strip()


class SettingsForm(forms.Form):
    """All settings. An empty field stands for the default."""

    def __init__(self, states: list[State], data: Any = None) -> None:
        super().__init__(data, initial={state.setting.name: state.value for state in states})
        for state in states:
            self.fields[state.setting.name] = field_of(state.setting)
        self.states = states

    def changes(self) -> dict[str, Any]:
        """What differs from how the settings stand, as do_change_settings takes it."""
        changes: dict[str, Any] = {}
        for state in self.states:
            value = self.cleaned_data[state.setting.name]
            if value in (None, "", []):
                if state.changed and state.value not in ("", []):
                    changes[state.setting.name] = None
            elif value != state.value:
                changes[state.setting.name] = value
        return changes

    def sections(self) -> list[dict[str, Any]]:
        """For the template: the fields by section."""
        found: dict[str, list[dict[str, Any]]] = {}
        for state in self.states:
            setting = state.setting
            row = {
                "field": self[setting.name],
                "unit": setting.unit,
                "check": setting.kind is bool,
                "size": "" if setting.kind in (list, str) else "half",
            }
            found.setdefault(setting.section, []).append(row)
        return [{"key": key, "label": SECTIONS[key], "rows": rows} for key, rows in found.items()]


@admin.register(SystemSetting, site=site)
class SystemSettingAdmin(ConsoleAdmin):
    """Its list is the form."""

    section = "settings"
    icon = "settings"
    nav_order = 40
    nav_label = _lazy("System configuration")

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        user = who(request)
        return user.has_perm("quartzflow.view_systemsetting") or system_settings.may_change(user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return system_settings.may_change(who(request))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        user = who(request)
        may_change = system_settings.may_change(user)
        if not self.has_view_permission(request) or (request.method == "POST" and not may_change):
            raise PermissionDenied
        states = system_settings.states(user)
        form = SettingsForm(states, request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                changed = system_settings.do_change_settings(user, form.changes())
            except InvalidInput as error:
                for field, texts in error.errors.items():
                    form.add_error(field if field in form.fields else None, [str(text) for text in texts])
            else:
                messages.success(
                    request, _("The settings are saved.") if changed else _("Nothing was changed.")
                )
                return redirect("admin:quartzflow_systemsetting_changelist")
        for field_ in form.fields.values():
            field_.disabled = not may_change
        newest = max((s for s in states if s.updated_at), key=lambda s: s.updated_at, default=None)  # type: ignore[arg-type, return-value]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.nav_label,
            "form": form,
            "may_change": may_change,
            "newest": newest,
            "kept": what_is_kept(),
        }
        return TemplateResponse(request, "console/settings.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return redirect("admin:quartzflow_systemsetting_changelist")  # all of them are on one page
