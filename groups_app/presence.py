"""Registration, heartbeats and what happens when clients or bridges go (FR-2, PRD §6.1). The bridge calls this."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from quartzflow_agent.protocol.constants import OLDEST_PROTOCOL, PROTOCOL_VERSION
from quartzflow_agent.protocol.text import spoken

from quartzflow.audit import record
from quartzflow.bulk import update_from_values

from .choices import ClientApproval, ClientKind, ClientStatus
from .models import Bridge, Client, EnrollmentToken, Group
from .rules import Host, first_match, rules_in_order
from .secrets import CREDENTIAL_PREFIX, new_token, token_hash, token_matches

log = structlog.get_logger(__name__)

CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
MAX_LABELS = 64


@dataclass(frozen=True)
class RegisterInfo:
    """What an agent says of itself when it connects, and where it did."""

    client_id: str
    bridge_id: str
    session_id: str
    ip: str
    credential: str = ""
    enrollment_token: str = ""
    protocol_version: int = PROTOCOL_VERSION
    agent_version: str = ""
    hostname: str = ""
    os: str = ""
    arch: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    group: str = ""  # wished for; followed only while the token allows it


@dataclass(frozen=True)
class RegisterOutcome:
    """The server's answer; `credential` is set once, when an enrollment token was accepted."""

    accepted: bool
    code: str = ""  # bad_credential | bad_token | revoked | pending_approval | protocol_version | invalid
    message: str = ""
    client_id: str = ""
    credential: str = ""
    group: str = ""
    approved: bool = True  # False: a quic-flow client that gets no work yet
    moved: bool = False  # it was in another group before: its agent may hold that one's tasks


@dataclass(frozen=True)
class Heartbeat:
    """One PING of a client."""

    client_id: str
    session_id: str
    at: datetime
    config_version: int
    running: int
    clock_offset_ms: int | None = None


def register(info: RegisterInfo) -> RegisterOutcome:
    """Let an agent in, or say why not.

    1. Refuse what is malformed or speaks another protocol.
    2. With an enrollment token: take one use of it, create or re-key the client, issue a credential.
    3. With a credential: it must be this client's own.
    4. Mark the client online on this bridge under this session.
    """
    if not OLDEST_PROTOCOL <= info.protocol_version <= PROTOCOL_VERSION:
        older = info.protocol_version < OLDEST_PROTOCOL
        return refused(
            "protocol_version",
            f"the server speaks agent protocol {spoken(OLDEST_PROTOCOL, PROTOCOL_VERSION)}, the agent"
            f" {info.protocol_version} (agent {info.agent_version[:32] or 'of unknown version'}):"
            + (" update the agent" if older else " update the server first, then the agents"),
        )
    if not CLIENT_ID.match(info.client_id):
        return refused(
            "invalid", "client id: 1 to 64 of letters, digits, '.', '_' and '-', not starting with a sign"
        )
    if bool(info.credential) == bool(info.enrollment_token):
        return refused("invalid", "send either a credential or an enrollment token")
    if len(info.labels) > MAX_LABELS:
        return refused("invalid", f"labels: at most {MAX_LABELS}")
    with transaction.atomic():
        client = (
            Client.objects.select_for_update().select_related(None).filter(client_id=info.client_id).first()
        )
        if info.enrollment_token:
            outcome, client = _enroll(info, client)
        else:
            outcome = _authenticate(info, client)
        if not outcome.accepted or client is None:
            log.warning("registration refused", client=info.client_id, ip=info.ip, code=outcome.code)
            return outcome
        mark_online(info, client)
    log.info(
        "client registered",
        client=info.client_id,
        ip=info.ip,
        bridge=info.bridge_id,
        version=info.agent_version,
    )
    return outcome


def refused(code: str, message: str) -> RegisterOutcome:
    """The answer to who is not let in."""
    return RegisterOutcome(accepted=False, code=code, message=message)


def _enroll(info: RegisterInfo, client: Client | None) -> tuple[RegisterOutcome, Client | None]:
    now = timezone.now()
    if client is not None and client.approval == ClientApproval.REVOKED:
        return refused(
            "revoked", f"client {info.client_id} was revoked; an operator must remove it first"
        ), None
    if client is not None and (client.credential_hash or client.kind != ClientKind.AGENT):
        # A token lets new hosts in; it must not let anybody take over a name that is in use.
        return refused(
            "bad_token",
            f"client id {info.client_id} is taken; choose another, or have an operator reset its credential",
        ), None
    # One conditional update takes one use: two agents cannot share the last one.
    token = EnrollmentToken.objects.filter(
        Q(token_hash=token_hash(info.enrollment_token)),
        uses__lt=F("max_uses"),
        expires_at__gt=now,
        revoked_at=None,
    )
    row = token.select_related("group").first()
    if row is None or not token.update(uses=F("uses") + 1):
        return refused(
            "bad_token", "the enrollment token is unknown, used up, expired or revoked: make a new one"
        ), None
    group, by = _group_for(info, row, client)
    if info.group and (group is None or info.group != group.name):
        log.info("wish for a group not followed", client=info.client_id, wished=info.group, by=by)
    credential = new_token(CREDENTIAL_PREFIX)
    moved = client is not None and client.group_id != (group.pk if group else None)
    client, _ = Client.objects.update_or_create(
        client_id=info.client_id,
        defaults={
            "group": group,
            "kind": ClientKind.AGENT,
            "approval": ClientApproval.APPROVED,
            "credential_hash": token_hash(credential),
        },
    )
    name = group.name if group else ""
    record("system", "client.enroll", client, {"group": name, "by": by, "begins_with": row.prefix})
    return RegisterOutcome(
        True, client_id=info.client_id, credential=credential, group=name, moved=moved
    ), client


def _group_for(info: RegisterInfo, token: EnrollmentToken, client: Client | None) -> tuple[Group | None, str]:
    """The group of a host that joins, and what decided on it (FR-3.2).

    The token's own group; else the first rule that fits; else the host's wish, where the token allows it; else the
    group that the host was in before, if any.
    """
    if token.group is not None:
        return token.group, "token"
    rule = first_match(Host(info.hostname[:128], info.ip, kept_labels(info.labels)), rules_in_order())
    if rule is not None:
        return rule.group, f"rule: {rule.name}"
    if token.allow_wish and info.group and (wished := Group.objects.filter(name=info.group).first()):
        return wished, "wish"
    if client is not None and client.group_id:
        return Group.objects.get(pk=client.group_id), "before"
    return None, "no rule"


def kept_labels(labels: dict[str, str]) -> dict[str, str]:
    """A host's labels, as long as they are kept."""
    return {key[:64]: value[:256] for key, value in labels.items()}


def _authenticate(info: RegisterInfo, client: Client | None) -> RegisterOutcome:
    # Unknown client and wrong credential answer alike: neither tells which names exist.
    is_next = client is not None and token_matches(info.credential, client.credential_next_hash)
    if client is None or not (is_next or token_matches(info.credential, client.credential_hash)):
        return refused(
            "bad_credential", "unknown client or wrong credential: join again with an enrollment token"
        )
    if client.approval == ClientApproval.REVOKED:
        return refused("revoked", "this client was revoked by an operator")
    group = Group.objects.filter(pk=client.group_id or 0).values_list("name", flat=True).first() or ""
    credential = _rotate(client, is_next) if client.credential_rotating else ""
    return RegisterOutcome(True, client_id=info.client_id, group=group, credential=credential)


def _rotate(client: Client, is_next: bool) -> str:
    """One step of a rotation; returns the credential to issue, "" once the new one has been used.

    Until then the old one is valid, and each registration by it issues another one: an answer may get lost.
    """
    if is_next:
        Client.objects.filter(pk=client.pk).update(
            credential_hash=client.credential_next_hash, credential_next_hash="", credential_rotating=False
        )
        record("system", "client.rotated", client)
        return ""
    credential = new_token(CREDENTIAL_PREFIX)
    Client.objects.filter(pk=client.pk).update(credential_next_hash=token_hash(credential))
    return credential


def mark_online(info: RegisterInfo, client: Client) -> None:
    """The client has this session now."""
    now = timezone.now()
    client.status = ClientStatus.ONLINE
    client.bridge_id = info.bridge_id
    client.session_id = info.session_id
    client.connected_at = client.last_heartbeat = now
    client.hostname = info.hostname[:128]
    client.ip = info.ip[:64]
    client.version = info.agent_version[:32]
    client.os = info.os[:64]
    client.arch = info.arch[:32]
    client.labels = kept_labels(info.labels)
    client.save(
        update_fields=[
            "status", "bridge_id", "session_id", "connected_at", "last_heartbeat", "hostname", "ip", "version", "os",
            "arch", "labels", "updated_at",
        ]
    )  # fmt: skip


def save_heartbeats(beats: list[Heartbeat]) -> None:
    """Write many heartbeats in one statement; a beat of an older session changes nothing."""
    newest = {beat.client_id: beat for beat in sorted(beats, key=lambda beat: beat.at)}
    update_from_values(
        Client,
        key=("client_id", "session_id"),
        columns=("last_heartbeat", "task_version", "running", "clock_offset_ms", "status"),
        rows=[
            (
                b.client_id,
                b.session_id,
                b.at,
                b.config_version,
                b.running,
                b.clock_offset_ms,
                ClientStatus.ONLINE.value,
            )
            for b in newest.values()
        ],
    )


def mark_offline(sessions: Iterable[tuple[str, str]], reason: str) -> int:
    """End sessions (client id, session id); a client that has a newer session stays as it is.

    Returns how many ended.
    """
    ended = 0
    sessions = list(sessions)
    for start in range(0, len(sessions), 500):
        chunk = dict(sessions[start : start + 500])
        rows = Client.objects.filter(
            client_id__in=chunk, session_id__in=chunk.values(), status=ClientStatus.ONLINE
        )
        ended += rows.update(status=ClientStatus.OFFLINE, running=0, updated_at=timezone.now())
    if ended:
        log.info("clients offline", count=ended, reason=reason, first=sessions[0][0])
    return ended


def bridge_started(bridge_id: str, endpoint: str) -> None:
    """Announce a bridge. Sessions that its predecessor of the same name left open are gone with it."""
    now = timezone.now()
    Bridge.objects.update_or_create(
        bridge_id=bridge_id, defaults={"endpoint": endpoint, "started_at": now, "expires_at": _lease_end(now)}
    )
    Client.objects.filter(bridge_id=bridge_id, status=ClientStatus.ONLINE).update(status=ClientStatus.OFFLINE)


def bridge_alive(bridge_id: str) -> None:
    """Renew the bridge's lease, and take the clients of dead bridges offline."""
    now = timezone.now()
    Bridge.objects.filter(bridge_id=bridge_id).update(expires_at=_lease_end(now))
    release_dead_bridges(now)


def release_dead_bridges(now: datetime) -> int:
    """Clients whose bridge's lease has expired become offline; returns how many."""
    dead = list(Bridge.objects.filter(expires_at__lt=now).values_list("bridge_id", flat=True))
    if not dead:
        return 0
    lost = Client.objects.filter(bridge_id__in=dead, status=ClientStatus.ONLINE).update(
        status=ClientStatus.OFFLINE
    )
    Bridge.objects.filter(bridge_id__in=dead, expires_at__lt=now).delete()
    log.warning("bridge lost", bridges=dead, clients=lost)
    return lost


def bridge_stopped(bridge_id: str) -> None:
    """A clean end: its clients are offline until they return elsewhere."""
    Client.objects.filter(bridge_id=bridge_id, status=ClientStatus.ONLINE).update(status=ClientStatus.OFFLINE)
    Bridge.objects.filter(bridge_id=bridge_id).delete()


def push_failed(client_ids: Iterable[str], version: int, reason: str) -> None:
    """Record that clients did not acknowledge a configuration version (FR-2.1)."""
    text = f"version {version}: {reason}"[:255]
    Client.objects.filter(client_id__in=list(client_ids)).update(
        push_error=text, push_error_at=timezone.now()
    )


def push_applied(applied: Iterable[tuple[str, int]]) -> None:
    """Record the configuration version that each client has acknowledged."""
    update_from_values(
        Client,
        key=("client_id",),
        columns=("task_version", "push_error"),
        rows=[(c, v, "") for c, v in applied],
    )


def _lease_end(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.QF_BRIDGE_LEASE)
