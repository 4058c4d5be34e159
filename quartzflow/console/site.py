"""The console: stock Django admin with our own site, sections and pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, NamedTuple, cast

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _lazy
from django.views.decorators.cache import cache_control
from django.views.i18n import JavaScriptCatalog

from ..errors import InvalidInput
from ..permissions import User
from ..preferences import THEMES, check_preferences, do_save_preferences
from . import profile
from .errors import client_error
from .overview import overview

YEAR = 365 * 24 * 3600  # seconds
THEME_COOKIE = "qf_theme"


# A permission's name, or a question that is asked of a user; "": everybody.
Permission = str | Callable[[User], bool]


class Section(NamedTuple):
    """A part of the side bar. Its items without a label stand by themselves."""

    key: str
    label: Promise | str


class Item(NamedTuple):
    """One line of the side bar."""

    label: Any
    icon: str
    url: str
    active: bool


SECTIONS = (
    Section("work", ""),
    Section("hosts", _lazy("Host groups")),
    Section("reports", _lazy("Reports")),
    Section("alerts", _lazy("Alerts")),
    Section("settings", _lazy("System settings")),
)


class QuartzAdminSite(AdminSite):
    """Mounted at /console/ under the name `admin`. A ModelAdmin appears in the side bar by its `section`."""

    site_title = site_header = "Quartz-Flow"
    site_url = None
    enable_nav_sidebar = False  # we have our own
    login_form = AuthenticationForm
    index_title = _lazy("Overview")
    # (section, label, icon, url name, permission) of pages that are no model's list; added by add_page().
    _pages: ClassVar[list[tuple[str, Any, str, str, Permission]]] = []

    def add_page(
        self, section: str, label: Any, icon: str, url_name: str, permission: Permission = ""
    ) -> None:
        """Put a page that is no model's list into the side bar, for those with the permission."""
        self._pages.append((section, label, icon, url_name, permission))

    def navigation(self, request: HttpRequest) -> list[dict[str, Any]]:
        """The side bar for this user: sections with at least one item."""
        items: dict[str, list[tuple[int, Item]]] = {section.key: [] for section in SECTIONS}
        index = reverse("admin:index")
        items["work"].append((0, Item(self.index_title, "layout-dashboard", index, request.path == index)))
        # A page of its own may lie below a model's list; it alone is where one is then.
        below = any(request.path.startswith(reverse(page[3])) for page in self._pages)
        for model, model_admin in self._registry.items():
            section = getattr(model_admin, "section", "")
            if not section or not model_admin.has_view_permission(request):
                continue
            url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
            label = getattr(model_admin, "nav_label", None) or model._meta.verbose_name_plural
            here = request.path.startswith(url) and not below
            item = Item(label, model_admin.icon, url, here)  # type: ignore[attr-defined]
            items[section].append((getattr(model_admin, "nav_order", 50), item))
        for section, label, icon, url_name, permission in self._pages:
            user = cast(User, request.user)
            if permission(user) if callable(permission) else not permission or user.has_perm(permission):
                url = reverse(url_name)
                items[section].append((60, Item(label, icon, url, request.path.startswith(url))))
        return [
            {
                "label": section.label,
                "items": [item for _order, item in sorted(items[section.key], key=lambda pair: pair[0])],
            }
            for section in SECTIONS
            if items[section.key]
        ]

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """Also let the page open its live socket: older browsers do not count ws:// to the same host as 'self'."""
        inner = super().admin_view(view, cacheable)

        @wraps(inner)
        def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            response: HttpResponse = inner(request, *args, **kwargs)
            socket = f"{'wss' if request.is_secure() else 'ws'}://{request.get_host()}"
            response._csp_update = {"connect-src": ["'self'", socket]}  # type: ignore[attr-defined]
            return response

        return page

    def has_permission(self, request: HttpRequest) -> bool:
        """Everybody with an account may come in; what they see and do there is a matter of their permissions."""
        return request.user.is_active

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
        """Empty: our side bar takes the place of the lists of applications, and those pages are not there."""
        return []

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        preference = request.preference  # type: ignore[attr-defined]
        context = super().each_context(request)
        if context["has_permission"]:
            context["navigation"] = self.navigation(request)
        return {
            **context,
            "theme_choice": preference.theme or theme_cookie(request),
            "shortcuts_on": preference.shortcuts,
            "time_zone_name": timezone.get_current_timezone_name(),
        }

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [
            path("jsi18n/", self.i18n_javascript, name="jsi18n"),  # the log-in page too
            path("preferences/", self.preferences, name="preferences"),
            path("profile/", self.admin_view(self.profile), name="profile"),
            path("profile/tokens/", self.admin_view(self.make_token), name="profile_tokens"),
            path(
                "profile/tokens/<int:pk>/revoke/",
                self.admin_view(profile.revoke_token),
                name="profile_token_revoke",
            ),
            path("client-errors/", self.admin_view(client_error), name="client_error"),
            *super().get_urls(),
        ]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        request.current_app = self.name
        context = {
            **self.each_context(request),
            "title": self.index_title,
            **overview(request),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/index.html", context)

    def i18n_javascript(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        view = JavaScriptCatalog.as_view(packages=["quartzflow", "django.contrib.admin"])
        # The page names the language in the query.
        return cast(HttpResponse, cache_control(private=True, max_age=300)(view)(request))

    def preferences(self, request: HttpRequest) -> HttpResponse:
        """POST: change language, theme, time zone or shortcuts; also without an account (then in cookies)."""
        if request.method != "POST":
            return HttpResponse(status=405, headers={"Allow": "POST"})
        data: dict[str, Any] = {
            name: request.POST[name] for name in ("language", "theme", "timezone") if name in request.POST
        }
        if "shortcuts" in request.POST:
            data["shortcuts"] = request.POST["shortcuts"] == "on"
        try:
            if request.user.is_authenticated:
                do_save_preferences(request.user, data)
            else:
                check_preferences(data)
        except InvalidInput as error:
            return JsonResponse({"errors": error.errors}, status=400)
        target = request.POST.get("next", "")
        if not url_has_allowed_host_and_scheme(
            target, {request.get_host()}, require_https=request.is_secure()
        ):
            target = reverse("admin:index")
        response = HttpResponse(status=204) if request.headers.get("X-Requested-With") else redirect(target)
        # For the log-in page, which knows no user.
        for name, cookie in (("language", settings.LANGUAGE_COOKIE_NAME), ("theme", THEME_COOKIE)):
            if data.get(name):
                response.set_cookie(cookie, data[name], max_age=YEAR, samesite="Lax")
        return response

    def profile(self, request: HttpRequest) -> HttpResponse:
        """One's own settings."""
        return profile.profile(self, request)

    def make_token(self, request: HttpRequest) -> HttpResponse:
        """POST: a new API token of one's own."""
        return profile.make_token(self, request)


def theme_cookie(request: HttpRequest) -> str:
    choice = request.COOKIES.get(THEME_COOKIE, "")
    return choice if choice in THEMES else "system"


site = QuartzAdminSite(name="admin")
