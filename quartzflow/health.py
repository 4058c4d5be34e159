"""Health for load balancers and people: /healthz (this process lives) and /readyz (the parts work together).

Both answer without an account, so they tell which part is missing and never why: that is in the log.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypedDict

import redis
import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, connection, connections
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from kombu.exceptions import OperationalError as BrokerError

from groups_app.selectors import live_bridges

from .celery import app
from .lease import scheduler_alive

PART_TIMEOUT = 3.0  # seconds that one part may take to answer
PING_TIMEOUT = 1.0  # seconds that workers have to answer
PING_KEPT = 2.0  # seconds that an answer counts

log = structlog.get_logger(__name__)


class Part(TypedDict):
    """One part's state."""

    ok: bool
    ms: float  # how long it took to find out


@require_safe
@never_cache
async def healthz(request: HttpRequest) -> JsonResponse:
    """200 as long as this process answers."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
async def readyz(request: HttpRequest) -> JsonResponse:
    """200 when database, Redis, scheduler, a bridge and a worker are there; else 503. `parts` says which are."""
    names = list(CHECKS)
    parts = dict(zip(names, await asyncio.gather(*map(_examine, names)), strict=True))
    ready = all(part["ok"] for part in parts.values())
    response = JsonResponse(
        {"status": "ok" if ready else "unavailable", "parts": parts}, status=200 if ready else 503
    )
    _tell([name for name, part in parts.items() if not part["ok"]])
    if not ready:
        response._has_been_logged = True  # type: ignore[attr-defined] # Django would call it an error of ours
    return response


_told: list[str] = []  # what was missing when it was last told


def _tell(missing: list[str]) -> None:
    """Log what is missing once, not at each of a load balancer's questions."""
    global _told
    if missing != _told:
        _told = missing
        log.info("not ready" if missing else "ready", missing=missing)


async def _examine(name: str) -> Part:
    started = time.perf_counter()
    try:
        # A thread of its own: one that hangs must not hold up the requests of others.
        ok = await asyncio.wait_for(sync_to_async(_guarded, thread_sensitive=False)(name), PART_TIMEOUT)
    except TimeoutError:
        log.warning("a part does not answer", part=name, seconds=PART_TIMEOUT)
        ok = False
    return {"ok": ok, "ms": round((time.perf_counter() - started) * 1000, 1)}


def _guarded(name: str) -> bool:
    try:
        return CHECKS[name]()
    except (DatabaseError, redis.RedisError, BrokerError, OSError) as error:
        log.warning("a part is missing", part=name, error=str(error))
        return False
    finally:
        connections.close_all()  # the thread may never be used again


def database_answers() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True


def redis_answers() -> bool:
    with redis.Redis.from_url(settings.ENV.redis_url, socket_timeout=1, socket_connect_timeout=1) as client:
        return bool(client.ping())


def bridge_lives() -> bool:
    return bool(live_bridges())


class WorkerPing:
    """Whether any Celery worker answers. A yes is remembered for a moment: asking reaches every worker there is."""

    def __init__(self, ping: Callable[[], bool]) -> None:
        self._ping = ping
        self._lock = threading.Lock()
        self._answered_at = float("-inf")  # monotonic

    def __call__(self) -> bool:
        with self._lock:
            if time.monotonic() < self._answered_at + PING_KEPT:
                return True
            answers = self._ping()
            if answers:
                self._answered_at = time.monotonic()
            return answers


worker_answers = WorkerPing(lambda: bool(app.control.ping(timeout=PING_TIMEOUT, limit=1)))

CHECKS: dict[str, Callable[[], bool]] = {
    "database": database_answers,
    "redis": redis_answers,
    "scheduler": scheduler_alive,
    "bridge": bridge_lives,
    "worker": worker_answers,
}
