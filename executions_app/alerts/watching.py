"""The short way to a task's alerts, as its form has it: who is told when it fails or times out."""

from django.db import transaction
from django.db.models import Count
from django.utils.translation import gettext as _

from quartzflow.errors import InvalidInput
from quartzflow.permissions import User
from tasks_app.models import Task

from .actions import do_save_rule
from .choices import Kind, Scope
from .models import AlertRule

KINDS = (Kind.FAILURE, Kind.TIMEOUT)


def may_watch(user: User) -> bool:
    """Whether the user may make and change rules."""
    return user.has_perms(("executions_app.add_alertrule", "executions_app.change_alertrule"))


def own_rules(task: Task) -> dict[str, AlertRule]:
    """Kind → the oldest rule about failures or timeouts of this task, and of no other."""
    alone = AlertRule.objects.annotate(named=Count("tasks")).filter(
        scope=Scope.TASKS, kind__in=KINDS, named=1
    )
    rules = AlertRule.objects.filter(pk__in=alone.values("pk"), tasks=task).prefetch_related("channels")
    return {rule.kind: rule for rule in rules.order_by("-pk")}


def told(task: Task) -> list[int]:
    """The channels that the task's own rules tell."""
    return sorted({channel.pk for rule in own_rules(task).values() for channel in rule.channels.all()})


def do_watch_task(user: User, task: Task, channel_ids: list[int]) -> None:
    """Let these channels be told when the task fails or times out; none: the alerts are shown in the console only.

    Raises InvalidInput with `channel_ids`, NotAllowed.
    """
    own = own_rules(task)
    if not own and not channel_ids:
        return
    try:
        with transaction.atomic():
            for kind in KINDS:
                rule = own.get(kind)
                new = {
                    "kind": kind.value,
                    "scope": Scope.TASKS.value,
                    "task_ids": [task.pk],
                    "name": _name(task, kind),
                }
                do_save_rule(user, rule, {**({} if rule else new), "channel_ids": channel_ids})
    except InvalidInput as error:
        words = error.errors.get("channel_ids") or [
            str(text) for texts in error.errors.values() for text in texts
        ]
        raise InvalidInput({"channel_ids": words}) from None


def _name(task: Task, kind: Kind) -> str:
    """A name that no other rule has."""
    words = _("%(name)s timed out") if kind == Kind.TIMEOUT else _("%(name)s failed")
    name = words % {"name": task.name[:40]}
    taken = AlertRule.objects.filter(name=name).exists()
    return f"{name} #{task.pk}" if taken else name
