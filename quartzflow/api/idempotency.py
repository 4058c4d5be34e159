"""Idempotency-Key: a request that may be sent again without being done again.

The key's row is inserted in the transaction that does the work. Another request with the same key waits for that
transaction, then finds the row and gets the answer that it holds; a request that failed leaves none behind.
"""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from quartzflow.errors import Conflict, InvalidInput
from quartzflow.models import IdempotencyKey

from .requests import user_of

HEADER = "Idempotency-Key"
KEY = re.compile(r"[\x21-\x7e]{1,128}\Z")
KEPT = timedelta(hours=24)
PARAMETER = OpenApiParameter(
    HEADER, str, OpenApiParameter.HEADER,
    description="Up to 128 characters. The same request with the same key within 24 hours is done once and answered the"
    " same each time (with Idempotency-Replayed: true); another request with that key is refused with 409.",
)  # fmt: skip


def idempotent(handler: Callable[..., Response]) -> Callable[..., Response]:
    """For a view's method: honour the header where it is sent."""

    @wraps(handler)
    def once(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return handler(view, request, *args, **kwargs)
        if not KEY.match(key):
            raise InvalidInput({HEADER: [_("1 to 128 visible ASCII characters.")]})
        user, fingerprint = user_of(request), _fingerprint(request)
        with transaction.atomic():
            IdempotencyKey.objects.filter(user=user, key=key, created_at__lt=timezone.now() - KEPT).delete()
            row, new = IdempotencyKey.objects.get_or_create(
                user=user, key=key, defaults={"fingerprint": fingerprint, "status": 0, "answer": None}
            )
            if not new:
                if row.fingerprint != fingerprint:
                    raise Conflict(_("The Idempotency-Key was used for another request; take a new one."))
                return Response(row.answer, status=row.status, headers={"Idempotency-Replayed": "true"})
            response = handler(view, request, *args, **kwargs)
            row.status, row.answer = response.status_code, json.loads(JSONRenderer().render(response.data))
            row.save(update_fields=["status", "answer"])
        return response

    return once


def _fingerprint(request: Request) -> str:
    """Of what the request asks for: method, path and body, however the body is spaced."""
    body = json.dumps(request.data, sort_keys=True, ensure_ascii=True, default=str)
    path = request.get_full_path().replace("/?", "?").rstrip("/")
    return hashlib.sha256(f"{request.method} {path}\n{body}".encode()).hexdigest()


def forget_old_keys() -> int:
    """Drop keys that are older than KEPT; returns how many."""
    return IdempotencyKey.objects.filter(created_at__lt=timezone.now() - KEPT).delete()[0]
