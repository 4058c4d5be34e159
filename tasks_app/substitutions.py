"""Placeholders in executor configurations: what `{{ params.NAME }}` asks for, and whether it can be filled in.

The agent fills them in when it runs the task, offline too; here is only checked what it would refuse.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from quartzflow_agent.request_text import check_url
from quartzflow_agent.script_text import fill_script
from quartzflow_agent.substitution import PARAMS, SubstitutionError, find

from .choices import ExecutorType

# The setting of every executor with the defaults of parameters, by name.
DEFAULTS = "parameters"
# What a task that runs after others is given.
UPSTREAM = frozenset({"upstream_run_id", "upstream_status", "upstream_run_ids", "upstream_statuses"})
# Where placeholders are filled in.
PLACES = {
    ExecutorType.SHELL: ("command", "env"),
    ExecutorType.HTTP: ("url", "headers", "body", "auth"),
    ExecutorType.PLUGIN: ("params",),
}


def check_placeholders(executor: ExecutorType, config: Mapping[str, Any]) -> list[str]:
    """What is wrong with the placeholders of a configuration that is right otherwise, each text naming its key."""
    wrong: list[str] = []
    asked: set[str] = set()
    for key, value in config.items():
        try:
            names = set[tuple[str, str]]().union(*(find(text) for text in _texts(value)))
            if names and key not in PLACES[executor]:
                wrong.append(_("%(key)s: placeholders are not filled in here.") % {"key": key})
                continue
            if key == "command":
                fill_script(value, config.get("interpreter", ""))
            elif key == "url":
                check_url(value)
        except SubstitutionError as error:
            wrong.append(f"{key}: {error.render(_)}")
            continue
        asked |= {name for namespace, name in names if namespace == PARAMS}
    declared = config.get(DEFAULTS)
    if declared and (unknown := _without(asked, (*declared, *UPSTREAM))):
        wrong.append(
            _("%(key)s: the task uses %(names)s, which is not among them.")
            % {"key": DEFAULTS, "names": ", ".join(f"{{{{ params.{name} }}}}" for name in unknown)}
        )
    return wrong


def missing_parameters(executor: ExecutorType, config: Mapping[str, Any], given: Iterable[str]) -> list[str]:
    """The parameters that the configuration asks for, without those that are given or have a default."""
    asked = {
        name
        for key in PLACES[executor]
        for text in _texts(config.get(key))
        for namespace, name in find(text)
        if namespace == PARAMS
    }
    return _without(asked, (*given, *config.get(DEFAULTS, {})))


def _without(names: set[str], known: Iterable[str]) -> list[str]:
    """Sorted; upper and lower case do not differ, as in the environment."""
    upper = {name.upper() for name in known}
    return sorted(name for name in names if name.upper() not in upper)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif value is not None:
        yield json.dumps(value, ensure_ascii=False)
