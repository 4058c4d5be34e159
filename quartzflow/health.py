"""Health for load balancers and people: /healthz (this process answers) and /readyz (the whole product works)."""

import threading
import time
from collections.abc import Callable
from typing import Any

from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from groups_app.selectors import live_bridges

from .celery import app
from .lease import scheduler_alive

WORKER_TTL = 2.0  # seconds that an answer about the workers is good for: a ping costs a broadcast
WORKER_TIMEOUT = 0.5  # seconds to wait for the first worker's answer

_workers_lock = threading.Lock()
_workers_seen: tuple[float, int] = (0.0, 0)


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 while this process answers at all. No authentication, no other part is asked."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Each part with its state; 503 when one is missing. No authentication; says nothing that helps an attacker."""
    checks = {"database": _database, "redis": _redis, "scheduler": _scheduler, "bridge": _bridges, "worker": _workers}
    parts = {name: _ask(check) for name, check in checks.items()}
    ready = all(part["ok"] for part in parts.values())
    return JsonResponse({"status": "ok" if ready else "unavailable", "parts": parts}, status=200 if ready else 503)


def _ask(check: Callable[[], str]) -> dict[str, Any]:
    """What a check says, or the kind of error it met: its text may hold addresses and names."""
    try:
        problem = check()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a part, it is not ready
        problem = type(error).__name__
    return {"ok": not problem, **({"problem": problem} if problem else {})}


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return ""


def _redis() -> str:
    cache.set("health", 1, 5)
    return "" if cache.get("health") == 1 else "does not keep what it is given"


def _scheduler() -> str:
    return "" if scheduler_alive() else "no beat holds the lease"


def _bridges() -> str:
    return "" if live_bridges() else "no bridge is alive"


def _workers() -> str:
    global _workers_seen
    with _workers_lock:
        asked, count = _workers_seen
        if time.monotonic() - asked > WORKER_TTL:
            count = len(app.control.ping(timeout=WORKER_TIMEOUT, limit=1) or [])
            _workers_seen = (time.monotonic(), count)
    return "" if count else "no worker answers"
