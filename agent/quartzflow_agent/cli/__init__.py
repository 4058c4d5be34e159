"""The command `quicflow`."""

from __future__ import annotations

import sys

from quartzflow_agent.cli.app import app
from quartzflow_agent.cli.output import Failure
from quartzflow_agent.config import ConfigError
from quartzflow_agent.store.database import StoreError


def main() -> None:
    """Run the command line; a failure is one line on stderr that says the way out."""
    try:
        app()
    except (Failure, ConfigError, StoreError) as failure:
        sys.stderr.write(f"{failure}\n")
        sys.exit(failure.code if isinstance(failure, Failure) else 1)
