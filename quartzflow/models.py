"""Models that belong to no single app."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
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


class AppendOnlyError(TypeError):
    """The audit trail is only ever added to."""


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Refuses what would change history."""

    def update(self, **kwargs: Any) -> int:
        raise AppendOnlyError("audit entries cannot be changed")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnlyError("audit entries cannot be deleted; retention is quartzflow.audit.forget")


class AuditEntry(models.Model):
    """One thing somebody did. Written by quartzflow.audit.record only."""

    at = models.DateTimeField(_("time"))
    actor_id = models.BigIntegerField(null=True)  # no constraint: the entry outlives the account
    actor_name = models.CharField(_("user"), max_length=150, blank=True)
    address = models.CharField(_("address"), max_length=64, blank=True)
    request_id = models.CharField(_("request"), max_length=64, blank=True)
    action = models.CharField(_("action"), max_length=64)
    object_type = models.CharField(_("kind of object"), max_length=64, blank=True)
    object_id = models.CharField(_("object id"), max_length=64, blank=True)
    object_name = models.CharField(_("object"), max_length=255, blank=True)
    changes = models.JSONField(_("changes"), default=dict)
    previous_hash = models.CharField(max_length=64, editable=False)
    hash = models.CharField(max_length=64, editable=False)

    objects = AuditQuerySet.as_manager()

    class Meta:
        db_table = "tb_audit_log"
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit log")
        ordering = ["-id"]
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["-at"], name="idx_audit_at"),  # time ranges
            models.Index(fields=["actor_name", "-id"], name="idx_audit_actor"),  # what one person did
            models.Index(
                fields=["object_type", "object_id", "-id"], name="idx_audit_object"
            ),  # an object's history
            models.Index(fields=["object_id", "-id"], name="idx_audit_object_id"),  # of whatever kind
            models.Index(fields=["action", "-id"], name="idx_audit_action"),
            models.Index(fields=["address", "-id"], name="idx_audit_address"),  # what came from there
            models.Index(fields=["request_id", "-id"], name="idx_audit_request"),  # what one request did
            # PostgreSQL: idx_audit_search, by quartzflow.audit_search
        ]

    def __str__(self) -> str:
        return f"{self.actor_name} {self.action} {self.object_name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError("audit entries cannot be changed")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnlyError("audit entries cannot be deleted")


class AuditHead(models.Model):
    """One row: where the chain of audit entries ends, and where what is kept of it begins."""

    hash = models.CharField(max_length=64)
    anchor = models.CharField(max_length=64, default="0" * 64)

    class Meta:
        db_table = "tb_audit_head"


class Secret(models.Model):
    """A named secret that tasks may use. quartzflow.secrets encrypts it, tasks_app.secret_actions writes it."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    description = models.CharField(_("description"), max_length=256, blank=True)
    ciphertext = models.TextField(editable=False)
    created_by = models.CharField(_("created by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    updated_by = models.CharField(_("changed by"), max_length=150, blank=True)
    updated_at = models.DateTimeField(_("changed at"), default=timezone.now)

    class Meta:
        db_table = "tb_secret"
        verbose_name = _("secret")
        verbose_name_plural = _("secrets")
        ordering = ["name"]
        default_permissions = ("view", "add", "change", "delete")
        permissions = [("use_secret", _("Use in tasks"))]

    def __str__(self) -> str:
        return self.name


class ApiToken(models.Model):
    """What people know of an API token; knox's row has its hash. Written by quartzflow.tokens."""

    token = models.OneToOneField("knox.AuthToken", on_delete=models.CASCADE, related_name="details")
    name = models.CharField(_("name"), max_length=64, blank=True)
    scopes = models.CharField(max_length=64)  # of quartzflow.tokens.Scope, separated by commas
    last_used_at = models.DateTimeField(_("last used"), null=True)
    last_used_from = models.CharField(_("address"), max_length=64, blank=True)

    class Meta:
        db_table = "tb_api_token"
        default_permissions = ()

    @property
    def scope_list(self) -> list[str]:
        return self.scopes.split(",")


class RoleGrant(models.Model):
    """A permission that a role out of the box has been given once (quartzflow.roles): it is not given again."""

    role = models.CharField(max_length=150)  # its name: what is remembered outlives the row
    permission = models.CharField(max_length=128)  # app.codename

    class Meta:
        db_table = "tb_role_grant"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["role", "permission"], name="uk_role_grant")]


class IdempotencyKey(models.Model):
    """A request that was done under a key of the caller's, and what was answered (quartzflow.api.idempotency)."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=128)
    fingerprint = models.CharField(max_length=64)
    status = models.SmallIntegerField()
    answer = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "tb_idempotency_key"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="uk_idempotency_key")]
        indexes = [models.Index(fields=["created_at"], name="idx_idempotency_created")]  # forgetting


class SystemSetting(models.Model):
    """The stored value of one system setting; without a row, its default is in force (quartzflow.system_settings)."""

    name = models.CharField(primary_key=True, max_length=64)
    value = models.JSONField()
    updated_at = models.DateTimeField(auto_now=True)
    updated_by = models.CharField(max_length=150, blank=True)

    class Meta:
        db_table = "tb_system_setting"
        verbose_name = _("system setting")
        verbose_name_plural = _("system settings")
        default_permissions = ("view", "change")
