"""Who may do what to which object: model permissions for everything of a kind, guardian's for single objects.

One rule extends rights through groups: whoever may view, trigger, … *tasks* through a task's own permissions has them
for that task and its executions only; whoever may view a group sees its hosts.
"""

from collections.abc import Iterable
from typing import TypeVar

from django.contrib.auth.models import User
from django.db.models import BigIntegerField, Model, QuerySet
from django.db.models.functions import Cast
from guardian.ctypes import get_content_type
from guardian.models import GroupObjectPermission, UserObjectPermission
from guardian.shortcuts import assign_perm

from .errors import NotAllowed, NotFound

__all__ = ["User", "allowed", "check", "check_create", "codename", "visible"]

M = TypeVar("M", bound=Model)


def codename(model: type[Model], action: str) -> str:
    """`app.action_model`, or `app.action` for an action that is a whole codename of the model already."""
    meta = model._meta
    own = {name for name, _ in meta.permissions}
    return f"{meta.app_label}.{action}" if action in own else f"{meta.app_label}.{action}_{meta.model_name}"


def visible(user: User, queryset: QuerySet[M], action: str = "view") -> QuerySet[M]:
    """The rows of a queryset on which the user may do `action`."""
    if not user.is_active:
        return queryset.none()
    permission = codename(queryset.model, action)
    if user.has_perm(permission):
        return queryset
    # Not guardian's get_objects_for_user: it compares every row's number as text with those of all objects there are,
    # which takes most of a second where somebody may see thousands of tasks, and a page asks for it ten times.
    granted = {
        "permission__content_type": get_content_type(queryset.model),
        "permission__codename": permission.partition(".")[2],
    }
    direct = UserObjectPermission.objects.filter(user=user, **granted)
    by_role = GroupObjectPermission.objects.filter(group__user=user, **granted)
    direct, by_role = (rows.values_list(Cast("object_pk", BigIntegerField())) for rows in (direct, by_role))
    return queryset.filter(pk__in=direct.union(by_role))


def allowed(user: User, obj: Model, action: str) -> bool:
    """Whether the user may do `action` to the object, by a model permission or one on the object itself."""
    permission = codename(type(obj), action)
    return user.has_perm(permission) or user.has_perm(permission, obj)


def check(user: User, obj: Model, action: str) -> None:
    """Raises NotFound when the user may not even see the object, NotAllowed when only the action is denied."""
    if allowed(user, obj, action):
        return
    raise NotAllowed if action != "view" and allowed(user, obj, "view") else NotFound


def grant_own(user: User, obj: Model, actions: Iterable[str]) -> None:
    """What somebody has made is theirs: give them these rights on it, unless they see all of its kind by their role."""
    if user.has_perm(codename(type(obj), "view")):
        return
    for action in actions:
        permission = codename(type(obj), action)
        if not user.has_perm(permission):
            assign_perm(permission, user, obj)


def check_create(user: User, model: type[Model]) -> None:
    """Raises NotAllowed unless the user may add objects of this kind."""
    if not user.has_perm(codename(model, "add")):
        raise NotAllowed
