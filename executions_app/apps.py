from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ExecutionsAppConfig(AppConfig):
    name = "executions_app"
    verbose_name = _("Executions")
    default_auto_field = "django.db.models.BigAutoField"
