"""Models that belong to no single app."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Lease(models.Model):
    """Who may act alone for a while. The token only grows: whoever holds an older one is fenced off."""

    name = models.CharField(primary_key=True, max_length=64)
    holder = models.CharField(max_length=128, blank=True)
    token = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "tb_lease"


class UserPreference(models.Model):
    """How one user likes the console."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="preference"
    )
    language = models.CharField(_("language"), max_length=16, blank=True)
    timezone = models.CharField(_("time zone"), max_length=64, blank=True)
    theme = models.CharField(_("theme"), max_length=8, blank=True)
    shortcuts = models.BooleanField(_("keyboard shortcuts"), default=True)
    columns = models.JSONField(_("list columns"), default=dict, blank=True)

    class Meta:
        db_table = "tb_user_preference"
        verbose_name = _("user preference")
        verbose_name_plural = _("user preferences")
