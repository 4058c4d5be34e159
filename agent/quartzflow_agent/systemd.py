"""systemd: the agent's unit, and what a running agent tells the manager (sd_notify)."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from typing import Sequence

from quartzflow_agent.logs import event
from quartzflow_agent.runner import STOP_LIMIT

log = logging.getLogger(__name__)

UNIT_NAME = "quicflow-agent.service"
WATCHDOG = 60  # seconds in which the agent must show that its loop goes round

UNIT = """\
# Written by `quicflow agent install-service`. Changes of your own: systemctl edit {name}
[Unit]
Description=Quartz-Flow agent
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target time-sync.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User={user}
Environment={environment}
ExecStart={command}
WatchdogSec={watchdog}
Restart=always
RestartSec=5
# The agent ends its executions itself, and reports them; what is left then is killed.
KillMode=mixed
TimeoutStopSec={stop_timeout}
StandardOutput=journal
StandardError=journal
SyslogIdentifier=quicflow-agent
UMask=0077
LimitNOFILE=65536
# Executions run under these restrictions, too: sudo does not work, /usr, /boot and /etc cannot be written.
NoNewPrivileges=yes
ProtectSystem=full
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=~@cpu-emulation @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
CapabilityBoundingSet={capabilities}

[Install]
WantedBy=multi-user.target
"""


def unit(*, user: str, home: str, command: Sequence[str], stop_timeout: float) -> str:
    """The text of the unit. stop_timeout: seconds that executions get to end by themselves."""
    return UNIT.format(
        name=UNIT_NAME,
        user=user,
        environment=_quote(f"QUICFLOW_HOME={home}"),
        command=" ".join(_quote(word).replace("$", "$$") for word in command),
        watchdog=WATCHDOG,
        stop_timeout=round(stop_timeout + STOP_LIMIT + 15),
        # root's tasks change to other accounts, and do what only root may; others' have nothing to lose.
        capabilities="~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_BOOT" if user == "root" else "",
    )


def _quote(word: str) -> str:
    """A word of a unit file, taken literally."""
    word = word.replace("%", "%%")
    if re.fullmatch(r"[\w./=:%@$+-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def notify(state: str) -> None:
    """Tell the manager, if there is one: READY=1, STOPPING=1, WATCHDOG=1. A failure is logged."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            # "@": a name in the abstract namespace.
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.sendall(state.encode())
    except OSError as error:
        log.warning(event("notify_failed", state=state, error=error))


def watchdog_interval() -> float:
    """Seconds between two signs of life, half of what the manager allows; 0: it wants none."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(microseconds) / 2_000_000


async def stay_watched(interval: float) -> None:
    """Show the manager that the loop goes round, until cancelled."""
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
