"""Groups, clients (hosts) and how they get in (PRD §5.2, FR-3)."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from .choices import ClientApproval, ClientKind, ClientStatus, NameSyntax


class Group(models.Model):
    """A logical set of hosts; tasks are bound to groups."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    description = models.CharField(_("description"), max_length=256, blank=True)
    tags = models.CharField(_("tags"), max_length=256, blank=True, help_text=_("Separated by commas."))
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        db_table = "tb_group"
        verbose_name = _("group")
        verbose_name_plural = _("groups")
        ordering = ["name"]
        permissions = [("manage_hosts", _("Can move hosts in and out of the group"))]

    def __str__(self) -> str:
        return self.name

    @property
    def tag_list(self) -> list[str]:
        return [tag.strip() for tag in self.tags.split(",") if tag.strip()]


class Bridge(models.Model):
    """A running quic_bridge process; it is alive while its lease has not expired."""

    bridge_id = models.CharField(max_length=128, unique=True)
    endpoint = models.CharField(max_length=255, blank=True, help_text="HOST:PORT that agents reach it by")
    started_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "tb_bridge"

    def __str__(self) -> str:
        return self.bridge_id


class Client(models.Model):
    """A host's agent. It owns its client id from its first registration on."""

    client_id = models.CharField(_("client id"), max_length=64, unique=True)
    group = models.ForeignKey(
        Group,
        verbose_name=_("group"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="clients",
    )
    hostname = models.CharField(_("host name"), max_length=128, blank=True)
    ip = models.CharField(_("address"), max_length=64, blank=True)
    task_version = models.BigIntegerField(
        _("configuration version"), default=0, help_text=_("The configuration version the agent has applied.")
    )
    last_heartbeat = models.DateTimeField(_("last heartbeat"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    kind = models.CharField(_("kind"), max_length=8, choices=ClientKind, default=ClientKind.AGENT)
    status = models.SmallIntegerField(_("status"), choices=ClientStatus, default=ClientStatus.OFFLINE)
    approval = models.CharField(
        _("approval"), max_length=8, choices=ClientApproval, default=ClientApproval.APPROVED
    )
    version = models.CharField(_("agent version"), max_length=32, blank=True)
    os = models.CharField(_("operating system"), max_length=64, blank=True)
    arch = models.CharField(_("architecture"), max_length=32, blank=True)
    labels = models.JSONField(_("labels"), default=dict, blank=True)
    credential_hash = models.CharField(
        max_length=64, blank=True, editable=False
    )  # SHA-256 of 256 random bits
    # A rotation is under way: the credential that takes the place of the above once it has been used.
    credential_rotating = models.BooleanField(default=False, editable=False)
    credential_next_hash = models.CharField(max_length=64, blank=True, editable=False)
    # The source address that a quic-flow client, which has no credential, was approved at.
    approved_ip = models.CharField(_("approved address"), max_length=64, blank=True, editable=False)
    bridge_id = models.CharField(max_length=128, blank=True, editable=False)
    # One connection of the client; whoever reports for an older one is not listened to any more.
    session_id = models.CharField(max_length=36, blank=True, editable=False)
    connected_at = models.DateTimeField(_("connected at"), null=True, blank=True)
    running = models.IntegerField(_("running executions"), default=0)
    clock_offset_ms = models.IntegerField(_("clock offset"), null=True, blank=True)
    push_error = models.CharField(_("last push failure"), max_length=255, blank=True)
    push_error_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "tb_client"
        verbose_name = _("host")
        verbose_name_plural = _("hosts")
        ordering = ["client_id"]
        indexes = [
            # Targets of a firing: the online clients of some groups.
            models.Index(fields=["group", "status"], name="idx_client_group_status"),
            # The clients of one bridge: its sweep, and what becomes offline with it.
            models.Index(fields=["bridge_id", "status"], name="idx_client_bridge_status"),
        ]

    def __str__(self) -> str:
        return self.client_id

    @property
    def is_online(self) -> bool:
        return self.status == ClientStatus.ONLINE


class AssignmentRule(models.Model):
    """Puts hosts that join into a group; the first that fits decides. Written by groups_app.rule_actions."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    position = models.PositiveIntegerField(default=0, editable=False)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    # All of those that are given must be met.
    hostname = models.CharField(_("host name"), max_length=256, blank=True)
    hostname_syntax = models.CharField(
        _("pattern"), max_length=8, choices=NameSyntax, default=NameSyntax.GLOB
    )
    cidr = models.CharField(_("networks"), max_length=2000, blank=True)
    labels = models.JSONField(_("labels"), default=dict, blank=True)
    # A group that rules name cannot be deleted.
    group = models.ForeignKey(
        Group, verbose_name=_("group"), on_delete=models.PROTECT, related_name="assignment_rules"
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        db_table = "tb_assignment_rule"
        verbose_name = _("assignment rule")
        verbose_name_plural = _("assignment rules")
        ordering = ["position", "id"]
        default_permissions = ()  # groups_app.manage_hosts on all groups is the right to rules

    def __str__(self) -> str:
        return self.name


class EnrollmentToken(models.Model):
    """What lets a new agent in: hashed, expiring, limited in uses, revocable.

    With a group, hosts come into that one. Without, into that of the first assignment rule that fits, else into the
    one that the host wishes for where the token allows wishes, else into none.
    """

    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(_("begins with"), max_length=12, editable=False)
    note = models.CharField(_("note"), max_length=128, blank=True)
    group = models.ForeignKey(
        Group,
        verbose_name=_("group"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="enrollment_tokens",
    )
    allow_wish = models.BooleanField(_("the host may choose"), default=False)
    max_uses = models.PositiveIntegerField(_("uses allowed"), default=1)
    uses = models.PositiveIntegerField(_("uses"), default=0)
    expires_at = models.DateTimeField(_("expires at"))
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("created by"), null=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        db_table = "tb_enrollment_token"
        verbose_name = _("enrollment token")
        verbose_name_plural = _("enrollment tokens")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.prefix}…"
