"""Joining a server: ask it, and keep its answer."""

from __future__ import annotations

from typing import Dict, List, Sequence

from quartzflow_agent.cli.output import Failure
from quartzflow_agent.clock import ServerClock
from quartzflow_agent.config import AgentConfig, ConfigError, Endpoint
from quartzflow_agent.connection import ConnectError, Connection, connect
from quartzflow_agent.events import Lost, Refused, Registered
from quartzflow_agent.i18n import _
from quartzflow_agent.protocol import agent_pb2
from quartzflow_agent.protocol.constants import CLOSE_REFUSED
from quartzflow_agent.registration import register_request
from quartzflow_agent.session import AgentSession, Vitals
from quartzflow_agent.trust import Trust


def parse_servers(texts: Sequence[str]) -> List[Endpoint]:
    """From options that may hold several, separated by commas. Raises ConfigError."""
    return [Endpoint.parse(part) for text in texts for part in text.split(",") if part.strip()]


def parse_labels(texts: Sequence[str]) -> Dict[str, str]:
    """From NAME=VALUE options. Raises ConfigError."""
    labels: Dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(_('"{value}" is no label: write NAME=VALUE.').format(value=text))
        labels[name.strip()] = value.strip()
    return labels


async def register(config: AgentConfig, token: str) -> "tuple[Endpoint, agent_pb2.RegisterResponse]":
    """Register with the first server that answers. Raises Failure with the way out."""
    problems: List[str] = []
    for endpoint in config.servers:
        session = AgentSession(
            register_request(config, enrollment_token=token), Vitals, ServerClock().add_sample
        )
        try:
            connection = await connect(endpoint, Trust(config.ca_file, config.ca_sha256), session)
        except ConnectError as error:
            problems.append(f"{endpoint}: {error}")
            continue
        try:
            return endpoint, await _answer(connection, endpoint)
        except ConnectError as error:
            problems.append(f"{endpoint}: {error}")
        finally:
            await connection.finish()
    hint = ""
    if not config.ca_file and not config.ca_sha256:
        hint = "\n" + _(
            "If the server has a certificate of its own authority, name it: --ca-file ca.pem, or --ca-sha256 HEX."
        )
    raise Failure(_("No server lets this host in:") + "\n  " + "\n  ".join(problems) + hint)


async def _answer(connection: Connection, endpoint: Endpoint) -> agent_pb2.RegisterResponse:
    while True:
        for event in await connection.next_events():
            if isinstance(event, Registered):
                if not event.response.credential:
                    raise ConnectError(_("the server accepted the host but issued no credential"))
                return event.response
            if isinstance(event, Refused):
                raise Failure(
                    _("{server} refuses this host ({code}): {message}").format(
                        server=endpoint, code=event.code, message=event.message
                    )
                    + _way_out(event.code)
                )
            if isinstance(event, Lost):
                if event.code == CLOSE_REFUSED:
                    raise Failure(
                        _("{server} refuses this host: {message}").format(
                            server=endpoint, message=event.reason
                        )
                    )
                raise ConnectError(event.reason)


def _way_out(code: str) -> str:
    hints = {
        "bad_token": _(
            "Have an operator make a new enrollment token; if the name is taken, choose another with --client-id."
        ),
        "revoked": _("Have an operator admit this host again, or choose another name with --client-id."),
        "protocol_version": _("Install the agent version that belongs to the server."),
        "pending_approval": _("Have an operator approve this host, then try again."),
        "busy": _("Try again in a minute."),
    }
    return f"\n{hints[code]}" if code in hints else ""
