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
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.permissions import User, check, check_create

from .choices import ClientApproval
from .models import Client, EnrollmentToken, Group
from .secrets import ENROLLMENT_PREFIX, new_token, token_hash

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
    if errors:
        raise InvalidInput(errors)
    for name, value in data.items():
        if name == "tags" and isinstance(value, list):
            value = ",".join(str(tag).strip() for tag in value)
        setattr(group, name, value.strip() if isinstance(value, str) else value)
    try:
        group.full_clean()
    except ValidationError as error:
        raise InvalidInput(error.message_dict) from error
    with transaction.atomic():
        group.save()
        if changes := difference(before, _state(group)):
            record(user, f"group.{verb}", group, changes)
    return group


def _state(group: Group) -> dict[str, Any]:
    return {name: getattr(group, name) for name in GROUP_FIELDS}


def do_delete_group(user: User, group: Group) -> None:
    """Delete a group without bound tasks; its hosts stay, without a group. Raises Conflict naming the tasks."""
    check(user, group, "delete")
    try:
        with transaction.atomic():
            record(user, "group.delete", group, _state(group))
            group.delete()
    except ProtectedError as error:
        names = ", ".join(sorted({str(getattr(row, "task", row)) for row in error.protected_objects})[:5])
        raise Conflict(
            _("Tasks are bound to this group: %(names)s. Unbind them first.") % {"names": names}
        ) from error


def do_create_enrollment_token(
    user: User | None, group: Group, *, max_uses: int = 1, hours: float = 24, note: str = ""
) -> tuple[EnrollmentToken, str]:
    """Make a token that lets agents into a group. Returns the row and the token itself, which is not kept.

    `user` None: the server's own set-up. Raises InvalidInput, NotAllowed.
    """
    if user is not None:
        check(user, group, "manage_hosts")
    errors: dict[str, list[str]] = {}
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
        max_uses=max_uses,
        expires_at=timezone.now() + timedelta(hours=hours),
        created_by=user,
    )
    with transaction.atomic():
        row.save()
        changes = {"group": group.name, "max_uses": max_uses, "expires_at": row.expires_at, "note": note}
        record(user or "system", "enrollment_token.create", row, changes)
    return row, token


def do_revoke_enrollment_token(user: User, token: EnrollmentToken) -> None:
    """No further host gets in by it; those that did stay. Raises NotAllowed; Conflict when it was revoked before."""
    check(user, token.group, "manage_hosts")
    with transaction.atomic():
        if not EnrollmentToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            raise Conflict(_("The token has been revoked already."))
        record(user, "enrollment_token.revoke", token)


def do_revoke_client(user: User, client: Client) -> None:
    """Throw a client's credential away and close its session at once."""
    check(user, client, "change")
    with transaction.atomic():
        Client.objects.filter(pk=client.pk).update(
            approval=ClientApproval.REVOKED, credential_hash="", updated_at=timezone.now()
        )
        record(user, "client.revoke", client)
        if client.bridge_id:
            message: bridges.Close = {"type": "close", "client_id": client.client_id, "reason": "revoked"}
            transaction.on_commit(lambda: bridges.send(client.bridge_id, message))
