"""The console's page of one's own settings: language, time zone, looks, keys, and API tokens."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from .. import tokens
from ..declared_settings import TOKEN_DAYS
from ..errors import InvalidInput, NotFound
from ..models import ApiToken
from ..preferences import THEMES, do_save_preferences, time_zones
from ..tokens import Scope
from .base import who

VALIDITY = ((30, _lazy("30 days")), (90, _lazy("90 days")), (365, _lazy("1 year")))
SCOPE_HELP = {
    Scope.READ: _lazy("See what you may see."),
    Scope.TRIGGER: _lazy("Run tasks, cancel and retry."),
    Scope.WRITE: _lazy("Make, change and delete."),
}


class TokenForm(forms.Form):
    """A new API token; quartzflow.tokens checks it."""

    name = forms.CharField(
        label=_lazy("Name"), max_length=64, help_text=_lazy("What uses it, such as a pipeline.")
    )
    days = forms.TypedChoiceField(label=_lazy("Valid for"), coerce=int, initial=90)
    scopes = forms.MultipleChoiceField(
        label=_lazy("Good for"), widget=forms.CheckboxSelectMultiple, initial=[Scope.READ.value]
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        limit = TOKEN_DAYS.value
        choices = [choice for choice in VALIDITY if choice[0] <= limit]
        self.fields["days"].choices = choices or [(limit, _("%(count)s days") % {"count": limit})]  # type: ignore[attr-defined]
        self.fields["scopes"].choices = [  # type: ignore[attr-defined]
            (scope.value, f"{scope.label} · {SCOPE_HELP[scope]}") for scope in Scope
        ]


def profile(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """The page; POST saves what is not tokens."""
    errors: dict[str, list[Any]] = {}
    if request.method == "POST":
        data = {name: request.POST.get(name, "") for name in ("language", "theme", "timezone")}
        try:
            do_save_preferences(who(request), {**data, "shortcuts": "shortcuts" in request.POST})
        except InvalidInput as error:
            errors = error.errors
        else:
            messages.success(request, _("Your settings are saved."))
            return redirect("admin:profile")
    return _page(site, request, errors=errors)


def make_token(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """POST: a new token. This answer is the only place that ever shows it."""
    if request.method != "POST":
        return redirect("admin:profile")
    form = TokenForm(request.POST)
    made: tuple[ApiToken, str] | None = None
    if form.is_valid():
        try:
            made = tokens.do_create_token(who(request), form.cleaned_data)
        except InvalidInput as error:
            for field, texts in error.errors.items():
                form.add_error(field, [str(text) for text in texts])
        else:
            form = TokenForm()
    return _page(site, request, form=form, made=made)  # the console's pages are never cached


def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    """POST: one of one's own tokens is worthless from now on."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    try:
        tokens.do_revoke_token(who(request), pk)
    except NotFound as error:
        words, status, level = str(error.message), error.http_status, messages.ERROR
    else:
        words, status, level = _("The token is revoked."), 200, messages.SUCCESS
    if request.headers.get("X-Requested-With"):
        return JsonResponse({"message": words, "reload": status == 200}, status=status)
    messages.add_message(request, level, words)
    return redirect("admin:profile")


def _page(
    site: AdminSite,
    request: HttpRequest,
    *,
    errors: dict[str, list[Any]] | None = None,
    form: TokenForm | None = None,
    made: tuple[ApiToken, str] | None = None,
) -> HttpResponse:
    rows = list(tokens.tokens_of(who(request)))
    context = {
        **site.each_context(request),
        "title": _("My settings"),
        "errors": errors or {},
        "languages": settings.LANGUAGES,
        "themes": zip(THEMES, (_("System"), _("Light"), _("Dark")), strict=True),
        "zones": time_zones(),
        "preference": request.preference,  # type: ignore[attr-defined]
        "server_zone": settings.TIME_ZONE,
        "tokens": [
            {"row": row, "scopes": tokens.labels(row.scope_list), "soon": _ends_soon(row)} for row in rows
        ],
        "token_form": form or TokenForm(),
        "made": made,
    }
    return TemplateResponse(request, "console/profile.html", context)


def _ends_soon(token: ApiToken) -> bool:
    ends = tokens.expires_at(token)
    return ends is not None and (ends - timezone.now()).days < 14
