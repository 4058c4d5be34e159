"""People and things that tests of the server use again and again."""

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Group as Role
from django.contrib.auth.models import User

from groups_app import actions, presence
from groups_app.models import Client, Group
from tasks_app.actions import do_create_task
from tasks_app.models import Task

BRIDGE = "bridge-1"


def admin(name: str = "admin") -> User:
    """Somebody who may do everything."""
    user = User.objects.filter(username=name).first()
    return user or User.objects.create_superuser(name, password=None)


def stranger(name: str = "stranger") -> User:
    """Somebody with an account and no rights."""
    user = User.objects.filter(username=name).first()
    return user or User.objects.create_user(name)


def group(name: str = "default") -> Group:
    return Group.objects.get_or_create(name=name)[0]


def online_client(client_id: str = "web-1", in_group: Group | None = None, session: str = "s1") -> Client:
    """A client that has just registered on BRIDGE."""
    presence.bridge_started(BRIDGE, "127.0.0.1:8474") if not live() else None
    _, token = actions.do_create_enrollment_token(None, in_group or group())
    outcome = presence.register(
        presence.RegisterInfo(
            client_id=client_id, bridge_id=BRIDGE, session_id=session, ip="127.0.0.1", enrollment_token=token
        )
    )
    assert outcome.accepted, outcome
    return Client.objects.get(client_id=client_id)


def live() -> bool:
    from groups_app.selectors import live_bridges

    return bool(live_bridges())


def task(name: str = "job", **fields: Any) -> Task:
    """An enabled shell task on the default group, every minute."""
    data: dict[str, Any] = {
        "name": name,
        "executor_config": {"command": "date"},
        "cron_expr": "* * * * *",
        "group_ids": [group().pk],
    }
    return do_create_task(admin(), {**data, **fields})


def at(*parts: int) -> datetime:
    """A moment in UTC: at(2026, 1, 1, 12, 0)."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def role(name: str) -> Role:
    """One of the roles out of the box."""
    return Role.objects.get(name=name)
