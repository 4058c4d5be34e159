from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class QuicBridgeConfig(AppConfig):
    name = "quic_bridge"
    verbose_name = _("QUIC bridge")
