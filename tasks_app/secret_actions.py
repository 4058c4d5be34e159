"""All writes to secrets. A changed value goes to the agents at once that run tasks with it."""

import re
from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Group as Role
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from guardian.shortcuts import assign_perm, get_groups_with_perms, get_users_with_perms, remove_perm

from quartzflow import secrets
from quartzflow.audit import MASK, difference, record
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.models import Secret
from quartzflow.permissions import User, check, check_create, visible

from .choices import ChangeAction
from .configs import next_version, record_task_changes
from .models import Task, TaskGroup
from .secrets import tasks_using

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
SHORTEST = 6  # characters: anything shorter cannot be masked in outputs without hiding ordinary words
LONGEST = 32 * 1024
FIELDS = ("name", "value", "description", "users", "roles")
USE = "quartzflow.use_secret"
NAMED = 5  # tasks that an error names


def do_create_secret(user: User, data: dict[str, Any]) -> Secret:
    """Store a secret: `name`, `value`, and optionally `description`, `users` and `roles` (names) that may use it.

    Whoever makes one may do everything with it. Raises InvalidInput, NotAllowed.
    """
    check_create(user, Secret)
    cleaned = check_secret({"name": "", "value": "", **data})
    holders = _check_holders(data)
    secret = Secret(
        name=cleaned["name"], description=cleaned.get("description", ""), created_by=user.get_username()[:150]
    )
    secret.updated_by = secret.created_by
    secret.ciphertext = secrets.encrypt(secret.name, cleaned["value"])
    try:
        with transaction.atomic():
            secret.save(force_insert=True)
            for action in ("view", "change", "delete", "use"):
                assign_perm(f"quartzflow.{action}_secret", user, secret)
            _grant(secret, holders, keep={user.get_username()})
            record(user, "secret.create", secret, {"description": secret.description, **_names(holders)})
            # A task may have asked for it before it was there.
            _push(tasks_using([secret.name]))
    except IntegrityError:
        raise InvalidInput({"name": [_("There is a secret of this name already.")]}) from None
    return secret


def do_update_secret(user: User, secret: Secret, data: dict[str, Any]) -> Secret:
    """Change `value`, `description`, `users` or `roles`; what is left out, or an empty value, stays. So does the name.

    A new value goes to the agents that run tasks with it at once. Raises InvalidInput, NotAllowed, NotFound.
    """
    check(user, secret, "change")
    if data.get("name", secret.name) != secret.name:
        raise InvalidInput({"name": [_("A secret keeps its name: tasks use it by that.")]})
    cleaned = check_secret({key: value for key, value in data.items() if key != "value" or value})
    holders = _check_holders(data)
    with transaction.atomic():
        before = {"description": secret.description, **_names(holders_of(secret))}
        secret.description = cleaned.get("description", secret.description)
        secret.updated_by, secret.updated_at = user.get_username()[:150], timezone.now()
        if "value" in cleaned:
            secret.ciphertext = secrets.encrypt(secret.name, cleaned["value"])
        secret.save(update_fields=["description", "ciphertext", "updated_by", "updated_at"])
        _grant(secret, holders)
        changes = difference(before, {"description": secret.description, **_names(holders_of(secret))})
        if "value" in cleaned:
            changes["value"] = [MASK, MASK]
            _push(tasks_using([secret.name]))
        if changes:
            record(user, "secret.update", secret, changes)
    return secret


def do_delete_secret(user: User, secret: Secret) -> None:
    """Delete a secret that no task uses. Raises Conflict naming those that do, NotAllowed, NotFound."""
    check(user, secret, "delete")
    with transaction.atomic():
        next_version()  # keeps an edit apart that begins to use it now
        using = tasks_using([secret.name])
        if using:
            raise Conflict(
                _("Tasks use the secret: %(tasks)s. Take it out of them first.")
                % {"tasks": _named(user, using)}
            )
        record(user, "secret.delete", secret)
        secret.delete()


def check_secret(data: dict[str, Any]) -> dict[str, Any]:
    """Raises InvalidInput naming each wrong field."""
    errors: dict[str, list[Any]] = {key: [_("Unknown field.")] for key in data if key not in FIELDS}
    for key in ("name", "value", "description"):
        if key in data and not isinstance(data[key], str):
            errors[key] = [_("Must be text.")]
    cleaned: dict[str, Any] = {
        key: data[key] for key in ("name", "value", "description") if key in data and key not in errors
    }
    if "name" in cleaned and not NAME.match(cleaned["name"]):
        errors["name"] = [_("Letters, digits and underscores, 64 at most; it does not begin with a digit.")]
    if value := cleaned.get("value", "x" * SHORTEST):
        if "\0" in value or len(value.encode()) > LONGEST:
            errors["value"] = [_("At most 32 KB, without NUL.")]
        elif len(value.strip()) < SHORTEST:
            words = _("At least %(count)s characters: less cannot be masked in outputs.")
            errors["value"] = [words % {"count": SHORTEST}]
    else:
        errors["value"] = [_("This field is required.")]
    if len(cleaned.get("description", "")) > 256:
        errors["description"] = [_("At most %(count)s characters.") % {"count": 256}]
    if errors:
        raise InvalidInput(errors)
    return cleaned


Holders = dict[str, list[Any]]  # "users", "roles" → those that may use a secret


def holders_of(secret: Secret) -> Holders:
    """Who may use the secret by a right on it alone."""
    users: Any = get_users_with_perms(secret, only_with_perms_in=["use_secret"], with_group_users=False)
    roles: Any = get_groups_with_perms(secret, attach_perms=True)
    return {
        "users": list(users.order_by("username")),
        "roles": sorted((role for role, codes in roles.items() if "use_secret" in codes), key=str),
    }


def _names(holders: Holders) -> dict[str, list[str]]:
    return {key: sorted(str(holder) for holder in found) for key, found in holders.items()}


def _check_holders(data: dict[str, Any]) -> Holders:
    """The accounts and roles that `data` names. Raises InvalidInput."""
    found: Holders = {}
    errors: dict[str, list[Any]] = {}
    for key, model, field in (("users", User, "username"), ("roles", Role, "name")):
        if key not in data:
            continue
        names = data[key]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            errors[key] = [_("Must be a list of names.")]
            continue
        found[key] = list(model.objects.filter(**{f"{field}__in": names}))
        if missing := sorted(set(names) - {str(row) for row in found[key]}):
            errors[key] = [_("Not there: %(names)s.") % {"names": ", ".join(missing)}]
    if errors:
        raise InvalidInput(errors)
    return found


def _grant(secret: Secret, holders: Holders, keep: Iterable[str] = ()) -> None:
    before = holders_of(secret)
    for key, wanted in holders.items():
        for holder in set(before[key]) - set(wanted):
            if str(holder) not in keep:
                remove_perm(USE, holder, secret)
        for holder in set(wanted) - set(before[key]):
            assign_perm(USE, holder, secret)


def _push(tasks: list[Task]) -> None:
    """A new configuration version for these tasks: agents pull it, instructions are made anew."""
    if not tasks:
        return
    version = next_version()
    Task.objects.filter(pk__in=[task.pk for task in tasks]).update(version=version, updated_at=timezone.now())
    groups: dict[int, set[int]] = {}
    rows = TaskGroup.objects.filter(task_id__in=[task.pk for task in tasks])
    for task_id, group_id in rows.values_list("task_id", "group_id"):
        groups.setdefault(task_id, set()).add(group_id)
    record_task_changes(
        version,
        [(task, None if task.is_global else groups.get(task.pk, set()), ChangeAction.TASK) for task in tasks],
    )


def _named(user: User, tasks: list[Task]) -> str:
    """Their names, as far as the user may see the tasks."""
    rows = visible(user, Task.objects.filter(pk__in=[task.pk for task in tasks]))
    seen = list(rows.order_by("name").values_list("name", flat=True))
    rest = len(tasks) - len(seen[:NAMED])
    return ", ".join([*seen[:NAMED], *([_("%(count)s more") % {"count": rest}] if rest else [])])
