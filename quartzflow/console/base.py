"""What our ModelAdmins share: object permissions, writes through actions, a console list's looks."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin, display
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.forms import Media
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..errors import NotAllowed, QuartzError
from ..permissions import User, allowed, visible

COUNT_LIMIT = 10_000


def who(request: HttpRequest) -> User:
    """The person behind a request to the console, which serves nobody without an account."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


class CappedPaginator(Paginator):
    """Counts to COUNT_LIMIT only: a full count of ten million rows takes seconds, and nobody pages that far."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by().values("pk")[: COUNT_LIMIT + 1].count())

    @property
    def limit(self) -> int:
        return COUNT_LIMIT

    @property
    def capped(self) -> bool:
        return self.count > COUNT_LIMIT


class ConsoleChangeList(ChangeList):
    """Where nothing was counted, nothing is looked for again: a search in vain has read the whole table already."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.result_count:
            self.result_list = self.queryset.none()


class ConsoleAdmin(ModelAdmin):
    """A model's pages in the console: its place in the side bar, its list's title and empty state."""

    section = ""  # of the side bar; "" keeps the model out of it
    icon = "layers"
    nav_order = 50
    nav_label: Any = None
    add_title: Any = None
    empty_icon = "inbox"
    empty_title: Any = _("Nothing here yet")
    empty_text: Any = ""
    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    # What a batch action asks before it is done: name → words with %(count)s.
    confirmations: dict[str, Any] = {}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ConsoleChangeList

    @property
    def media(self) -> Media:
        # What of stock admin's scripts our pages need; no jQuery.
        return Media(js=["admin/js/core.js", "admin/js/actions.js"])

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = {"nav_label": self.nav_label or self.opts.verbose_name_plural}
        if object_id is None and self.add_title:
            context["title"] = self.add_title
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {
            "title": self.nav_label or self.opts.verbose_name_plural,
            "add_title": self.add_title,
            "empty_icon": self.empty_icon,
            "empty_title": self.empty_title,
            "empty_text": self.empty_text,
            "confirmations": {name: str(text) for name, text in self.confirmations.items()},
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})


class ObjectPermissionAdmin(ConsoleAdmin):
    """Rights on the model, or on single objects, decide what one sees and does; deny by default."""

    list_per_page = 25

    def visible_rows(self, request: HttpRequest, action: str) -> QuerySet:
        """The rows on which this user may do `action`."""
        return visible(who(request), self.model._default_manager.all(), action)

    def may(self, request: HttpRequest, obj: Model, action: str) -> bool:
        """Whether this user may do `action` to the object."""
        return allowed(who(request), obj, action)

    def _may(self, request: HttpRequest, obj: Model | None, action: str) -> bool:
        if obj is not None:
            return self.may(request, obj, action)
        return request.user.has_perm(f"{self.opts.app_label}.{action}_{self.opts.model_name}") or (
            self.visible_rows(request, action).exists()
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        ordering = self.get_ordering(request)
        queryset = self.visible_rows(request, "view")
        return queryset.order_by(*ordering) if ordering else queryset

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request, obj, "view") or self._may(request, obj, "change")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request, obj, "change")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request, obj, "delete")

    def access(self, request: HttpRequest, object_id: str, action: str = "view") -> Any:
        """The object, when the user may do `action` to it. Raises Http404, PermissionDenied."""
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        if not self.may(request, obj, action):
            raise PermissionDenied
        return obj

    def post_view(self, request: HttpRequest, object_id: str, work: Any, permission: str) -> HttpResponse:
        """Serve a POST on one object: `work(request, obj)` does it and returns the words for the user (or a dict with
        `message` and `url`). Answers JSON to scripts, else goes back with a message."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            result = work(request, self.access(request, object_id, permission))
        except PermissionDenied:
            return self._answer(request, {"message": str(NotAllowed.default_message)}, NotAllowed.http_status)
        except QuartzError as error:
            return self._answer(request, {"message": str(error.message)}, error.http_status)
        return self._answer(request, result if isinstance(result, dict) else {"message": str(result)}, 200)

    def _answer(self, request: HttpRequest, result: dict[str, Any], status: int) -> HttpResponse:
        if request.headers.get("X-Requested-With"):
            return JsonResponse(result, status=status)
        messages.add_message(request, messages.SUCCESS if status < 400 else messages.ERROR, result["message"])
        back = request.headers.get("Referer") or ""
        url = result.get("url") or (back if back.startswith(request.build_absolute_uri("/")) else "")
        return redirect(url or f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    # What a row's menu asks after: one query each for a whole page of rows.
    row_permissions: tuple[str, ...] = ("change", "delete")

    def menu_items(self, obj: Any, may: set[str]) -> list[dict[str, Any]]:
        """Of a row's menu: dicts of `label`, `icon`, and `url` (a link) or `post` (with `confirm`, `danger`).

        `may`: those of `row_permissions` that the user has on the object.
        """
        return []

    def menu_label(self, obj: Any) -> str:
        """What the menu's button is named after."""
        return str(obj)

    def prepare_rows(self, request: HttpRequest, rows: list[Any]) -> None:
        """Put on a page's rows what its columns show and no join brings."""

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        change_list = super().get_changelist_instance(request)
        rows = list(change_list.result_list)
        change_list.result_list = rows
        ids = [row.pk for row in rows]
        may = {
            action: set(self.visible_rows(request, action).filter(pk__in=ids).values_list("pk", flat=True))
            for action in self.row_permissions
        }
        self.prepare_rows(request, rows)
        for row in rows:
            row.may = {action for action, having in may.items() if row.pk in having}
            row.menu_items = self.menu_items(row, row.may)
        return change_list

    @display(description="")
    def row_menu(self, obj: Any) -> str:
        return menu(obj.pk, self.menu_label(obj), obj.menu_items) if obj.menu_items else ""


def pill(color: str, label: Any, **data: Any) -> SafeString:
    """A status pill; `data` becomes data-* attributes (underscores as hyphens)."""
    attributes = [format_html(' data-{}="{}"', name.replace("_", "-"), value) for name, value in data.items()]
    return format_html(
        '<span class="pill pill-{}"{}>{}</span>', color, SafeString("".join(attributes)), label
    )


def menu(key: Any, label: Any, items: list[dict[str, Any]]) -> str:
    """The menu button of a row."""
    return render_to_string("console/row_menu.html", {"key": key, "label": label, "items": items})


class ReadOnly(ModelAdmin):
    """What nobody adds, changes or deletes in the admin's own way; there may be actions that do."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnlyAdmin(ReadOnly, ObjectPermissionAdmin):
    """A list of what one may see by `visible_rows`, which says that of single objects, too."""

    def may(self, request: HttpRequest, obj: Model, action: str) -> bool:
        return self.visible_rows(request, action).filter(pk=obj.pk).exists()

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return obj is None or self.may(request, obj, "view")


class FormPageAdmin(ObjectPermissionAdmin):
    """Adds and changes objects on a page of its own; deleting is a menu item with a question."""

    def form_page(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """The page and what it sends; None: a new object. The user may see the object."""
        raise NotImplementedError

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return self.form_page(request, None)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return self.form_page(request, self.access(request, object_id))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", object_id)
