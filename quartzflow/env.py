"""Every setting that comes from the environment: its name, type, default and meaning, in one table.

`load` reads and checks all of them at once; the settings module, `manage.py run` and the table in
docs/configuration.md (`python -m quartzflow.env` prints it) take them from here and nowhere else.
"""

import difflib
import hashlib
import ipaddress
import os
import re
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import env_values as read
from .env_values import LOG_LEVELS

ROOT = Path(__file__).resolve().parent.parent
SOCKET_PATH_LIMIT = 107  # bytes in sockaddr_un.sun_path without the closing zero, on Linux
# What an agent sets for the tasks it runs; a task may well call manage.py.
TASK_VARIABLES = re.compile(
    r"QF_(PARAM_.*|TASK_ID|TASK_NAME|EXECUTION_ID|SCHEDULED_TIME|ATTEMPT|SHARD_INDEX|SHARD_TOTAL)"
)


class EnvError(ValueError):
    """A variable has a value that cannot be used; the message is one line and begins with its name."""


@dataclass(frozen=True)
class Env:
    """The settings of one installation, checked. Its repr shows no secret: debug pages print settings."""

    data_dir: Path  # absolute
    archive_dir: Path | None  # absolute; None: in the data directory
    http_host: str
    http_port: int
    quic_host: str
    quic_port: int  # UDP
    database_url: str = field(repr=False)  # "": SQLite in the data directory
    redis_url: str = field(repr=False)  # redis://, rediss:// or unix://
    redis_socket: Path | None  # where our own redis-server listens; None: REDIS_URL names another one
    secret_key: str = field(repr=False)  # "": there is none yet, `manage.py setup` makes it
    secrets_keys: tuple[str, ...] = field(repr=False)  # Fernet keys, the newest first; (): in a file
    mail_url: str = field(repr=False)  # smtp://, smtps:// or smtp+tls://; "": no mail is sent
    mail_from: str
    admin_password: str = field(repr=False)  # "": a random one
    local_agent: bool
    log_level: str
    allowed_hosts: tuple[str, ...]
    csrf_trusted_origins: tuple[str, ...]
    behind_proxy: bool
    debug: bool
    legacy_clients: bool
    bridge_workers: int
    bridge_metrics_port: int  # TCP, on the loopback address; 0: not served
    bridge_limits: tuple[tuple[str, float], ...]  # by name, of quic_bridge.limits.Limits
    max_running: int  # executions; 0: no limit
    max_running_per_host: int  # executions; 0: no limit
    time_zone: str


@dataclass(frozen=True)
class Variable:
    """One variable. `parse` raises ValueError saying what it expects; `default` is for unset or empty."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    default_text: str = ""  # for the documentation, where `default` does not say it


VARIABLES: dict[str, Variable] = {
    "data_dir": Variable(
        "QF_DATA_DIR",
        read.directory,
        ROOT / "data",
        "Where all is kept that outlives a restart: database, keys, certificates, files, the local agent.",
        "`./data`",
    ),
    "archive_dir": Variable(
        "QF_ARCHIVE_DIR",
        read.directory,
        None,
        "Where executions and outputs go as files before they leave the database; with several machines, a directory"
        " that all of them share.",
        "`archive` in the data directory",
    ),
    "http_host": Variable(
        "QF_HTTP_HOST",
        read.host,
        "127.0.0.1",
        "The address that the web console and the API listen on; `0.0.0.0` for every address of the machine.",
    ),
    "http_port": Variable("QF_HTTP_PORT", read.port, 8000, "The TCP port of the web console and the API."),
    "quic_host": Variable(
        "QF_QUIC_HOST",
        read.host,
        "127.0.0.1",
        "The address that agents connect to; `0.0.0.0` to let agents of other hosts in.",
    ),
    "quic_port": Variable("QF_QUIC_PORT", read.port, 8474, "The UDP port that agents connect to."),
    "database_url": Variable(
        "DATABASE_URL",
        read.url("postgres", "postgresql", "sqlite"),
        "",
        "The database: `postgres://USER:PASSWORD@HOST:PORT/NAME` or `sqlite:////PATH`.",
        "SQLite in the data directory",
    ),
    "redis_url": Variable(
        "REDIS_URL",
        read.url("redis", "rediss", "unix"),
        "",
        "The Redis for queue, wake-ups and cache: `redis://:PASSWORD@HOST:PORT/0`. When unset, `manage.py run`"
        " starts a redis-server of its own.",
        "unix socket in the data directory",
    ),
    "secret_key": Variable(
        "QF_SECRET_KEY",
        read.secret,
        "",
        "The key that signs sessions and cookies, 32 characters or more; the same on all machines.",
        "random, in the file `secret_key` of the data directory",
    ),
    "secrets_keys": Variable(
        "QF_SECRETS_KEYS",
        read.fernet_keys,
        (),
        "The keys that named secrets are encrypted with, separated by commas, the newest first; the same on all"
        " machines.",
        "random, in the file `secrets.key` of the data directory",
    ),
    "mail_url": Variable(
        "QF_MAIL_URL",
        read.url("smtp", "smtp+tls", "smtp+ssl"),
        "",
        "The server that alerts and reports by e-mail go through: `smtp+tls://USER:PASSWORD@HOST:587` (STARTTLS),"
        " `smtp+ssl://…@HOST:465` or `smtp://HOST:25`.",
        "no mail",
    ),
    "mail_from": Variable("QF_MAIL_FROM", read.sender, "quartzflow@localhost", "The sender of mail."),
    "admin_password": Variable(
        "QF_ADMIN_PASSWORD",
        str,
        "",
        "The first password of the user `admin`. Read when the user is made, never afterwards"
        " (`manage.py changepassword admin`).",
        "random, printed once",
    ),
    "local_agent": Variable(
        "QF_LOCAL_AGENT", read.switch, True, "Whether `manage.py run` also runs an agent on this machine."
    ),
    "log_level": Variable(
        "QF_LOG_LEVEL", read.level, "INFO", f"How much is logged: {', '.join(LOG_LEVELS)}."
    ),
    "allowed_hosts": Variable(
        "QF_ALLOWED_HOSTS",
        read.hosts,
        (),
        "The names, separated by commas, under which browsers may ask for the console.",
        "localhost, the machine's name, and the address it listens on",
    ),
    "csrf_trusted_origins": Variable(
        "QF_CSRF_TRUSTED_ORIGINS",
        read.origins,
        (),
        "Other origins that forms may come from, such as `https://quartz.example.com`, separated by commas.",
        "none",
    ),
    "behind_proxy": Variable(
        "QF_BEHIND_PROXY",
        read.switch,
        False,
        "Set it when a reverse proxy ends TLS and sets `X-Forwarded-Proto` and `X-Forwarded-Host`; cookies"
        " then need HTTPS.",
    ),
    "debug": Variable(
        "QF_DEBUG",
        read.switch,
        False,
        "Django's debug mode. It shows internals to everybody: for development only.",
    ),
    "legacy_clients": Variable(
        "QF_LEGACY_CLIENTS",
        read.switch,
        False,
        "Whether agents of the earlier protocol are let in besides our own.",
    ),
    "bridge_workers": Variable(
        "QF_BRIDGE_WORKERS",
        read.number(1, 64),
        1,
        "How many processes share the agents' UDP port; each serves about 3,000 busy agents.",
    ),
    "bridge_metrics_port": Variable(
        "QF_BRIDGE_METRICS_PORT",
        read.port,
        0,
        "The TCP port on 127.0.0.1 where the bridge serves Prometheus metrics; each further worker has the next one.",
        "not served",
    ),
    "bridge_limits": Variable(
        "QF_BRIDGE_LIMITS",
        read.limits,
        (),
        "Other limits of what agents may cost the bridge than the usual, such as `rate=5000,silence=60`; see"
        " [operations](operations.md#limits-of-the-bridge).",
        "the usual ones",
    ),
    "max_running": Variable(
        "QF_MAX_RUNNING",
        read.number(0, 1_000_000),
        0,
        "How many executions may run at once in the whole system; what is beyond waits. 0: no limit.",
    ),
    "max_running_per_host": Variable(
        "QF_MAX_RUNNING_PER_HOST",
        read.number(0, 1_000_000),
        0,
        "The same for each host, all its tasks together. 0: no limit.",
    ),
    "time_zone": Variable(
        "QF_TIME_ZONE",
        read.zone,
        "Asia/Shanghai",
        "The time zone of pages and new tasks, for who has not chosen another.",
    ),
}


def load(environ: Mapping[str, str]) -> Env:
    """The settings that `environ` gives. Reads the secret key's file; writes nothing.

    Raises EnvError, naming the variable, for the first value that cannot be used."""
    values: dict[str, Any] = {}
    for name, variable in VARIABLES.items():
        text = environ.get(variable.name, "").strip()
        try:
            values[name] = variable.parse(text) if text else variable.default
        except ValueError as error:
            raise EnvError(f"{variable.name} {error}") from None
    values["redis_socket"] = None
    if not values["redis_url"]:
        values["redis_socket"] = redis_socket(values["data_dir"])
        values["redis_url"] = f"unix://{values['redis_socket']}"
    if not values["secret_key"]:
        values["secret_key"] = _kept_secret(values["data_dir"])
    if not values["allowed_hosts"]:
        values["allowed_hosts"] = _own_names(values["http_host"])
    return Env(**values)


def redis_socket(data_dir: Path) -> Path:
    """Where our own redis-server listens: in the data directory, or, where that path is too long for a
    socket, in a directory of the system's temporary one that is named after it; `manage.py run` makes it,
    for its user alone."""
    path = data_dir / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"quartzflow-{os.getuid()}-{digest}", "redis.sock")


def unknown(environ: Mapping[str, str]) -> list[str]:
    """A line for each QF_ variable that means nothing, with the name that was probably meant."""
    names = {variable.name for variable in VARIABLES.values()}
    lines = []
    for name in sorted(environ):
        if name.startswith("QF_") and name not in names and not TASK_VARIABLES.fullmatch(name):
            near = difflib.get_close_matches(name, names, 1)
            lines.append(f"{name} means nothing here" + (f"; did you mean {near[0]}?" if near else ""))
    return lines


def markdown_table() -> str:
    """The table of docs/configuration.md."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for variable in VARIABLES.values():
        default = int(variable.default) if isinstance(variable.default, bool) else variable.default
        rows.append(f"| `{variable.name}` | {variable.default_text or f'`{default}`'} | {variable.help} |")
    return "\n".join(rows)


def _kept_secret(data_dir: Path) -> str:
    path = data_dir / "secret_key"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
    except (NotADirectoryError, PermissionError) as error:
        raise EnvError(f"QF_DATA_DIR cannot be read: {error}") from None


def _own_names(http_host: str) -> tuple[str, ...]:
    names = ["localhost", "127.0.0.1", "[::1]", socket.gethostname()]
    if http_host in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        names += [f"[{address}]" if ":" in address else address for address in own_addresses()]
    else:
        names.append(f"[{http_host}]" if ":" in http_host else http_host)
    return tuple(dict.fromkeys(names))


def own_addresses() -> list[str]:
    """The machine's IP addresses, loopback and link-local ones left out."""
    import psutil  # here: only who listens on every address, and the certificate, need it

    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(entry.address.partition("%")[0])
                if not address.is_loopback and not address.is_link_local:
                    found.append(str(address))
    return sorted(set(found))


if __name__ == "__main__":
    print(markdown_table())  # noqa: T201
