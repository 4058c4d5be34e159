"""Lists whose columns one can choose, and that open with one's own filters."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse, QueryDict
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from ..errors import InvalidInput
from ..list_views import ListView, do_save_list_view, list_view
from .base import ConsoleAdmin, who


class ListViewAdmin(ConsoleAdmin):
    """`fixed_columns` cannot be hidden: what a row is, and its menu."""

    fixed_columns: tuple[str, ...] = ()
    hidden_first: tuple[str, ...] = ()  # not shown until one asks for them

    @property
    def view_name(self) -> str:
        return str(self.opts.label_lower)

    def _view(self, request: HttpRequest) -> ListView:
        if not hasattr(request, "_list_view"):
            request._list_view = list_view(who(request), self.view_name, self.hidden_first)  # type: ignore[attr-defined]
        found: ListView = request._list_view  # type: ignore[attr-defined]
        return found

    def _free_columns(self) -> list[str]:
        return [str(name) for name in self.list_display if name not in self.fixed_columns]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        hidden = set(self._view(request).hidden) - set(self.fixed_columns)
        return [name for name in self.list_display if name not in hidden]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        view = self._view(request)
        if request.method == "GET" and not request.GET and view.query and not _from_itself(request):
            return redirect(f"{request.path}?{view.query}")
        hidden = set(view.hidden)
        context = {
            "view_url": reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_view"),
            "view_columns": [
                (name, getattr(getattr(self, name), "short_description", name), name not in hidden)
                for name in self._free_columns()
            ],
            "view_query": request.GET.urlencode(),
            "view_saved": view.query,
            "view_is_saved": QueryDict(view.query) == QueryDict(request.GET.urlencode()),
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_view"
        return [path("view/", self.admin_site.admin_view(self.save_view), name=name), *super().get_urls()]

    def save_view(self, request: HttpRequest) -> HttpResponse:
        """POST `shown` (names of columns; with `columns`), or `query` (filters to open with; "": none)."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        free = self._free_columns()
        data: dict[str, Any] = {}
        if "columns" in request.POST:
            data["hidden"] = [name for name in free if name not in request.POST.getlist("shown")]
        if "query" in request.POST:
            data["query"] = request.POST["query"]
        try:
            do_save_list_view(who(request), self.view_name, set(free), data, self.hidden_first)
        except InvalidInput as error:
            words = " ".join(str(text) for texts in error.errors.values() for text in texts)
            return JsonResponse({"message": words}, status=error.http_status)
        words = _("Your view of the list is saved.")
        return JsonResponse({"message": words, "reload": True, "url": request.POST.get("back") or ""})


def _from_itself(request: HttpRequest) -> bool:
    """Whether one comes from this very list: who takes the last filter away there wants to see all."""
    return urlsplit(request.headers.get("Referer") or "").path == request.path
