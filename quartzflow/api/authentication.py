"""Tokens of the API, and what each is good for: checked where a token is read, so that no view can forget it."""

from typing import Any

from django.utils.translation import gettext as _
from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from quartzflow.models import ApiToken
from quartzflow.tokens import needed_scope, note_use


class TokenAuthentication(KnoxAuthentication):
    """knox's, with scopes. `request.auth` is knox's token."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Raises AuthenticationFailed, and PermissionDenied for a token that is not good for the request."""
        found: tuple[Any, Any] | None = super().authenticate(request)
        if found is None:
            return None
        token = ApiToken.objects.get(token=found[1])
        view = request.parser_context["view"] if request.parser_context else None
        action = getattr(view, "action", None) or ""
        body = request.data if action == "batch" else None
        scope = needed_scope(request.method or "", getattr(view, "basename", "") or "", action, body)
        if scope not in token.scope_list:
            raise PermissionDenied(
                _("The token is not good for this: it needs the scope %(scope)s and has %(scopes)s.")
                % {"scope": scope.value, "scopes": token.scopes.replace(",", ", ")}
            )
        note_use(token, request.META.get("REMOTE_ADDR") or "")
        return found


def token_behind(request: Request) -> ApiToken | None:
    """The token that the request came with; None for a session."""
    return ApiToken.objects.select_related("token").get(token=request.auth) if request.auth else None
