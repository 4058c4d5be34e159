"""The language and time zone of each request."""

import zoneinfo
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone, translation
from django.utils.cache import patch_vary_headers

from .models import UserPreference

CODES = {code for code, _name in settings.LANGUAGES}


class UserLocaleMiddleware:
    """The user's own choice, then the cookie, then Chinese; what the browser says of itself is not asked (PRD §4.5.5).

    Django's LocaleMiddleware obeys Accept-Language before the default. Sets `request.preference`.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        preference = None
        # No cookie, no session: an API client with a token costs no query here.
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
            preference = UserPreference.objects.filter(user_id=request.user.pk).first()
        request.preference = preference or UserPreference()  # type: ignore[attr-defined]
        language = language_of(request)
        translation.activate(language)
        request.LANGUAGE_CODE = language
        with timezone.override(zone_of(request)):
            response = self.get_response(request)
        patch_vary_headers(response, ("Cookie",))
        response.headers.setdefault("Content-Language", language)
        return response


def language_of(request: HttpRequest) -> str:
    """One of the codes of settings.LANGUAGES."""
    for code in (request.preference.language, request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME, "")):  # type: ignore[attr-defined]
        if code in CODES:
            return str(code)
    return settings.LANGUAGE_CODE


def zone_of(request: HttpRequest) -> zoneinfo.ZoneInfo:
    """The user's time zone, else the server's."""
    name = request.preference.timezone or settings.TIME_ZONE  # type: ignore[attr-defined]
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):  # stored before the system lost it
        return zoneinfo.ZoneInfo(settings.TIME_ZONE)
