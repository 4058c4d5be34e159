"""What `quicflow agent doctor` looks at: one finding after the other, each with its way out."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from quartzflow_agent import status
from quartzflow_agent.clock import ServerClock
from quartzflow_agent.config import AgentConfig, ConfigError, Endpoint, load
from quartzflow_agent.connection import ConnectError, reach, resolve
from quartzflow_agent.i18n import _
from quartzflow_agent.lock import running_pid
from quartzflow_agent.paths import Home
from quartzflow_agent.policy import load_policy, policy_file
from quartzflow_agent.registration import read_admission, register_request
from quartzflow_agent.session import AgentSession, Vitals
from quartzflow_agent.store.database import StoreError, open_readonly
from quartzflow_agent.trust import Trust

LEAST_SPACE = 200 * 1024 * 1024  # bytes
LEAST_INODES = 1000
MOST_OFFSET = 1000  # ms; what reads the host's clock, logs above all, is that far from the server's

OK, WRONG, UNKNOWN = "ok", "wrong", "unknown"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str  # ok, wrong, unknown
    text: str
    todo: str = ""  # what to do about it


async def examine(home: Home) -> List[Finding]:
    """Look at everything that an agent needs."""
    found: List[Finding] = []
    config: Optional[AgentConfig] = None
    try:
        config = load(home)
        found.append(Finding(_("Configuration"), OK, str(home.config)))
    except ConfigError as error:
        todo = _("Do what the message says, then look again.")
        found.append(Finding(_("Configuration"), WRONG, str(error), todo))
    found += [_credential(home), _policy(home), *_files(home), space(home), _store(home)]
    if config is not None:
        for endpoint in config.servers:
            found += await _server(endpoint, config)
    found += [_agent(home), _clock(home)]
    return found


def _credential(home: Home) -> Finding:
    try:
        credential, _token = read_admission(home)
    except ConfigError as error:
        return Finding(_("Credential"), WRONG, str(error), _("Do what the message says, then look again."))
    if credential:
        return Finding(_("Credential"), OK, str(home.credential))
    return Finding(_("Credential"), OK, _("none yet; the enrollment token is used when the agent first runs"))


def _policy(home: Home) -> Finding:
    try:
        load_policy(home)
    except ConfigError as error:
        todo = _("Correct the file: until then the agent does not start.")
        return Finding(_("Policy"), WRONG, str(error), todo)
    path = policy_file(home)
    return Finding(_("Policy"), OK, str(path) if path else _("none: tasks may do what the agent may"))


def _files(home: Home) -> List[Finding]:
    """Owner and mode of what others must not read, and what the agent must write."""
    wrong: List[Finding] = []
    for path in (home.root, home.config, home.credential, home.store, home.tasks):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        if found.st_uid != os.geteuid():
            todo = _("Run this command as the agent's user, or: chown -R USER {path}").format(path=home.root)
            wrong.append(
                Finding(_("Files"), WRONG, _("{path} belongs to another user").format(path=path), todo)
            )
        elif found.st_mode & 0o077 and path != home.tasks:  # nobody gets there through the directory above
            todo = f"chmod go= {path}"
            text = _("{path} is open to others (mode {mode})").format(
                path=path, mode=f"{found.st_mode & 0o777:o}"
            )
            wrong.append(Finding(_("Files"), WRONG, text, todo))
        elif not os.access(path, os.W_OK):
            text = _("{path} cannot be written").format(path=path)
            wrong.append(Finding(_("Files"), WRONG, text, f"chmod u+w {path}"))
    return wrong or [Finding(_("Files"), OK, _("{path} is the agent's alone").format(path=home.root))]


def space(home: Home) -> Finding:
    """Whether there is room for what the agent must record."""
    path = next(path for path in (home.root, *home.root.parents) if path.exists())
    try:
        free, inodes = shutil.disk_usage(path).free, _free_inodes(path)
    except OSError as error:
        return Finding(
            _("Disk space"), WRONG, f"{path}: {error}", _("Look at that file system: mount, dmesg.")
        )
    text = _("{size} MB free at {path}").format(size=free // 2**20, path=path)
    if free >= LEAST_SPACE and (inodes is None or inodes >= LEAST_INODES):
        return Finding(_("Disk space"), OK, text)
    if free >= LEAST_SPACE:
        text = _("{count} inodes free at {path}").format(count=inodes, path=path)
    todo = _(
        "Make room: without it the agent cannot record what it runs. `retention_days` and `log_limit` save some."
    )
    return Finding(_("Disk space"), WRONG, text, todo)


def _free_inodes(path: Path) -> Optional[int]:
    found = os.statvfs(path)
    return found.f_favail if found.f_files else None  # some file systems do not count them


def _store(home: Home) -> Finding:
    try:
        db = open_readonly(home.store)
        if db is None:
            return Finding(_("Records"), OK, _("none yet"))
        try:
            problem = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            db.close()
    except (StoreError, sqlite3.Error) as error:
        problem = str(error)
    if problem == "ok":
        aside = sorted(home.root.glob(f"{home.store.name}.damaged-*Z"))
        if not aside:
            return Finding(_("Records"), OK, str(home.store))
        text = _("damaged earlier, and rebuilt: {paths}").format(paths=", ".join(path.name for path in aside))
        todo = _("Test the disk (dmesg, smartctl), then delete what was set aside.")
        return Finding(_("Records"), UNKNOWN, text, todo)
    todo = _("Restart the agent: it sets a damaged file aside and rebuilds what it can.")
    return Finding(_("Records"), WRONG, " ".join(problem.split()), todo)


async def _server(endpoint: Endpoint, config: AgentConfig) -> List[Finding]:
    """Its name, then the way to it and its certificate; nothing is said to it beyond the handshake."""
    name = _("Name of {server}").format(server=endpoint)
    try:
        addresses = await resolve(endpoint)
    except ConnectError as error:
        todo = _("Correct the name in agent.toml, or the host's DNS (/etc/resolv.conf, /etc/hosts).")
        return [Finding(name, WRONG, str(error), todo)]
    found = [Finding(name, OK, ", ".join(sorted({str(address[0]) for _family, address in addresses})))]
    way = _("Way to {server}").format(server=endpoint)
    session = AgentSession(register_request(config), Vitals, ServerClock().add_sample)
    try:
        connection = await reach(endpoint, Trust(config.ca_file, config.ca_sha256), session)
    except ConnectError as error:
        todo = _(
            "Is the bridge running there, does every firewall in between let UDP port {port} through,"
            " and is the certificate the one that `ca_file` or `ca_sha256` names?"
        ).format(port=endpoint.port)
        return [*found, Finding(way, WRONG, str(error), todo)]
    await connection.finish()
    return [*found, Finding(way, OK, _("QUIC over UDP, and its certificate is trusted"))]


def _agent(home: Home) -> Finding:
    pid = running_pid(home.lock)
    if pid is None:
        todo = _("Start it: quicflow agent run, or systemctl start quicflow-agent")
        return Finding(_("Agent"), UNKNOWN, _("not running"), todo)
    return Finding(_("Agent"), OK, _("running, pid {pid}").format(pid=pid))


def _clock(home: Home) -> Finding:
    said = None
    if running_pid(home.lock) is not None:
        try:
            said = status.load(home)
        except (OSError, ValueError) as error:
            return Finding(_("Clock"), UNKNOWN, str(error), _("Restart the agent."))
    if said is None or not said["connected"]:
        return Finding(_("Clock"), UNKNOWN, _("only a connected agent knows the server's time"))
    offset = int(said["clock_offset_ms"])
    text = _("{offset} ms from the server's").format(offset=f"{-offset:+d}")
    if abs(offset) <= MOST_OFFSET:
        return Finding(_("Clock"), OK, text)
    todo = _(
        "Let the host synchronise its clock (timedatectl set-ntp true). Tasks fire by the server's all the same."
    )
    return Finding(_("Clock"), WRONG, text, todo)
