"""What a client (a host's agent) can be."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class ClientKind(models.TextChoices):
    AGENT = "agent", _("Agent")
    LEGACY = "legacy", _("quic-flow client")


class ClientStatus(models.IntegerChoices):
    """Whether a session with the client is open now."""

    OFFLINE = 0, _("Offline")
    ONLINE = 1, _("Online")


class NameSyntax(models.TextChoices):
    """How a rule's pattern of host names is read."""

    GLOB = "glob", _("Wildcards")
    REGEX = "regex", _("Regular expression")


class ClientApproval(models.TextChoices):
    """Whether the client may get work at all."""

    PENDING = "pending", _("Awaiting approval")
    APPROVED = "approved", _("Approved")
    REVOKED = "revoked", _("Revoked")
