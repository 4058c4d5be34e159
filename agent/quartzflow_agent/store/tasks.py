"""The tasks as the server last described them (FR-2.2, FR-2.3)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Dict, List, Union

from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store.database import get_meta, set_meta
from quartzflow_agent.store.records import CachedTask

CONFIG_VERSION = "config_version"


@dataclass
class Changes:
    """What a configuration changed."""

    version: int  # now in force
    tasks: Dict[str, task_pb2.TaskConfig] = field(default_factory=dict)  # new or changed
    removed: List[str] = field(default_factory=list)


def version(db: sqlite3.Connection) -> int:
    """The configuration version in force; 0: none yet."""
    return int(get_meta(db, CONFIG_VERSION, "0"))


def apply(
    db: sqlite3.Connection, config: Union[task_pb2.TaskConfigPush, task_pb2.TaskConfigResponse], now: int
) -> Changes:
    """Take over what the server says; an older version than ours is ignored, unless it is the whole. now: ms."""
    current = version(db)
    full = config.action == task_pb2.FULL_SYNC
    if config.version < current and not full:
        return Changes(current)
    changes = Changes(config.version)
    deleting = config.action == task_pb2.DELETE
    removed = {*config.deleted_task_ids, *(task.id for task in config.tasks if deleting)}
    kept = [] if deleting else list(config.tasks)
    held = {row["task_id"]: row for row in db.execute("SELECT task_id, config, changed_at FROM tasks")}
    if full:
        removed |= held.keys() - {task.id for task in kept}
    for task in kept:
        text = task.SerializeToString(deterministic=True)
        if task.id in held and held[task.id]["config"] == text:
            continue
        changes.tasks[task.id] = task
        begun = held[task.id]["changed_at"] if task.id in held and _goes_on(held[task.id], task) else now
        db.execute(
            "INSERT INTO tasks (task_id, name, version, config, changed_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (task_id) DO UPDATE SET name = excluded.name, version = excluded.version,"
            " config = excluded.config, changed_at = excluded.changed_at",
            (task.id, task.name, task.version, text, begun),
        )
    changes.removed = sorted(removed & held.keys())
    db.executemany("DELETE FROM tasks WHERE task_id = ?", [(task_id,) for task_id in changes.removed])
    set_meta(db, CONFIG_VERSION, str(config.version))
    return changes


def _goes_on(held: sqlite3.Row, task: task_pb2.TaskConfig) -> bool:
    """Whether the task fires on as it did: an edit of other things must not cost it a firing."""
    before = task_pb2.TaskConfig.FromString(held["config"])
    return task.schedule_since > 0 and (before.schedule_since, before.enabled, before.local_firing) == (
        task.schedule_since,
        task.enabled,
        task.local_firing,
    )


def all_tasks(db: sqlite3.Connection) -> List[CachedTask]:
    """Every cached task, by name."""
    rows = db.execute("SELECT config, changed_at, fired_at FROM tasks ORDER BY name, task_id")
    return [
        CachedTask(task_pb2.TaskConfig.FromString(row["config"]), row["changed_at"], row["fired_at"])
        for row in rows
    ]


def set_fired(db: sqlite3.Connection, task_id: str, scheduled_at: int) -> None:
    """A scheduled firing with this nominal time (ms) is known here."""
    db.execute("UPDATE tasks SET fired_at = max(fired_at, ?) WHERE task_id = ?", (scheduled_at, task_id))
