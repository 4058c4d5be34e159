"""The WebSocket behind every live page: /ws/live/.

The page says what it shows; each object is checked against the user's permissions, then a snapshot is sent,
then changes.
Client → server: {"action": "subscribe" | "unsubscribe", "executions": [ids], "tasks": [ids], "feed": true, "log": id,
"hosts": true}.
Server → client: snapshot, executions, output, hosts (some have come or gone), denied.
"""

import asyncio
import contextlib
import json
from collections.abc import Collection
from functools import cached_property
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.core.cache import cache
from django.utils import translation

from groups_app.selectors import bridges_of
from quartzflow import bridges
from quartzflow.execution_status import ExecutionStatus
from quartzflow.middleware import CODES
from quartzflow.models import UserPreference
from quartzflow.permissions import visible
from tasks_app.models import Task

from .choices import FailureReason
from .events import FEED, HOSTS, HOSTS_CHANGED, WATCH_TTL, Row, execution_group, row, task_group, watch_key
from .models import Execution
from .selectors import executions_for, log_of, may_read_log

MAX_IDS = 500  # objects of one kind that one message may name
# Groups of single tasks and executions that a socket joins. The layer brings a process some hundred messages a second,
# and a list of 100 busy tasks is five a second of each: with more, it joins the feed and picks out what is its own.
FEW = 8
CLOSE_UNAUTHENTICATED = 4401


class Told:
    """What a message of the layer says in one language. All sockets of a process are given the same message, and tell
    the same: what is made for one serves the others."""

    def __init__(self, rows: list[Row], language: str) -> None:
        with translation.override(language):
            self.items = [
                {
                    **row,
                    "status_label": str(ExecutionStatus(row["status"]).label),
                    "reason_label": str(FailureReason(row["failure_reason"]).label)
                    if row["failure_reason"]
                    else "",
                }
                for row in rows
            ]

    @cached_property
    def whole(self) -> str:
        """As JSON, for those who see all."""
        return self._text(self.items)

    def part(self, executions: Collection[int], tasks: Collection[int]) -> str:
        """As JSON, what is of these; "" when nothing is."""
        items = [row for row in self.items if row["id"] in executions or row["task_id"] in tasks]
        return self._text(items) if items else ""

    @staticmethod
    def _text(items: list[dict[str, Any]]) -> str:
        return json.dumps({"event": "executions", "items": items}, ensure_ascii=False)


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """One open page of one user."""

    async def connect(self) -> None:
        user = self.scope["user"]
        if not user.is_authenticated or not user.is_active:
            await self.close(code=CLOSE_UNAUTHENTICATED)
            return
        self.groups_joined: set[str] = set()
        # What is watched; only what this user may see.
        self.feed = False
        self.hosts = False  # whether some have come or gone
        self.executions: set[int] = set()
        self.tasks: set[int] = set()
        self.outputs: set[int] = set()  # executions whose output is to come as it grows
        self.logs: dict[
            int, tuple[str, str]
        ] = {}  # execution pk → (client id, execution id) whose log is read
        self.language = await self._language()
        await self.accept()
        self.keeper = asyncio.create_task(self._keep_watching())

    async def disconnect(self, code: int) -> None:
        if not hasattr(self, "keeper"):
            return
        self.keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.keeper
        for group in self.groups_joined:
            await self.channel_layer.group_discard(group, self.channel_name)
        # The agent is not told: others may read the same log, and without being asked again it forgets.

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if not isinstance(content, dict) or content.get("action") not in ("subscribe", "unsubscribe"):
            await self.send_json({"event": "error", "message": "unknown action"})
            return
        joining = content["action"] == "subscribe"
        executions, tasks = _ids(content.get("executions")), _ids(content.get("tasks"))
        log_id = content.get("log") if isinstance(content.get("log"), int) else None
        if not joining:
            self.executions.difference_update(executions)
            self.tasks.difference_update(tasks)
            self.feed = self.feed and not content.get("feed")
            self.hosts = self.hosts and not content.get("hosts")
            if log_id is not None:
                self.outputs.discard(log_id)
                self.logs.pop(log_id, None)
            await self._join()
            return
        wanted = [*executions, log_id] if log_id is not None else executions
        rows, seen_tasks, may_feed = await self._look_up(wanted, tasks, bool(content.get("feed")))
        # Join before the snapshot is read again by the page: a change in between comes twice, never not at all.
        seen = {r["id"] for r in rows}
        self.executions |= seen
        self.tasks.update(seen_tasks)
        self.feed = self.feed or may_feed
        self.hosts = self.hosts or bool(content.get("hosts"))
        if log_id is not None and log_id in seen:
            self.outputs.add(log_id)
        await self._join()
        rows, _, _ = await self._look_up(wanted, [], False)
        await self.send_json({"event": "snapshot", "executions": Told(rows, self.language).items})
        denied = sorted(set(wanted) - {r["id"] for r in rows}) + sorted(set(tasks) - set(seen_tasks))
        if denied or (content.get("feed") and not may_feed):
            await self.send_json({"event": "denied", "what": denied})
        if content.get("hosts") and await cache.aget(HOSTS_CHANGED):
            await self.send_json({"event": "hosts"})  # it may have been between the page's making and now
        if log_id is not None and any(r["id"] == log_id for r in rows):
            await self._open_log(log_id)

    # --- what the channel layer brings ---

    async def executions_changed(self, event: dict[str, Any]) -> None:
        told: dict[str, Told] = event.setdefault("told", {})
        if self.language not in told:
            told[self.language] = Told(event["items"], self.language)
        text = (
            told[self.language].whole if self.feed else told[self.language].part(self.executions, self.tasks)
        )
        if text:
            await self.send(text_data=text)

    async def output_grown(self, event: dict[str, Any]) -> None:
        for pk, offset, text in event["items"]:
            if pk in self.logs:
                await self.send_json({"event": "output", "execution": pk, "offset": offset, "text": text})

    async def hosts_changed(self, event: dict[str, Any]) -> None:
        await self.send_json({"event": "hosts"})

    # --- steps ---

    @database_sync_to_async
    def _language(self) -> str:
        preference = (
            UserPreference.objects.filter(user=self.scope["user"]).values_list("language", flat=True).first()
        )
        code = preference or self.scope.get("cookies", {}).get(settings.LANGUAGE_COOKIE_NAME, "")
        return code if code in CODES else settings.LANGUAGE_CODE

    @database_sync_to_async
    def _look_up(
        self, executions: list[int], tasks: list[int], feed: bool
    ) -> tuple[list[Row], list[int], bool]:
        user = self.scope["user"]
        rows = [row(e) for e in executions_for(user).filter(pk__in=executions)] if executions else []
        seen = (
            list(visible(user, Task.objects.filter(pk__in=tasks)).values_list("pk", flat=True))
            if tasks
            else []
        )
        return rows, seen, feed and user.has_perm("executions_app.view_execution")

    async def _open_log(self, pk: int) -> None:
        found = await self._read_log(pk)
        if found is None:
            await self.send_json({"event": "denied", "what": [f"log {pk}"]})
            return
        text, self.logs[pk] = found
        await self.send_json(
            {"event": "output", "execution": pk, "offset": 0, "text": text, "snapshot": True}
        )
        await self._watch_log(pk)

    @database_sync_to_async
    def _read_log(self, pk: int) -> tuple[str, tuple[str, str]] | None:
        execution = Execution.objects.filter(pk=pk).first()
        if execution is None or not may_read_log(self.scope["user"], execution):
            return None
        return log_of(execution)["output"], (execution.client_id, execution.execution_id)

    async def _watch_log(self, pk: int) -> None:
        """Ask the agent for increments at once, for the next minute."""
        client_id, execution_id = self.logs[pk]
        holders = await database_sync_to_async(bridges_of)([client_id])
        if client_id in holders:
            message: bridges.LogWatch = {
                "type": "log_watch", "client_id": client_id, "execution_id": execution_id, "watching": True,
            }  # fmt: skip
            await database_sync_to_async(bridges.send)(holders[client_id], message)

    def _groups(self) -> set[str]:
        """What brings what is watched."""
        single = {*map(execution_group, self.executions), *map(task_group, self.tasks)}
        if self.feed or len(single) > FEW:
            single = {FEED}
        return single | {execution_group(pk) for pk in self.outputs} | ({HOSTS} if self.hosts else set())

    async def _join(self) -> None:
        wanted = self._groups()
        for group in wanted - self.groups_joined:
            self.groups_joined.add(group)
            await self.channel_layer.group_add(group, self.channel_name)
        for group in self.groups_joined - wanted:
            self.groups_joined.discard(group)
            await self.channel_layer.group_discard(group, self.channel_name)
        await self._mark()

    async def _mark(self) -> None:
        """Say that somebody watches, so that publishers send at all."""
        if self.groups_joined:
            await cache.aset_many({watch_key(group): 1 for group in self.groups_joined}, WATCH_TTL)

    async def _keep_watching(self) -> None:
        while True:
            await asyncio.sleep(WATCH_TTL / 3)
            await self._mark()
            for pk in list(self.logs):
                await self._watch_log(pk)  # the agent forgets after a while


def _ids(value: Any) -> list[int]:
    """The whole numbers of a list, at most MAX_IDS; anything else is ignored."""
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, int) and not isinstance(item, bool)][:MAX_IDS]
