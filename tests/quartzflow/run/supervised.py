"""Runs programs, given as JSON on the command line, under the supervisor: what the tests of it start.

In a process of its own, because the supervisor owns its process: signals, and every child."""

import json
import sys
from pathlib import Path

from quartzflow.run import supervise
from quartzflow.run.console import Console
from quartzflow.run.programs import Program


def main() -> None:
    given = json.loads(sys.argv[1])
    supervise.STOP_SECONDS = given["stop_seconds"]
    supervise.START_RETRIES = 1
    directory = Path(given["directory"])
    programs = []
    for spec in given["programs"]:
        ready = spec.pop("ready_file", None)
        if ready:
            spec["ready"] = Path(ready).exists
        programs.append(Program(directory=directory, **spec))
    console = Console(sys.stdout, [program.name for program in programs], colour=False)
    failure = supervise.run(programs, directory, console)
    if failure:
        sys.exit(failure)


if __name__ == "__main__":
    main()
