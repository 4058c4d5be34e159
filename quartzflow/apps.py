from django.apps import AppConfig
from django.db.models.signals import post_migrate


class QuartzflowConfig(AppConfig):
    name = "quartzflow"
    verbose_name = "Quartz-Flow"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import audit_signals, declared_settings, roles, tokens  # noqa: F401 - models are not ready before

        tokens.connect()
        audit_signals.connect()
        post_migrate.connect(roles.create_roles, sender=self)
