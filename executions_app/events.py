"""Live events: typed, after commit, coalesced to five a second per group, and sent only where somebody watches.

Groups of the channel layer: `feed` (every execution; for those who may see all), `task.<id>`, `execution.<id>`; and
`hosts`, which says only that some host has come or gone: pages ask for what they may show.
"""

import threading
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypedDict

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.core.cache import cache
from redis.exceptions import RedisError

from quartzflow.execution_status import ExecutionStatus

from .models import Execution

log = structlog.get_logger(__name__)

FEED = "feed"
HOSTS = "hosts"
INTERVAL = 0.2  # seconds between two messages to one group
HOSTS_CHANGED = "hosts-changed"  # the cache key that says that some host came or went a moment ago
A_MOMENT = 15  # seconds: longer than a page takes from its making to its subscription
WATCH_TTL = 60  # seconds; a consumer renews its mark every WATCH_TTL / 3


class Row(TypedDict):
    """An execution as pages see it; times are ISO 8601 in UTC, duration is in ms."""

    id: int
    execution_id: str
    run_id: str
    task_id: int
    task_name: str
    client_id: str
    execution_type: int
    status: int
    status_name: str
    scheduled_time: str | None
    start_time: str | None
    end_time: str | None
    next_retry_at: str | None
    duration: int | None
    exit_code: int | None
    retry_count: int
    max_retries: int
    failure_reason: str


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def row(execution: Execution) -> Row:
    return Row(
        id=execution.pk,
        execution_id=execution.execution_id,
        run_id=execution.run_id,
        task_id=execution.task_id,
        task_name=execution.task_name,
        client_id=execution.client_id,
        execution_type=execution.execution_type,
        status=execution.status,
        status_name=ExecutionStatus(execution.status).name,
        scheduled_time=_iso(execution.scheduled_time),
        start_time=_iso(execution.start_time),
        end_time=_iso(execution.end_time),
        next_retry_at=_iso(execution.next_retry_at),
        duration=execution.duration,
        exit_code=execution.exit_code,
        retry_count=execution.retry_count,
        max_retries=execution.max_retries,
        failure_reason=execution.failure_reason,
    )


def task_group(task_id: int) -> str:
    return f"task.{task_id}"


def execution_group(pk: int) -> str:
    return f"execution.{pk}"


def watch_key(group: str) -> str:
    """The cache key that says that somebody watches the group."""
    return f"watch:{group}"


class Publisher:
    """Collects what changed and sends it, at most once per INTERVAL and group. Thread-safe; never raises."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._rows: dict[int, Row] = {}
        self._outputs: list[tuple[int, int, str]] = []
        self._hosts = False
        self._timer: threading.Timer | None = None
        self._last = 0.0

    def executions(self, rows: Iterable[Row]) -> None:
        """These executions are new or have changed."""
        with self._lock:
            self._rows.update((r["id"], r) for r in rows)
            self._schedule()

    def output(self, pk: int, offset: int, text: str) -> None:
        """An execution's output has grown: `text` begins at byte `offset` of its UTF-8 form."""
        with self._lock:
            self._outputs.append((pk, offset, text))
            self._schedule()

    def hosts(self) -> None:
        """Some host has come or gone."""
        with self._lock:
            self._hosts = True
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is None and (self._rows or self._outputs or self._hosts):
            wait = max(0.0, self._last + INTERVAL - time.monotonic())
            self._timer = threading.Timer(wait, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def flush(self) -> None:
        """Send what has been collected, now."""
        # One after another: on a busy machine the next one would overtake, and its news be taken back.
        with self._sending:
            with self._lock:
                rows, self._rows = self._rows, {}
                outputs, self._outputs = self._outputs, []
                hosts, self._hosts = self._hosts, False
                self._timer = None
                self._last = time.monotonic()
            if not rows and not outputs and not hosts:
                return
            try:
                _send(list(rows.values()), outputs, hosts)
            except (RedisError, OSError) as error:
                # Pages catch up by their own snapshot when they reconnect.
                log.warning("live events not sent", error=str(error), executions=len(rows))


def _send(rows: list[Row], outputs: list[tuple[int, int, str]], hosts: bool) -> None:
    messages: dict[str, dict[str, Any]] = {HOSTS: {"type": "hosts.changed"}} if hosts else {}
    for r in rows:
        for group in (FEED, task_group(r["task_id"]), execution_group(r["id"])):
            messages.setdefault(group, {"type": "executions.changed", "items": []})["items"].append(r)
    increments: dict[str, list[tuple[int, int, str]]] = {}
    for item in outputs:
        increments.setdefault(execution_group(item[0]), []).append(item)
    if hosts:
        cache.set(HOSTS_CHANGED, 1, A_MOMENT)
    watched = cache.get_many([watch_key(group) for group in {*messages, *increments}])

    async def send() -> None:
        layer = get_channel_layer()
        for group, message in messages.items():
            if watch_key(group) in watched:
                await layer.group_send(group, message)
        for group, items in increments.items():
            if watch_key(group) in watched:
                await layer.group_send(group, {"type": "output.grown", "items": items})

    async_to_sync(send)()


publisher = Publisher()


def publish_executions(pks: Iterable[int]) -> None:
    """Tell watchers that these committed rows are new or have changed; reads each once."""
    pks = list(pks)
    for start in range(0, len(pks), 500):
        publisher.executions(row(e) for e in Execution.objects.filter(pk__in=pks[start : start + 500]))
