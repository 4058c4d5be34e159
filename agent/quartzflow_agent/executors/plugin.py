"""The plugin executor: a plugin in a process of its own."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any, Dict, Set, Tuple

from quartzflow_agent.executors.base import DEFAULTS, Job, Outcome, Rejected
from quartzflow_agent.executors.process import ProcessRunner
from quartzflow_agent.plugins.__main__ import FAILED, REJECTED
from quartzflow_agent.substitution import SubstitutionError, find

SETTINGS = frozenset({"plugin", "params"})


class PluginExecutor:
    """Settings: plugin (its name, required), params (JSON object), parameters (JSON object: defaults).

    `{{ params.NAME }}` in a text of params becomes the parameter's text; any other parameter is one of the plugin's own
    and wins over what params says.
    """

    def __init__(self, runner: ProcessRunner) -> None:
        self._runner = runner

    async def run(self, job: Job) -> Outcome:
        """Raises Rejected, StartFailed."""
        job.check_settings(SETTINGS)
        name = job.config.get("plugin", "")
        if not name:
            raise Rejected("plugin is missing")
        params = _params(job)
        env = job.environment({})
        env["QF_PLUGIN_PARAMS"] = json.dumps(params)
        env["PYTHONUNBUFFERED"] = "1"
        argv = [sys.executable, "-m", "quartzflow_agent.plugins", name]
        outcome = await self._runner.run(job, argv, env=env)
        if outcome.stopped or outcome.exit_code == 0:
            return outcome
        if outcome.exit_code == REJECTED:
            raise Rejected(job.output.errors.strip())
        reason = "exit_code" if outcome.exit_code == FAILED else "executor_error"
        return replace(outcome, reason=reason)


def _params(job: Job) -> Dict[str, Any]:
    text = job.config.get("params", "")
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Rejected("params must be a JSON object")
    used = {name.upper() for _, name in _placeholders(value)}
    job.parameters("")
    given = {**job.json_object(DEFAULTS), **job.instruction.params}
    return {**_filled(job, value), **{name: text for name, text in given.items() if name.upper() not in used}}


def _placeholders(value: Any) -> Set[Tuple[str, str]]:
    try:
        return find(json.dumps(value, ensure_ascii=False))
    except SubstitutionError as error:
        raise Rejected(str(error)) from error


def _filled(job: Job, value: Any) -> Any:
    """The texts in it filled in; names of an object are left alone."""
    if isinstance(value, str):
        return job.fill(value)
    if isinstance(value, list):
        return [_filled(job, item) for item in value]
    if isinstance(value, dict):
        return {name: _filled(job, item) for name, item in value.items()}
    return value
