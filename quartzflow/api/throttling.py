"""How often one token, or one person with a session, may ask (the system setting api_rate)."""

import time
from typing import Any

import redis
import structlog
from django.core.cache import cache
from knox.models import AuthToken
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from quartzflow.declared_settings import API_RATE

WINDOW = 60  # seconds
log = structlog.get_logger(__name__)


class RateLimit(BaseThrottle):
    """Counts in Redis, in fixed minutes: one step up, whatever the number of processes."""

    def allow_request(self, request: Request, view: Any) -> bool:
        limit = API_RATE.value
        if not limit:
            return True
        key = f"rate:{self._who(request)}:{int(time.time() // WINDOW)}"
        try:
            cache.add(key, 0, 2 * WINDOW)
            return cache.incr(key) <= limit
        except (redis.RedisError, ValueError) as error:
            # Without Redis nobody can count; that the API answers matters more.
            log.warning("request not counted", error=str(error))
            return True

    def wait(self) -> float:
        """Seconds until the next minute begins, rounded up."""
        return float(int(WINDOW - time.time() % WINDOW) + 1)

    def _who(self, request: Request) -> str:
        if isinstance(request.auth, AuthToken):
            return f"token:{request.auth.pk[:32]}"
        if request.user and request.user.is_authenticated:
            return f"user:{request.user.pk}"
        return f"address:{request.META.get('REMOTE_ADDR', '')}"
