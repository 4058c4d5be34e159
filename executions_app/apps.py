from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ExecutionsAppConfig(AppConfig):
    name = "executions_app"
    verbose_name = _("Executions")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from quartzflow import secrets

        from .alerts.channels import sealed_name
        from .models import AlertChannel
        from .reports import declared  # noqa: F401 - its settings

        # What a channel knows is rotated and tested with the named secrets.
        secrets.also(
            lambda: AlertChannel.objects.exclude(ciphertext=""), lambda channel: sealed_name(channel.pk)
        )
