"""The agent's configuration, agent.toml, and its credential, apart from it."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from quartzflow_agent.files import PRIVATE_FILE, write_atomic
from quartzflow_agent.i18n import _
from quartzflow_agent.paths import Home
from quartzflow_agent.protocol.constants import DEFAULT_PORT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_LABELS = 64
# What agent.toml may hold.
SETTINGS = ("servers", "client_id", "group", "tls", "limits", "labels")
TLS_SETTINGS = ("ca_file", "ca_sha256")
LIMITS = ("retention_days", "log_limit", "logs_limit", "stop_timeout")
MAX_LABEL_VALUE = 256


class ConfigError(Exception):
    """The configuration cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Endpoint:
    """One server to connect to (UDP)."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """HOST, HOST:PORT, [IPV6]:PORT. Raises ConfigError."""
        text = text.strip()
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|([^\s:\[\]/]+))(?::([0-9]{1,5}))?", text)
        port = int(match.group(3) or DEFAULT_PORT) if match else 0
        if match is None or not 0 < port < 65536:
            raise ConfigError(
                _(
                    '"{value}" is no server address: write HOST:PORT, for example "quartz.example.com:8474".'
                ).format(value=text)
            )
        return cls(match.group(1) or match.group(2), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class AgentConfig:
    """What agent.toml says."""

    servers: List[Endpoint]  # tried in this order, again and again
    client_id: str  # the name of this host on the server
    ca_file: Optional[Path] = None  # the certificate authority that signs the server's certificate
    ca_sha256: str = ""  # or the SHA-256 of the server's (or its authority's) certificate
    group: str = ""  # wished for when joining; the server decides
    labels: Dict[str, str] = field(default_factory=dict)
    retention_days: int = (
        7  # records, statistics and logs of earlier days are deleted once the server has them
    )
    log_limit: int = 10 * 1024 * 1024  # bytes of output kept per execution
    logs_limit: int = 1024 * 1024 * 1024  # bytes of all logs together; the oldest that the server knows of go
    stop_timeout: float = 5.0  # seconds that running executions get when the agent stops

    def check(self) -> None:
        """Raise ConfigError for a value that cannot work."""
        if not self.servers:
            raise ConfigError(_("No server is configured: name at least one, HOST:PORT."))
        if not CLIENT_ID.fullmatch(self.client_id):
            raise ConfigError(
                _(
                    '"{value}" cannot name a client: use 1 to 64 of letters, digits, ".", "_" and "-", '
                    "starting with a letter or digit."
                ).format(value=self.client_id)
            )
        if self.ca_sha256 and not SHA256.fullmatch(self.ca_sha256):
            raise ConfigError(
                _("The certificate's SHA-256 must be 64 hexadecimal digits (colons and case do not matter).")
            )
        if self.ca_file and self.ca_sha256:
            raise ConfigError(_("Give either the CA file or the SHA-256 of the certificate, not both."))
        if self.ca_file and not self.ca_file.is_file():
            raise ConfigError(
                _('There is no CA file "{path}": copy the server\'s ca.pem there.').format(path=self.ca_file)
            )
        for name, value in self.labels.items():
            if not LABEL.fullmatch(name) or len(value) > MAX_LABEL_VALUE or not value.isprintable():
                raise ConfigError(
                    _('"{value}" is no label: write NAME=VALUE.').format(value=f"{name}={value}")
                )
        if len(self.labels) > MAX_LABELS:
            raise ConfigError(_("At most {count} labels.").format(count=MAX_LABELS))
        if self.retention_days < 1 or self.log_limit < 1024 or self.stop_timeout < 0:
            raise ConfigError(
                _(
                    "retention_days must be at least 1, log_limit at least 1024 bytes, stop_timeout not negative."
                )
            )
        if self.logs_limit < self.log_limit:
            raise ConfigError(_("logs_limit, of all logs together, must be at least log_limit."))


def default_client_id() -> str:
    """The host's name, made to fit."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-._")
    return name[:64] or "agent"


def normalise_sha256(text: str) -> str:
    """AB:CD:… (as openssl prints it) to abcd…"""
    return text.strip().replace(":", "").lower()


def load(home: Home) -> AgentConfig:
    """Read agent.toml. Raises ConfigError with the way out."""
    path = home.config
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            _(
                "This host has not joined a server yet ({path} is missing): run "
                '"quicflow agent join --server HOST:PORT --token TOKEN".'
            ).format(path=path)
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(_("Cannot read {path}: {error}").format(path=path, error=error)) from error
    try:
        config = _from_toml(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, TypeError, KeyError, ValueError) as error:
        raise ConfigError(
            _('{path} is damaged ({error}): correct it or join again with "quicflow agent join".').format(
                path=path, error=error
            )
        ) from error
    config.check()
    return config


def _from_toml(data: Dict[str, Any]) -> AgentConfig:
    """Raises TypeError, KeyError, ValueError: a misspelt limit must not pass for none."""
    tls = data.get("tls", {})
    limits = data.get("limits", {})
    for table, known in ((data, SETTINGS), (tls, TLS_SETTINGS), (limits, LIMITS)):
        unknown = sorted(set(table) - set(known))
        if unknown:
            raise ValueError(_("unknown setting: {names}").format(names=", ".join(unknown)))
    ca_file = tls.get("ca_file", "")
    return AgentConfig(
        servers=[Endpoint.parse(server) for server in data["servers"]],
        client_id=str(data["client_id"]),
        ca_file=Path(ca_file) if ca_file else None,
        ca_sha256=normalise_sha256(tls.get("ca_sha256", "")),
        group=str(data.get("group", "")),
        labels={str(name): str(value) for name, value in data.get("labels", {}).items()},
        retention_days=int(limits.get("retention_days", AgentConfig.retention_days)),
        log_limit=int(limits.get("log_limit", AgentConfig.log_limit)),
        logs_limit=int(limits.get("logs_limit", AgentConfig.logs_limit)),
        stop_timeout=float(limits.get("stop_timeout", AgentConfig.stop_timeout)),
    )


def save(home: Home, config: AgentConfig) -> None:
    """Write agent.toml, readable by its owner alone. Raises ConfigError, OSError."""
    config.check()
    write_atomic(home.config, to_toml(config).encode())


def to_toml(config: AgentConfig) -> str:
    """The text of agent.toml."""
    lines = [
        "# The Quartz-Flow agent of this host. Written by `quicflow agent join`; a restart applies changes.",
        f"servers = [{', '.join(_quote(str(server)) for server in config.servers)}]",
        f"client_id = {_quote(config.client_id)}",
        f"group = {_quote(config.group)}",
        "",
        "[tls]",
        f"ca_file = {_quote(str(config.ca_file or ''))}",
        f"ca_sha256 = {_quote(config.ca_sha256)}",
        "",
        "[limits]",
        f"retention_days = {config.retention_days}",
        f"log_limit = {config.log_limit}  # bytes of output kept per execution",
        f"logs_limit = {config.logs_limit}  # bytes of all outputs together",
        f"stop_timeout = {config.stop_timeout}  # seconds",
        "",
        "[labels]",
    ]
    lines += [f"{_quote(name)} = {_quote(value)}" for name, value in sorted(config.labels.items())]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are a part of TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_secret(path: Path) -> str:
    """The secret in the file, "" when there is none. Raises ConfigError when others may read it."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & 0o077:
                raise ConfigError(
                    _('{path} is readable by others (mode {mode}): run "chmod 600 {path}".').format(
                        path=path, mode=f"{mode:o}"
                    )
                )
            return file.read().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(_("Cannot read {path}: {error}").format(path=path, error=error)) from error


def write_secret(path: Path, secret: str) -> None:
    """Store a secret durably, for its owner alone. Raises OSError."""
    write_atomic(path, f"{secret}\n".encode(), mode=PRIVATE_FILE)
