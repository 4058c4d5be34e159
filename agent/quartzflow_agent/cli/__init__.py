"""The command `quicflow`."""

from __future__ import annotations

import sqlite3
import sys

from quartzflow_agent.i18n import _, translate_libraries

translate_libraries()  # before they are imported: they look their texts up then

from quartzflow_agent.cli.app import app  # noqa: E402
from quartzflow_agent.cli.output import Failure  # noqa: E402
from quartzflow_agent.config import ConfigError  # noqa: E402
from quartzflow_agent.store.database import StoreError  # noqa: E402


def main() -> None:
    """Run the command line; a failure is one line on stderr that says the way out."""
    try:
        app()
    except (Failure, ConfigError, StoreError) as failure:
        sys.stderr.write(f"{failure}\n")
        sys.exit(failure.code if isinstance(failure, Failure) else 1)
    except sqlite3.Error as error:
        text = _("The records of this host cannot be read ({error}): quicflow agent doctor says what to do.")
        sys.stderr.write(f"{text.format(error=error)}\n")
        sys.exit(1)
