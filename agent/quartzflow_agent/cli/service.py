"""Installing the agent as a service of systemd."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from pathlib import Path
from typing import List

from quartzflow_agent.cli.output import Failure
from quartzflow_agent.config import load
from quartzflow_agent.files import write_atomic
from quartzflow_agent.i18n import _
from quartzflow_agent.paths import Home
from quartzflow_agent.systemd import UNIT_NAME, unit

UNIT_DIRECTORY = Path("/etc/systemd/system")


def unit_for(user: str) -> str:
    """The unit of the agent that has joined in this account's home (or QUICFLOW_HOME). Raises Failure, ConfigError."""
    try:
        account = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError:
        raise Failure(
            _('This host has no user "{name}": useradd --system --create-home {name}').format(name=user)
        ) from None
    given = os.environ.get("QUICFLOW_HOME")
    home = Home.find(Path(given) if given else Path(account.pw_dir, ".quicflow"))
    config = load(home)
    if home.config.stat().st_uid != account.pw_uid:
        raise Failure(
            _("{path} does not belong to {user}: join as that user, or: chown -R {user} {home}").format(
                path=home.config, user=account.pw_name, home=home.root
            )
        )
    return unit(
        user=account.pw_name,
        home=str(home.root),
        command=[*program(), "agent", "run"],
        stop_timeout=config.stop_timeout,
    )


def program() -> List[str]:
    """The command `quicflow` of this installation."""
    beside = Path(sys.executable).with_name("quicflow")
    found = str(beside) if beside.exists() else shutil.which("quicflow")
    if found is None:
        raise Failure(
            _("The command quicflow is not on the PATH: install the package, pip install quartzflow-agent.")
        )
    return [os.path.abspath(found)]  # noqa: PTH100  links stay: they outlive an upgrade


def install(text: str) -> Path:
    """Write the unit. Raises Failure."""
    path = UNIT_DIRECTORY / UNIT_NAME
    try:
        write_atomic(path, text.encode(), mode=0o644)
    except OSError as error:
        raise Failure(
            _("Cannot write {path}: {error}. Run this as root, or see --dry-run.").format(
                path=path, error=error.strerror
            )
        ) from error
    return path
