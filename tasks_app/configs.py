"""Configuration versions, and what an agent must hold (FR-2).

Every committed change of a task, of its groups or of a client's group takes the next version. The version row is
locked until the change commits, so versions become visible in their order and a cursor never misses one.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Min, Q
from quartzflow_agent.protocol import task_pb2

from groups_app.models import Client
from groups_app.selectors import live_bridges
from quartzflow import bridges

from .choices import ChangeAction, ExecutorType, Routing
from .models import ConfigChange, ConfigVersion, Task, TaskGroup
from .secrets import Values


def current_version() -> int:
    """The newest committed configuration version; 0 before the first change."""
    return ConfigVersion.objects.values_list("version", flat=True).first() or 0


def next_version() -> int:
    """Take the next version; call it inside the transaction of the change.

    Raises TransactionManagementError outside of one.
    """
    rows = ConfigVersion.objects.select_for_update().filter(pk=1)
    if not rows.update(version=F("version") + 1):
        ConfigVersion.objects.get_or_create(pk=1)
        rows.update(version=F("version") + 1)
    return ConfigVersion.objects.values_list("version", flat=True).get(pk=1)


def record_task_changes(version: int, changes: Iterable[tuple[Task, set[int] | None, ChangeAction]]) -> None:
    """Log which tasks changed at `version`, each with the groups it touched before or after (None: every host)."""
    ConfigChange.objects.bulk_create(
        ConfigChange(
            version=version,
            action=action,
            task_id=task.pk,
            group_ids=None if groups is None else sorted(groups),
        )
        for task, groups, action in changes
    )
    notify_config(version)


def record_client_changes(client_ids: Iterable[str]) -> int:
    """Log that clients moved to another group; they get their whole configuration anew. Returns the version."""
    version = next_version()
    ConfigChange.objects.bulk_create(
        ConfigChange(version=version, action=ChangeAction.CLIENT, client_id=client_id)
        for client_id in client_ids
    )
    notify_config(version)
    return version


def notify_config(version: int) -> None:
    """After commit, tell every live bridge that there is a newer configuration."""

    def notify() -> None:
        bridges.send_all(
            [(bridge.bridge_id, {"type": "config", "version": version}) for bridge in live_bridges()]
        )

    transaction.on_commit(notify)


def wire_config(config: dict[str, Any]) -> dict[str, str]:
    """An executor configuration as the wire has it: text stays, everything else is its JSON form."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in config.items()
        if value is not None
    }


def fires_locally(task: Task) -> bool:
    """Whether an agent may fire the task by itself: only when every host of its groups runs it anyway, at once."""
    return task.routing == Routing.BROADCAST and not task.selector and not task.wave_size


def _ms(moment: Any) -> int:
    return int(moment.timestamp() * 1000) if moment else 0


def task_configs(tasks: list[Task]) -> list[task_pb2.TaskConfig]:
    """Tasks as their agents hold them."""
    secrets = Values(tasks)
    return [_task_config(task, secrets) for task in tasks]


def task_config(task: Task) -> task_pb2.TaskConfig:
    """One task as its agents hold it."""
    return task_configs([task])[0]


def _task_config(task: Task, secrets: Values) -> task_pb2.TaskConfig:
    return task_pb2.TaskConfig(
        id=str(task.pk),
        name=task.name,
        executor_type=ExecutorType(task.executor_type).wire,
        executor_config=wire_config(task.executor_config) | secrets.wire(task),
        cron_expr=task.cron_expr,
        timeout=task.timeout,
        retry_count=task.retry_count,
        retry_interval=task.retry_interval,
        retry_max_interval=task.retry_max_interval,
        enabled=task.is_enabled,
        version=task.version,
        schedule_type=task.schedule_type,
        timezone=task.timezone,
        interval_seconds=task.interval_seconds or 0,
        run_at=_ms(task.run_at),
        anchor_at=_ms(task.anchor_at),
        start_at=_ms(task.start_at),
        end_at=_ms(task.end_at),
        misfire_policy=task.misfire_policy,
        misfire_grace=task.misfire_grace,
        concurrency=task.concurrency,
        concurrency_policy=task.concurrency_policy,
        local_firing=fires_locally(task),
        spread_seconds=task.spread_seconds,
        schedule_since=_ms(task.schedule_since),
        calendar=task.calendar.resolved if task.calendar else "",
        calendar_mode=task.calendar_mode if task.calendar else "",
    )


def tasks_of_group(group_id: int | None) -> list[Task]:
    """Every task that hosts of the group run: bound to it, or global."""
    bound = TaskGroup.objects.filter(group_id=group_id or 0).values("task_id")
    return list(Task.objects.filter(Q(pk__in=bound) | Q(is_global=True)).select_related("calendar"))


def full_config(group_id: int | None) -> task_pb2.TaskConfigResponse:
    """All that a host of the group must hold, at the current version."""
    # The version is read first: a change in between makes the agent pull once more, never miss it.
    version = current_version()
    tasks = task_configs(tasks_of_group(group_id))
    return task_pb2.TaskConfigResponse(version=version, action=task_pb2.FULL_SYNC, tasks=tasks)


def group_delta(group_id: int | None, since: int) -> task_pb2.TaskConfigResponse:
    """What changed for a host of the group after version `since`; everything when that is too long ago."""
    version = current_version()
    if since == version:
        return task_pb2.TaskConfigResponse(version=version, action=task_pb2.UPDATE)
    oldest = ConfigChange.objects.aggregate(oldest=Min("version"))["oldest"]
    if since <= 0 or since > version or oldest is None or oldest > since + 1:
        return full_config(group_id)
    changed: set[Any] = set(
        ConfigChange.objects.filter(version__gt=since, version__lte=version)
        .exclude(task_id=None)
        .values_list("task_id", flat=True)
    )
    if len(changed) > settings.QF_CONFIG_CHANGES_KEPT // 2:
        return full_config(group_id)
    bound = set(
        TaskGroup.objects.filter(group_id=group_id or 0, task_id__in=changed).values_list(
            "task_id", flat=True
        )
    )
    rows = Task.objects.filter(pk__in=changed).select_related("calendar")
    tasks = [task for task in rows if task.is_global or task.pk in bound]
    held = {task.pk for task in tasks}
    return task_pb2.TaskConfigResponse(
        version=version,
        action=task_pb2.UPDATE,
        tasks=task_configs(tasks),
        deleted_task_ids=[str(task_id) for task_id in sorted(changed - held)],
    )


def config_delta(client_id: str, since: int) -> task_pb2.TaskConfigResponse:
    """What a client must change to get from version `since` (0: nothing held) to the current one.

    Raises Client.DoesNotExist for a client the server does not know.
    """
    group_id = Client.objects.values_list("group_id", flat=True).get(client_id=client_id)
    moved = ConfigChange.objects.filter(
        action=ChangeAction.CLIENT, client_id=client_id, version__gt=since
    ).exists()
    return full_config(group_id) if moved else group_delta(group_id, since)


def wanted_versions(clients: Sequence[Client]) -> dict[str, int]:
    """For each client id the newest version that changed anything for that client; its own, when it holds that.

    Changes that concern other groups alone need not reach it. Beyond the changes that are kept, any counts.
    """
    current = current_version()
    found = {client.client_id: client.task_version for client in clients}
    behind = [client for client in clients if client.task_version < current]
    if not behind:
        return found
    oldest = ConfigChange.objects.aggregate(oldest=Min("version"))["oldest"]
    everywhere, by_group, by_client = 0, dict[int, int](), dict[str, int]()
    changes = ConfigChange.objects.filter(version__gt=min(client.task_version for client in behind))
    # In the order of versions: what comes later is newer.
    for version, action, client_id, group_ids in changes.order_by("version").values_list(
        "version", "action", "client_id", "group_ids"
    ):
        if action == ChangeAction.CLIENT:
            by_client[client_id] = version
        elif group_ids is None:
            everywhere = version
        else:
            by_group.update(dict.fromkeys(group_ids, version))
    for client in behind:
        own = client.task_version
        if own <= 0 or oldest is None or oldest > own + 1:
            found[client.client_id] = current
        else:
            newest = (everywhere, by_group.get(client.group_id or 0, 0), by_client.get(client.client_id, 0))
            found[client.client_id] = max(own, *newest)
    return found


def forget_old_changes() -> int:
    """Keep the newest settings.QF_CONFIG_CHANGES_KEPT versions; returns how many rows went."""
    limit = current_version() - settings.QF_CONFIG_CHANGES_KEPT
    deleted, _ = ConfigChange.objects.filter(version__lte=limit).delete()
    return deleted
