"""How the agent introduces itself, and what it keeps of the answer."""

from __future__ import annotations

import platform
import socket

from quartzflow_agent import __version__
from quartzflow_agent.config import AgentConfig, ConfigError, read_secret, write_secret
from quartzflow_agent.i18n import _
from quartzflow_agent.paths import Home
from quartzflow_agent.protocol import agent_pb2
from quartzflow_agent.protocol.constants import FEATURES, PROTOCOL_VERSION


def register_request(
    config: AgentConfig, *, credential: str = "", enrollment_token: str = ""
) -> agent_pb2.RegisterRequest:
    """The first message; give one of credential and token."""
    return agent_pb2.RegisterRequest(
        client_id=config.client_id,
        credential=credential,
        enrollment_token=enrollment_token,
        protocol_version=PROTOCOL_VERSION,
        agent_version=__version__,
        hostname=socket.gethostname(),
        os=f"{platform.system()} {platform.release()}",
        arch=platform.machine(),
        labels=config.labels,
        group=config.group,
        python_version=platform.python_version(),
        features=FEATURES,
    )


def read_admission(home: Home) -> "tuple[str, str]":
    """(credential, enrollment token), one of which is "". Raises ConfigError when there is neither."""
    credential = read_secret(home.credential)
    token = "" if credential else read_secret(home.enrollment_token)
    if not credential and not token:
        raise ConfigError(
            _('This host has no credential: run "quicflow agent join --server HOST:PORT --token TOKEN".')
        )
    return credential, token


def keep_credential(home: Home, response: agent_pb2.RegisterResponse) -> None:
    """Store the credential that the server issued, durably, before it is ever used. Raises OSError."""
    if response.credential:
        write_secret(home.credential, response.credential)
        home.enrollment_token.unlink(missing_ok=True)
