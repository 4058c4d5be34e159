"""Rights on single objects, given to users and roles besides what they may do to all objects of the kind.

Who looks after accounts gives any of them; a task's owner gives what the owner has. guardian's rows are the rights,
and quartzflow.audit_signals writes down each that comes or goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group as Role
from django.db import transaction
from django.db.models import Model
from django.utils.translation import gettext as _
from guardian.shortcuts import assign_perm, get_groups_with_perms, get_users_with_perms, remove_perm

from .errors import InvalidInput, NotAllowed
from .permissions import User, allowed, codename

ACCOUNTS = "auth.change_user"  # whoever may change accounts may give any right
VIEW = "view"  # goes along with every other right, which would be good for nothing without it

Holder = User | Role


@dataclass(frozen=True)
class Held:
    """One holder's rights on an object."""

    holder: Holder
    actions: frozenset[str]


def may_give(user: User, obj: Model) -> bool:
    """Whether the user may give others rights on the object at all."""
    return bool(user.has_perm(ACCOUNTS)) or getattr(obj, "owner_id", None) == user.pk


def held(obj: Model, actions: Iterable[str]) -> list[Held]:
    """Who has which of these rights on the object itself: roles first, then users, each by name."""
    codes = {_code(obj, action): action for action in actions}
    # Each: holder → code names of what is given.
    roles: Any = get_groups_with_perms(obj, attach_perms=True)
    users: Any = get_users_with_perms(obj, attach_perms=True, with_group_users=False, with_superusers=False)
    found = [
        Held(holder, frozenset(codes[code] for code in given if code in codes))
        for holders in (roles, users)
        for holder, given in sorted(holders.items(), key=lambda item: str(item[0]))
    ]
    return [row for row in found if row.actions]


def do_set_rights(
    user: User, obj: Model, holder: Holder, wanted: Iterable[str], known: Iterable[str]
) -> bool:
    """Give the holder exactly these of the `known` rights on the object; says whether that changed anything.

    Any right brings the right to see the object. Raises NotAllowed where the user may not give, or not this right;
    InvalidInput for what is not known.
    """
    known, wanted = tuple(known), set(wanted)
    if unknown := wanted - set(known):
        raise InvalidInput({"rights": [_("There is no such right: %(name)s.") % {"name": min(unknown)}]})
    if not may_give(user, obj):
        raise NotAllowed
    if wanted:
        wanted.add(VIEW)
    before = next((row.actions for row in held(obj, known) if row.holder == holder), frozenset())
    changed = wanted ^ before
    if not user.has_perm(ACCOUNTS) and not all(allowed(user, obj, action) for action in changed):
        raise NotAllowed(_("You can give only those rights that you have."))
    with transaction.atomic():
        for action in sorted(changed):
            change = assign_perm if action in wanted else remove_perm
            change(codename(type(obj), action), holder, obj)
    return bool(changed)


def _code(obj: Model, action: str) -> str:
    return codename(type(obj), action).partition(".")[2]
