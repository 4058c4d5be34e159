"""What went wrong in a page, told by the page, for the server's log (PRD §4.5.6)."""

import json
import time

import redis
import structlog
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest

log = structlog.get_logger(__name__)
MAX_REPORT = 8 * 1024  # bytes of one report
MAX_FIELD = 2000  # characters of each of its fields
MAX_A_MINUTE = 30  # reports of one person
FIELDS = ("message", "source", "stack", "page")


def client_error(request: HttpRequest) -> HttpResponse:
    """POST {message, source, stack, page}: logged, and answered by 204; 400 what is no report, 429 too many.

    It is a view of the console like others: only with an account and by CSRF token, so only from our own pages.
    """
    if request.method != "POST" or len(request.body) > MAX_REPORT:
        return HttpResponseBadRequest()
    try:
        report = json.loads(request.body)
    except ValueError:
        return HttpResponseBadRequest()
    if not isinstance(report, dict):
        return HttpResponseBadRequest()
    if _too_many(request.user.pk):
        return HttpResponse(status=429, headers={"Retry-After": "60"})
    fields = {name: str(report.get(name, ""))[:MAX_FIELD] for name in FIELDS}
    log.warning("page error", user=request.user.get_username(), **fields)
    return HttpResponse(status=204)


def _too_many(user: int | None) -> bool:
    key = f"page-errors:{user}:{int(time.time() // 60)}"
    try:
        cache.add(key, 0, 120)
        return cache.incr(key) > MAX_A_MINUTE
    except (redis.RedisError, ValueError) as error:
        # Where nobody can count, the log is not left open to a flood: the page's error is lost, and this says so.
        log.warning("page error not counted, and dropped", error=str(error))
        return True
