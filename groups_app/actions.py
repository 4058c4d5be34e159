"""All writes to groups, clients and enrollment tokens that people ask for. Presence is in groups_app.presence."""

from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError
from django.utils import timezone
from django.utils.translation import gettext as _

from quartzflow import bridges
from quartzflow.audit import difference, record
from quartzflow.errors import Conflict, InvalidInput, NotAllowed, NotFound
from quartzflow.kinds import wrong_kinds
from quartzflow.permissions import User, allowed, check, check_create, grant_own

from .choices import ClientApproval, ClientKind
from .models import AssignmentRule, Client, EnrollmentToken, Group
from .rules import check_may_rule
from .secrets import ENROLLMENT_PREFIX, new_token, token_hash
from .selectors import bridges_of, clients_for

GROUP_FIELDS = ("name", "description", "tags")


def do_save_group(user: User, data: dict[str, Any], group: Group | None = None) -> Group:
    """Create or change a group (FR-3.1). Raises InvalidInput, NotAllowed."""
    if group is None:
        check_create(user, Group)
        group, verb, before = Group(), "create", {}
    else:
        check(user, group, "change")
        verb, before = "update", _state(group)
    errors = {name: [_("Unknown field.")] for name in data if name not in GROUP_FIELDS}
    tags = data.get("tags")
    kinds = {name: value for name, value in data.items() if name != "tags" or not isinstance(tags, list)}
    errors |= wrong_kinds(Group, kinds)
    if isinstance(tags, list) and not all(isinstance(tag, str) for tag in tags):
        errors["tags"] = [_("Must be a list of texts.")]
    if errors:
        raise InvalidInput(errors)
    for name, value in data.items():
        if name == "tags" and isinstance(value, list):
            value = ",".join(tag.strip() for tag in value)
        setattr(group, name, value.strip() if isinstance(value, str) else value)
    try:
        group.full_clean()
    except ValidationError as error:
        raise InvalidInput(error.message_dict) from error
    with transaction.atomic():
        group.save()
        if verb == "create":
            grant_own(user, group, ("view", "change", "delete"))
        if changes := difference(before, _state(group)):
            record(user, f"group.{verb}", group, changes)
    return group


def _state(group: Group) -> dict[str, Any]:
    return {name: getattr(group, name) for name in GROUP_FIELDS}


def do_delete_group(user: User, group: Group) -> None:
    """Delete a group; its hosts stay, without one. Raises Conflict naming the tasks or rules that are bound to it."""
    check(user, group, "delete")
    try:
        with transaction.atomic():
            record(user, "group.delete", group, _state(group))
            group.delete()
    except ProtectedError as error:
        rules = [str(row) for row in error.protected_objects if isinstance(row, AssignmentRule)]
        if rules:
            words = _("Assignment rules lead to this group: %(names)s. Change or delete them first.")
            raise Conflict(words % {"names": ", ".join(sorted(rules)[:5])}) from error
        names = ", ".join(sorted({str(getattr(row, "task", row)) for row in error.protected_objects})[:5])
        raise Conflict(
            _("Tasks are bound to this group: %(names)s. Unbind them first.") % {"names": names}
        ) from error


def do_create_enrollment_token(
    user: User | None,
    group: Group | None,
    *,
    max_uses: int = 1,
    hours: float = 24,
    note: str = "",
    allow_wish: bool = False,
) -> tuple[EnrollmentToken, str]:
    """Make a token that lets agents into a group. Returns the row and the token itself, which is not kept.

    group:      None: the assignment rules choose; for that one has to manage the hosts of all groups
    allow_wish: where no rule fits, the host comes into the group that it asks for (`quicflow agent join --group`)
    user:       None: the server's own set-up

    Raises InvalidInput, NotAllowed.
    """
    _check_token_group(user, group)
    errors: dict[str, list[str]] = {}
    if allow_wish and group is not None:
        errors["allow_wish"] = [_("Only where the rules choose the group.")]
    if not 1 <= max_uses <= 100_000:
        errors["max_uses"] = [_("Between 1 and 100000.")]
    if not 0 < hours <= 24 * 365:
        errors["hours"] = [_("More than 0 and at most 8760 (one year).")]
    if len(note) > 128:
        errors["note"] = [_("At most 128 characters.")]
    if errors:
        raise InvalidInput(errors)
    token = new_token(ENROLLMENT_PREFIX)
    row = EnrollmentToken(
        token_hash=token_hash(token),
        prefix=token[:8],
        note=note,
        group=group,
        allow_wish=allow_wish,
        max_uses=max_uses,
        expires_at=timezone.now() + timedelta(hours=hours),
        created_by=user,
    )
    with transaction.atomic():
        row.save()
        changes = {
            "group": group.name if group else None,
            "max_uses": max_uses,
            "expires_at": row.expires_at,
            "note": note,
        }
        if allow_wish:
            changes["allow_wish"] = True
        record(user or "system", "enrollment_token.create", row, changes)
    return row, token


def do_revoke_enrollment_token(user: User | None, token: EnrollmentToken) -> None:
    """No further host gets in by it; those that did stay. Raises NotAllowed; Conflict when it was revoked before."""
    _check_token_group(user, token.group)
    with transaction.atomic():
        if not EnrollmentToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            raise Conflict(_("The token has been revoked already."))
        record(user or "system", "enrollment_token.revoke", token)


def _check_token_group(user: User | None, group: Group | None) -> None:
    if user is None:
        return
    if group is not None:
        check(user, group, "manage_hosts")
    else:
        check_may_rule(user)


def may_manage(user: User, client: Client) -> bool:
    """Whether the user may decide about a host: by a right on hosts, or as manager of its group."""
    return allowed(user, client, "change") or (
        client.group is not None and allowed(user, client.group, "manage_hosts")
    )


def _check_host(user: User | None, client: Client) -> None:
    """Raises NotAllowed, or NotFound to who may not even see the host. None: the server's own operator."""
    if user is None or may_manage(user, client):
        return
    raise NotAllowed if clients_for(user).filter(pk=client.pk).exists() else NotFound


def _change_host(
    user: User | None,
    client: Client,
    verb: str,
    fields: dict[str, Any],
    changes: dict[str, Any],
    message: bridges.Close | bridges.Reconnect | None,
) -> None:
    """Write, record, and after commit tell the bridge that holds the client's session."""
    with transaction.atomic():
        Client.objects.filter(pk=client.pk).update(**fields, updated_at=timezone.now())
        record(user or "system", f"client.{verb}", client, changes)
        holder = bridges_of([client.client_id]).get(client.client_id)
        if holder and message is not None:
            transaction.on_commit(lambda: bridges.send(holder, message))
    client.refresh_from_db()


NO_CREDENTIAL: dict[str, Any] = {
    "credential_hash": "",
    "credential_next_hash": "",
    "credential_rotating": False,
    "approved_ip": "",
}


def do_revoke_client(user: User | None, client: Client) -> None:
    """Throw a client's credential away and close its session at once."""
    _check_host(user, client)
    close: bridges.Close = {"type": "close", "client_id": client.client_id, "reason": "revoked"}
    fields = {**NO_CREDENTIAL, "approval": ClientApproval.REVOKED}
    _change_host(user, client, "revoke", fields, {"approval": [client.approval, "revoked"]}, close)


def do_reset_client(user: User | None, client: Client) -> None:
    """Let a host with this client id be enrolled anew, with an enrollment token; its session ends.

    For a host that has lost its credential, that was revoked, or that gets an agent in the place of quic-flow.
    """
    _check_host(user, client)
    close: bridges.Close = {"type": "close", "client_id": client.client_id, "reason": "reset"}
    fields = {**NO_CREDENTIAL, "approval": ClientApproval.APPROVED, "kind": ClientKind.AGENT}
    _change_host(user, client, "reset", fields, {"approval": [client.approval, "approved"]}, close)


def do_rotate_client(user: User | None, client: Client) -> None:
    """Give an agent another credential when it next registers, which a session that is open does at once.

    The old one is valid until the new one has been used. Raises Conflict for a client without a credential.
    """
    _check_host(user, client)
    if not client.credential_hash:
        raise Conflict(_("The host has no credential: it has to be enrolled."))
    again: bridges.Reconnect = {
        "type": "reconnect",
        "client_id": client.client_id,
        "reason": "new credential",
    }
    fields = {"credential_rotating": True, "credential_next_hash": ""}
    _change_host(user, client, "rotate", fields, {}, again)


def do_approve_client(user: User | None, client: Client, group: Group, *, ip: str = "") -> None:
    """Give a quic-flow client that awaits it work, in a group: it is the one at the address that it has now.

    `ip`: approve only if this is still that address. Raises Conflict, NotAllowed.
    """
    if user is not None:
        if client.group is not None:
            _check_host(user, client)
        check(user, group, "manage_hosts")
    if client.approval != ClientApproval.PENDING:
        raise Conflict(_("The host does not await approval."))
    if not client.ip or (ip and ip != client.ip):
        raise Conflict(_("The host's address has changed: look at it again."))
    again: bridges.Reconnect = {"type": "reconnect", "client_id": client.client_id, "reason": "approved"}
    fields = {"approval": ClientApproval.APPROVED, "approved_ip": client.ip, "group": group}
    changes = {"ip": client.ip, "group": group.name, "approval": [client.approval, "approved"]}
    _change_host(user, client, "approve", fields, changes, again)
