"""What stories of the console need besides a browser: accounts, rows of hosts, agents of their own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.services import ROOT, Stack

AGENT = "from quartzflow_agent.cli import main; main()"


def python(stack: Stack, code: str) -> None:
    """Run code on the installation, for what no page and no call of the API does."""
    stack.manage("shell", "-v", "0", "-c", code)


def account(stack: Stack, name: str, *roles: str) -> None:
    """An account of its own, with the password of all tests: what it likes is nobody else's business."""
    python(
        stack,
        "from django.contrib.auth.models import Group, User\n"
        f"user = User.objects.create_user({name!r}, password={stack.password!r})\n"
        f"user.groups.set(Group.objects.filter(name__in={roles!r}))",
    )


@contextmanager
def hosts(stack: Stack, *rows: dict[str, Any]) -> Iterator[None]:
    """Hosts that are not there, as rows only; gone again afterwards, for other tests count hosts."""
    names = [row["client_id"] for row in rows]
    made = f"from groups_app.models import Client\nfor row in {rows!r}: Client.objects.create(**row)"
    python(stack, made)
    yield
    python(
        stack,
        f"from groups_app.models import Client\nClient.objects.filter(client_id__in={names!r}).delete()",
    )


class Agent:
    """An agent of a second host, run by its own commands."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> dict[str, Any]:
        return {
            "args": [sys.executable, "-c", AGENT, *arguments],
            "cwd": ROOT,
            "env": {**os.environ, "QUICFLOW_HOME": str(self.home)},
            "stdin": subprocess.DEVNULL,
        }

    def join(self, command: str, client_id: str) -> None:
        """Join by the line that the console shows."""
        program, *arguments = shlex.split(command)
        assert program == "quicflow"
        done = subprocess.run(
            **self.command(*arguments, "--client-id", client_id), capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        with (self.home.parent / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(**self.command("agent", "run"), stdout=log, stderr=log)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(15)
        self.process = None


def group_of(api: httpx.Client, name: str) -> int:
    """The number of a group, made where it is not there."""
    found = {row["name"]: row["id"] for row in api.get("/groups").json()["data"]}
    return found.get(name) or api.post("/groups", json={"name": name}).json()["data"]["id"]
