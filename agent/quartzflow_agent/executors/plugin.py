"""The plugin executor: a plugin in a process of its own."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any, Dict

from quartzflow_agent.executors.base import Job, Outcome, Rejected
from quartzflow_agent.executors.process import ProcessRunner
from quartzflow_agent.plugins.__main__ import FAILED, REJECTED

SETTINGS = frozenset({"plugin", "params"})


class PluginExecutor:
    """Settings: plugin (its name, required), params (JSON object). The execution's own parameters win over these."""

    def __init__(self, runner: ProcessRunner) -> None:
        self._runner = runner

    async def run(self, job: Job) -> Outcome:
        """Raises Rejected, StartFailed."""
        job.check_settings(SETTINGS)
        name = job.config.get("plugin", "")
        if not name:
            raise Rejected("plugin is missing")
        job.parameters("")
        params: Dict[str, Any] = {**_params(job.config.get("params", "")), **job.instruction.params}
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


def _params(text: str) -> Dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Rejected("params must be a JSON object")
    return value
