"""Agents and bridges of different protocol versions."""

import pytest
from quartzflow_agent.protocol import agent_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb

from quic_bridge import session as session_module

from .test_session import connected, output, said


@pytest.mark.parametrize(("agent", "answered"), [(0, 3), (2, 2), (3, 3), (4, 3)])
def test_the_earlier_protocol_of_both_is_spoken(monkeypatch, agent, answered):
    monkeypatch.setattr(session_module, "PROTOCOL_VERSION", 3)
    session = connected()
    request = agent_pb2.RegisterRequest(client_id="host-1", protocol_version=agent)
    session.receive(0, said(pb.MESSAGE_TYPE_REGISTER, request), False, 0.0)
    session.accept("host-1", 0)
    ((_, response),) = output(session)
    assert response.protocol_version == answered
