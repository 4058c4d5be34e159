"""What Django's own machinery does with accounts and rights, for the audit trail.

Signals, because Django, guardian and knox do these writes themselves and offer nothing else to call from. Everything
of ours calls quartzflow.audit.record by name.
"""

from typing import Any

from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from guardian.models import GroupObjectPermission, UserObjectPermission
from knox.models import AuthToken

from . import request_context
from .audit import difference, record
from .tokens import description

USER_FIELDS = ("username", "first_name", "last_name", "email", "is_active", "is_staff", "is_superuser")


def _actor() -> User | str:
    return request_context.current().user or "system"


def logged_in(sender: Any, user: User, **kwargs: Any) -> None:
    record(user, "session.login", user)


def logged_out(sender: Any, user: User | None, **kwargs: Any) -> None:
    if user is not None:
        record(user, "session.logout", user)


def login_failed(sender: Any, credentials: dict[str, Any], **kwargs: Any) -> None:
    # The name as it was typed: a password that was typed there by mistake is cut, not kept whole.
    record(None, "session.login_failed", changes={"username": str(credentials.get("username", ""))[:32]})


def user_before(sender: Any, instance: User, raw: bool = False, **kwargs: Any) -> None:
    found = User.objects.filter(pk=instance.pk).first() if instance.pk else None
    instance._audit_before = _user_state(found) if found else None  # type: ignore[attr-defined]


def user_saved(sender: Any, instance: User, created: bool, raw: bool = False, **kwargs: Any) -> None:
    before = getattr(instance, "_audit_before", None) or {}
    changes = difference(before, _user_state(instance))
    if "password" in changes:
        changes["password"] = ["", "changed"]
    if changes:
        record(_actor(), "user.create" if created else "user.update", instance, changes)


def _user_state(user: User) -> dict[str, Any]:
    # The hash only to see that it changed; it is masked before it is kept.
    return {name: getattr(user, name) for name in (*USER_FIELDS, "password")}


def user_deleted(sender: Any, instance: User, **kwargs: Any) -> None:
    record(_actor(), "user.delete", instance)


def role_saved(sender: Any, instance: Group, created: bool, raw: bool = False, **kwargs: Any) -> None:
    record(_actor(), "role.create" if created else "role.update", instance)


def role_deleted(sender: Any, instance: Group, **kwargs: Any) -> None:
    record(_actor(), "role.delete", instance)


def rights_changed(
    sender: Any, instance: Any, action: str, model: Any, pk_set: set[int] | None, **kwargs: Any
) -> None:
    if action in ("post_add", "post_remove", "post_clear"):
        names = sorted(map(str, model.objects.filter(pk__in=pk_set))) if pk_set else []
        noun = "user" if isinstance(instance, User) else "role"
        changes = {action.removeprefix("post_"): {model._meta.model_name: names}}
        record(_actor(), f"{noun}.rights", instance, changes)


def object_right_saved(sender: Any, instance: Any, created: bool, raw: bool = False, **kwargs: Any) -> None:
    if created:
        _object_right("grant", instance)


def object_right_deleted(sender: Any, instance: Any, **kwargs: Any) -> None:
    _object_right("withdraw", instance)


def _object_right(verb: str, right: Any) -> None:
    holder = right.user if isinstance(right, UserObjectPermission) else right.group
    changes = {"holder": str(holder), "permission": right.permission.codename}
    record(_actor(), f"permission.{verb}", right.content_object, changes)


def token_saved(sender: Any, instance: AuthToken, created: bool, raw: bool = False, **kwargs: Any) -> None:
    if created:
        record(_actor(), "api_token.create", instance.user, {"expires": instance.expiry, **description()})


def token_deleted(sender: Any, instance: AuthToken, **kwargs: Any) -> None:
    record(_actor(), "api_token.delete", instance.user, description())


def connect() -> None:
    """Called once, when all apps are loaded."""
    user_logged_in.connect(logged_in)
    user_logged_out.connect(logged_out)
    user_login_failed.connect(login_failed)
    pre_save.connect(user_before, User)
    post_save.connect(user_saved, User)
    post_delete.connect(user_deleted, User)
    post_save.connect(role_saved, Group)
    post_delete.connect(role_deleted, Group)
    for through in (User.groups.through, User.user_permissions.through, Group.permissions.through):
        m2m_changed.connect(rights_changed, through)
    for model in (UserObjectPermission, GroupObjectPermission):
        post_save.connect(object_right_saved, model)
        post_delete.connect(object_right_deleted, model)
    post_save.connect(token_saved, AuthToken)
    post_delete.connect(token_deleted, AuthToken)
