"""Which secrets tasks use, who may use them there, and their values on the way to the agents that run the task."""

import json
from collections.abc import Iterable
from typing import Any

from django.db.models import TextField
from django.db.models.functions import Cast
from django.utils.translation import gettext as _
from quartzflow_agent.substitution import SECRETS, SubstitutionError, find

from quartzflow import secrets
from quartzflow.models import Secret
from quartzflow.permissions import User, allowed

from .choices import ExecutorType
from .models import Task

SETTING = "secrets"  # of the executor's configuration on the wire: name → value
# Where they may stand. A command is seen by everybody on the host who lists processes, an address by every proxy.
PLACES = {
    ExecutorType.SHELL: {"env"},
    ExecutorType.HTTP: {"headers", "body", "auth"},
    ExecutorType.PLUGIN: set[str](),
}
HINTS = {
    ExecutorType.SHELL: "env",
    ExecutorType.HTTP: "headers, body, auth",
}


def names_in(value: Any) -> set[str]:
    """The secrets that a text, or anything with texts in it, asks for; none for what is not written as it must be."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        return {name for namespace, name in find(text) if namespace == SECRETS}
    except SubstitutionError:
        return set()


def check_secrets(user: User, task: Task, executor: ExecutorType) -> list[str]:
    """What is wrong with the secrets in a task: where they stand, that they exist, whether the user may use them.

    Whoever edits a task could make it tell its secrets, so each must be allowed to the editor, old ones too.
    """
    wrong: list[str] = []
    asked: set[str] = set()
    for key, value in task.executor_config.items():
        names = names_in(value)
        asked |= names
        if names and key not in PLACES[executor]:
            name = f"{{{{ secrets.{min(names)} }}}}"
            if executor in HINTS:
                wrong.append(
                    _("%(key)s: %(name)s cannot stand here, only in %(places)s.")
                    % {"key": key, "name": name, "places": HINTS[executor]}
                )
            else:
                wrong.append(_("%(key)s: plugins take no secrets.") % {"key": key})
    known = {secret.name: secret for secret in Secret.objects.filter(name__in=asked)}
    for name in sorted(asked):
        # One that is not there and one that is not allowed look the same to who may not see it.
        secret = known.get(name)
        if secret is None or not (allowed(user, secret, "use") or allowed(user, secret, "view")):
            wrong.append(_("There is no secret %(name)s.") % {"name": name})
        elif not allowed(user, secret, "use"):
            wrong.append(_("You are not allowed to use the secret %(name)s.") % {"name": name})
    return wrong


def tasks_using(names: Iterable[str]) -> list[Task]:
    """The tasks whose configuration asks for any of these secrets, by name."""
    wanted = set(names)
    candidates = Task.objects.annotate(config_text=Cast("executor_config", TextField())).filter(
        config_text__contains=f"{SECRETS}."
    )
    return [task for task in candidates.order_by("name") if names_in(task.executor_config) & wanted]


class Values:
    """The secrets of some tasks, read at once."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._names = {task.pk: names for task in tasks if (names := names_in(task.executor_config))}
        every = set[str]().union(*self._names.values())
        self._values = secrets.values(every) if every else {}

    def wire(self, task: Task) -> dict[str, str]:
        """What is added to the task's executor configuration; {} for a task without secrets.

        One that is missing is left out: the agent then refuses to run the task, and says which.
        """
        names = self._names.get(task.pk)
        if not names:
            return {}
        values = {name: self._values[name] for name in sorted(names) if name in self._values}
        return {SETTING: json.dumps(values, ensure_ascii=False)}
