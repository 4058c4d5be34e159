"""The console's pages of users and roles."""

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as StockRoleAdmin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.models import Group, User
from django.utils.translation import gettext_lazy as _lazy

from .admin_base import ConsoleAdmin
from .admin_site import site


@admin.register(User, site=site)
class UserAdmin(ConsoleAdmin, StockUserAdmin):
    """Accounts. Only those with the model permission; a person's own settings are at the profile page."""

    section = "settings"
    icon = "users"
    nav_order = 10
    nav_label = _lazy("Users")
    list_display = ("username", "first_name", "last_name", "email", "is_superuser", "is_active", "last_login")
    list_filter = ("is_superuser", "is_active", "groups")


@admin.register(Group, site=site)
class RoleAdmin(ConsoleAdmin, StockRoleAdmin):
    """Django's groups of users: sets of permissions, called roles here because groups are of hosts."""

    section = "settings"
    icon = "shield"
    nav_order = 20
    nav_label = _lazy("Roles")
