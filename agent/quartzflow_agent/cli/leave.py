"""Leaving the server: what goes, and what stays."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List

from quartzflow_agent.cli.output import Failure
from quartzflow_agent.i18n import _
from quartzflow_agent.lock import running_pid
from quartzflow_agent.paths import Home
from quartzflow_agent.store import outbox
from quartzflow_agent.store.database import StoreError, open_readonly


def check_stopped(home: Home) -> None:
    """Raises Failure while an agent runs here."""
    pid = running_pid(home.lock)
    if pid is not None:
        raise Failure(_("An agent is running here (pid {pid}): stop it first.").format(pid=pid))


def unsent(home: Home) -> int:
    """How many results the server would never get; 0, too, when the records cannot be read."""
    try:
        db = open_readonly(home.store)
    except StoreError:
        return 0
    if db is None:
        return 0
    try:
        return outbox.count_pending(db)
    finally:
        db.close()


def remove(home: Home, *, purge: bool) -> List[Path]:
    """Delete credential and configuration; with purge, records, views and logs, too. The policy stays.

    Returns what is gone. Raises Failure.
    """
    gone: List[Path] = []
    # The credential first: whatever fails then, this host is no longer let in.
    doomed = [home.credential, home.enrollment_token, home.config, home.status]
    if purge:
        doomed += [*sorted(home.root.glob(f"{home.store.name}*")), home.tasks, home.scripts, home.lock]
    for path in doomed:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Failure(
                _("Cannot delete {path}: {error}").format(path=path, error=error.strerror)
            ) from error
        gone.append(path)
    return gone
