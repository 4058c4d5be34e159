"""The console's pages of rights on one object: who may do what to this task or this group of hosts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import Group as Role
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from ..errors import InvalidInput, QuartzError
from ..object_rights import ACCOUNTS, Holder, do_set_rights, held, may_give
from ..permissions import User, allowed
from .base import ObjectPermissionAdmin, who


class RightsAdmin(ObjectPermissionAdmin):
    """A page more for each object. `rights`: (action, words) of what can be given."""

    rights: tuple[tuple[str, Any], ...] = ()

    @property
    def _rights_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_rights"

    def rights_items(self, request: HttpRequest, obj: Model) -> list[dict[str, Any]]:
        """The menu item that leads to the page, for those who may open it."""
        if not may_give(who(request), obj):
            return []
        url = reverse(f"admin:{self._rights_name}", args=[obj.pk])
        return [{"label": _("Rights"), "icon": "shield", "url": url}]

    def with_rights(
        self, request: HttpRequest, obj: Model, items: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """A menu's items with that one among them, before the line that sets apart what is dangerous."""
        at = next((index for index, item in enumerate(items) if item.get("line")), len(items))
        return [*items[:at], *self.rights_items(request, obj), *items[at:]]

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        change_list = super().get_changelist_instance(request)
        for row in change_list.result_list:
            row.menu_items = self.with_rights(request, row, row.menu_items)
        return change_list

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.rights_view)
        return [path("<path:object_id>/rights/", view, name=self._rights_name), *super().get_urls()]

    def rights_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """GET: the page. POST {KEY: [actions]} of every holder shown, and `new`: who comes in by `new_rights`."""
        obj = self.access(request, object_id)
        user = who(request)
        if not may_give(user, obj):
            raise PermissionDenied
        actions = [action for action, _words in self.rights]
        if request.method == "POST":
            try:
                changed = self._save(request, obj, actions)
            except InvalidInput as error:
                messages.error(
                    request, " ".join(str(text) for texts in error.errors.values() for text in texts)
                )
            except QuartzError as error:
                messages.error(request, str(error.message))
            else:
                messages.success(
                    request, _("The rights are saved.") if changed else _("Nothing has changed.")
                )
                return redirect(f"admin:{self._rights_name}", obj.pk)
        rows = held(obj, actions)
        mine = {action for action in actions if user.has_perm(ACCOUNTS) or allowed(user, obj, action)}
        listed = {key_of(row.holder) for row in rows}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Rights"),
            "object": obj,
            "back": reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"),
            "back_label": self.nav_label,
            "object_url": self.rights_back(obj),
            "rights": self.rights,
            "mine": mine,
            "chosen": request.POST.get("new", ""),  # of a form that was not taken
            "chosen_rights": request.POST.getlist("new_rights"),
            "rows": [
                {
                    "key": key_of(row.holder),
                    "holder": row.holder,
                    "is_role": isinstance(row.holder, Role),
                    "boxes": [
                        (name, words, name in row.actions, name in mine) for name, words in self.rights
                    ],
                }
                for row in rows
            ],
            "roles": choices(Role.objects.order_by("name"), listed),
            "users": choices(
                User.objects.filter(is_active=True, is_superuser=False).order_by("username"), listed
            ),
        }
        return TemplateResponse(request, "console/rights.html", context)

    def rights_back(self, obj: Model) -> str:
        """The page of the object itself."""
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[obj.pk])

    @transaction.atomic
    def _save(self, request: HttpRequest, obj: Model, actions: list[str]) -> bool:
        user, changed = who(request), False
        for row in held(obj, actions):
            key = key_of(row.holder)
            if f"shown-{key}" in request.POST:  # one that came in meanwhile stays as it is
                # A box that one may not change is not sent: what it holds stays.
                fixed = {
                    name for name in row.actions if not (user.has_perm(ACCOUNTS) or allowed(user, obj, name))
                }
                wanted = fixed | set(request.POST.getlist(key))
                changed = do_set_rights(user, obj, row.holder, wanted, actions) or changed
        if new := request.POST.get("new", ""):
            wanted = set(request.POST.getlist("new_rights"))
            if not wanted:
                raise InvalidInput({"new_rights": [_("Choose what they may do.")]})
            changed = do_set_rights(user, obj, holder_of(new), wanted, actions) or changed
        return changed


def key_of(holder: Holder) -> str:
    """`role-3`, `user-5`."""
    return f"{'role' if isinstance(holder, Role) else 'user'}-{holder.pk}"


def choices(holders: Iterable[Holder], listed: set[str]) -> list[tuple[str, str]]:
    """Whom one can choose: those who have no rights yet."""
    return [(key_of(holder), str(holder)) for holder in holders if key_of(holder) not in listed]


def holder_of(key: str) -> Holder:
    """Raises InvalidInput where there is nobody of the key."""
    kind, _separator, pk = key.partition("-")
    model: Any = {"role": Role, "user": User}.get(kind)
    found: Holder | None = (
        model.objects.filter(pk=int(pk)).first() if model and pk.isdecimal() and len(pk) < 19 else None
    )
    if found is None:
        raise InvalidInput({"new": [_("Choose a user or a role.")]})
    return found
