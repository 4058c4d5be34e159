"""Every error of the API becomes JSON here: {"code": <non-zero>, "message": …, "errors": {field: […]}}."""

from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from quartzflow.errors import Code, InvalidInput, QuartzError

log = structlog.get_logger(__name__)

# DRF's own errors; ours carry their code themselves.
CODES = {
    status.HTTP_400_BAD_REQUEST: Code.INVALID_INPUT,
    status.HTTP_401_UNAUTHORIZED: Code.NOT_AUTHENTICATED,
    status.HTTP_403_FORBIDDEN: Code.NOT_ALLOWED,
    status.HTTP_404_NOT_FOUND: Code.NOT_FOUND,
    status.HTTP_405_METHOD_NOT_ALLOWED: Code.METHOD_NOT_ALLOWED,
    status.HTTP_406_NOT_ACCEPTABLE: Code.NOT_ACCEPTABLE,
    status.HTTP_415_UNSUPPORTED_MEDIA_TYPE: Code.UNSUPPORTED_MEDIA_TYPE,
    status.HTTP_429_TOO_MANY_REQUESTS: Code.TOO_MANY_REQUESTS,
}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER. Returns None for what is a defect of ours: Django answers 500 and logs it."""
    headers: dict[str, str] = {}
    errors: dict[str, list[Any]] = {}
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, QuartzError):
        code, http_status, message = error.code, error.http_status, str(error.message)
        if isinstance(error, InvalidInput):
            errors = error.errors
            message = (
                message + " " + "; ".join(f"{name}: {texts[0]}" for name, texts in errors.items() if texts)
            )
    elif isinstance(error, exceptions.APIException):
        http_status = error.status_code
        code = CODES.get(http_status, Code.OTHER)
        if isinstance(error, exceptions.ValidationError):
            errors = _fields(error.detail)
            message = (
                _("Some fields are not valid.") + " " + "; ".join(f"{k}: {v[0]}" for k, v in errors.items())
            )
        else:
            message = str(error.detail)
        if challenge := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = challenge
        if wait := getattr(error, "wait", None):
            headers["Retry-After"] = str(int(wait))
    else:
        return None
    set_rollback()
    body: dict[str, Any] = {"code": int(code), "message": message}
    if errors:
        body["errors"] = {name: [str(text) for text in texts] for name, texts in errors.items()}
    return Response(body, status=http_status, headers=headers)


def _fields(detail: Any) -> dict[str, list[Any]]:
    if isinstance(detail, dict):
        return {str(k): v if isinstance(v, list) else [v] for k, v in detail.items()}
    return {"non_field_errors": detail if isinstance(detail, list) else [detail]}
