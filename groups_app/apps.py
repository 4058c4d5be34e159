from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class GroupsAppConfig(AppConfig):
    name = "groups_app"
    verbose_name = _("Groups and hosts")
    default_auto_field = "django.db.models.BigAutoField"
