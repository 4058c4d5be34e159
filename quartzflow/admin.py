"""The console's pages of users and roles; the audit log's is in console.audit, the settings' in console.settings."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as StockRoleAdmin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, UserCreationForm
from django.contrib.auth.models import Group, User
from django.db.models import Field
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _lazy

from .console.audit import AuditAdmin
from .console.base import ConsoleAdmin
from .console.permissions import PermissionsField
from .console.secrets import SecretAdmin
from .console.settings import SystemSettingAdmin
from .console.site import site

__all__ = ["AuditAdmin", "RoleAdmin", "SecretAdmin", "SystemSettingAdmin", "UserAdmin"]


class PasswordForm(AdminPasswordChangeForm):
    """A new password for somebody. Accounts without a password are nothing that the console makes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("usable_password", None)
        for name in ("password1", "password2"):
            self.fields[name].required = True


class RoleFilter(admin.RelatedFieldListFilter):
    """Django's groups are roles here: groups are of hosts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = _lazy("Roles")


@admin.register(User, site=site)
class UserAdmin(ConsoleAdmin, StockUserAdmin):
    """Accounts. Only those with the model permission; a person's own settings are at the profile page."""

    section = "settings"
    icon = "users"
    nav_order = 10
    nav_label = _lazy("Users")
    add_title = _lazy("New user")
    list_display = ("username", "first_name", "last_name", "email", "is_superuser", "is_active", "last_login")
    list_filter = ("is_superuser", "is_active", ("groups", RoleFilter))
    filter_horizontal = ()
    add_form = UserCreationForm
    change_password_form = PasswordForm
    add_fieldsets = ((None, {"fields": ("username", "password1", "password2")}),)
    readonly_fields = ("last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_lazy("Person"), {"fields": ("first_name", "last_name", "email")}),
        (
            _lazy("Rights"),
            {
                "fields": ("is_active", "is_superuser", "groups", "user_permissions"),
                "description": _lazy("Roles and permissions hold for all objects of a kind."),
            },
        ),
        (_lazy("Dates"), {"fields": ("last_login", "date_joined")}),
    )

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "groups":
            boxes = forms.CheckboxSelectMultiple
            roles = Group.objects.order_by("name")
            return forms.ModelMultipleChoiceField(roles, label=_lazy("Roles"), required=False, widget=boxes)
        if db_field.name == "user_permissions":
            return PermissionsField(label=_lazy("Permissions of their own"))
        return super().formfield_for_dbfield(db_field, request, **kwargs)


@admin.register(Group, site=site)
class RoleAdmin(ConsoleAdmin, StockRoleAdmin):
    """Django's groups of users: sets of permissions, called roles here because groups are of hosts."""

    section = "settings"
    icon = "shield"
    nav_order = 20
    nav_label = _lazy("Roles")
    list_display = ("name",)
    add_title = _lazy("New role")
    filter_horizontal = ()
    empty_icon = "shield"
    empty_title = _lazy("No roles yet")
    empty_text = _lazy("A role is a set of permissions that many users can have.")

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "permissions":
            return PermissionsField(label=_lazy("Permissions"))
        return super().formfield_for_dbfield(db_field, request, **kwargs)
