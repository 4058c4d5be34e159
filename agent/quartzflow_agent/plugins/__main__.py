"""Runs one plugin: `python -m quartzflow_agent.plugins NAME`, its parameters as JSON in QF_PLUGIN_PARAMS."""

from __future__ import annotations

import json
import os
import sys

from quartzflow_agent.plugins import ParamError, PluginFailed, find

# What the executor makes of the exit codes; 1 is what Python gives a crash, with its traceback on stderr.
FAILED = 3
REJECTED = 4


def main() -> int:
    """The exit code."""
    try:
        plugin = find(sys.argv[1])
    except LookupError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return REJECTED
    try:
        plugin.run(**plugin.parse(json.loads(os.environ["QF_PLUGIN_PARAMS"])))
    except ParamError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return REJECTED
    except PluginFailed as error:
        print(error, file=sys.stderr)  # noqa: T201
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
