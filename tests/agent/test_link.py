"""The link to the server, over real QUIC on loopback."""

import asyncio

import pytest
from quartzflow_agent import quic_tuning
from quartzflow_agent.backoff import Backoff
from quartzflow_agent.client import HOPELESS, Link
from quartzflow_agent.clock import ServerClock
from quartzflow_agent.config import Endpoint
from quartzflow_agent.connection import ConnectError, connect
from quartzflow_agent.events import Pong
from quartzflow_agent.protocol import agent_pb2, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.session import AgentSession, Vitals
from quartzflow_agent.trust import Trust

from tests.agent.fake_server import FakeServer, make_certificates, running
from tests.agent.support import until
from tests.services import free_port


class Recorder:
    """Writes down what the link tells."""

    def __init__(self):
        self.registrations = []
        self.events = []
        self.losses = []

    async def registered(self, response):
        self.registrations.append(response)

    async def received(self, events):
        self.events += events

    def lost(self, reason):
        self.losses.append(reason)


class Rig:
    """A link to some servers, with a short back-off."""

    def __init__(self, *addresses, trust):
        self.recorder = Recorder()
        self.clock = ServerClock()
        self.backoff = Backoff(first=0.01, longest=0.05)
        self.link = Link(
            endpoints=[Endpoint.parse(address) for address in addresses],
            trust=trust,
            clock=self.clock,
            request=lambda: agent_pb2.RegisterRequest(client_id="c1", credential="secret"),
            vitals=lambda: Vitals(running=3),
            handler=self.recorder,
            backoff=self.backoff,
        )
        self.work = asyncio.ensure_future(self.link.run())

    async def close(self):
        self.work.cancel()
        await asyncio.wait([self.work])


@pytest.fixture
async def rig(server, certificates):
    made = Rig(server.address, trust=Trust(certificates.authority))
    await until(lambda: made.link.ready)
    yield made
    await made.close()


async def test_connects_registers_and_sends_heartbeats(rig, server):
    assert server.registrations[0].credential == "secret"
    assert rig.recorder.registrations[0].bridge_id == "fake"
    await until(lambda: rig.recorder.events)
    assert isinstance(rig.recorder.events[0], Pong)
    assert server.pings[0].running == 3


async def test_learns_the_servers_clock(rig, server):
    server.clock_ahead = 3_600_000
    server.peers[0].close()
    await until(lambda: len(server.registrations) == 2 and rig.link.ready)
    await until(lambda: abs(rig.clock.offset_ms - 3_600_000) < 200)


async def test_connects_again_when_the_connection_is_closed(rig, server):
    server.peers[0].close(reason_phrase="off you go")
    await until(lambda: len(rig.recorder.registrations) == 2)
    assert rig.recorder.losses == ["off you go"]
    assert rig.link.ready


async def test_notices_soon_that_a_bridge_has_vanished(rig, server):
    """A process that was killed says no goodbye, but the system answers for its port."""
    server.heartbeat = 1
    server.peers[0].close()
    await until(lambda: len(server.registrations) == 2 and rig.link.ready)
    server.vanish()
    await until(lambda: rig.recorder.losses[1:] == ["the bridge's port is closed"])


async def test_turns_to_another_server_when_one_does_not_answer(server, certificates):
    rig = Rig(f"127.0.0.1:{free_port()}", server.address, trust=Trust(certificates.authority))
    await until(lambda: rig.link.ready)
    assert rig.link.endpoint == server.address
    await rig.close()


async def test_goes_where_a_stopping_bridge_sends_it(rig, server, certificates):
    async with running(FakeServer(certificates)) as other:
        away = agent_pb2.GoAway(reason="stopping", endpoints=["", other.address], delay_ms=20)
        server.peers[0].say(pb.MESSAGE_TYPE_GO_AWAY, away)
        await until(lambda: other.registrations)
        await until(lambda: rig.link.ready)
        assert rig.link.endpoint == other.address
        assert rig.recorder.losses == ["the bridge stops: stopping"]


@pytest.mark.parametrize("in_words", [True, False])
async def test_a_refusal_is_not_asked_about_again_and_again(server, certificates, in_words):
    server.refuses_in_words = in_words
    server.refusal = ("revoked", "an operator has revoked it")
    rig = Rig(server.address, trust=Trust(certificates.authority))
    rig.backoff._longest = 3600
    await until(lambda: rig.link.problem)
    await asyncio.sleep(0.1)
    assert len(server.registrations) == 1
    prefix = "refused (revoked)" if in_words else "revoked"
    assert rig.link.problem == f"{prefix}: an operator has revoked it"
    assert rig.recorder.registrations == rig.recorder.losses == []
    await rig.close()


async def test_a_busy_server_is_asked_again_soon(server, certificates):
    assert "busy" not in HOPELESS
    server.refusal = ("busy", "later")
    rig = Rig(server.address, trust=Trust(certificates.authority))
    await until(lambda: len(server.registrations) >= 3)
    server.refusal = None
    await until(lambda: rig.link.ready)
    await rig.close()


async def test_without_a_session_nothing_can_be_sent(certificates):
    rig = Rig(f"127.0.0.1:{free_port()}", trust=Trust(certificates.authority))
    assert not rig.link.progress(task_pb2.TaskProgress())
    assert not rig.link.ready
    await until(lambda: "UDP port" in rig.link.problem)
    await rig.close()


async def test_many_instructions_at_once_all_arrive(rig, server):
    orders = [task_pb2.TaskExecution(execution_id=f"e{n}", task_name="x" * 500) for n in range(2000)]
    server.peers[0].execute(*orders)
    await until(lambda: len(rig.recorder.events) > 2000)
    assert [e.instruction.execution_id for e in rig.recorder.events if not isinstance(e, Pong)] == [
        f"e{n}" for n in range(2000)
    ]


# --- whom to trust ---


async def attempt(server, trust, host="127.0.0.1"):
    session = AgentSession(agent_pb2.RegisterRequest(client_id="c1"), Vitals, lambda *sample: None)
    connection = await connect(Endpoint(host, server.port), trust, session)
    await connection.finish()


async def test_the_authority_or_the_pinned_certificate_is_trusted(server, certificates):
    await attempt(server, Trust(certificates.authority))
    await attempt(server, Trust(certificates.authority), "localhost")
    await attempt(server, Trust(sha256=certificates.sha256))


async def test_a_pin_may_be_that_of_the_authority_the_server_sends(tmp_path):
    made = make_certificates(tmp_path, sends_authority=True)
    async with running(FakeServer(made)) as server:
        await attempt(server, Trust(sha256=made.authority_sha256))


async def test_an_authority_that_only_sits_beside_proves_nothing(tmp_path, certificates):
    """Anybody can send a copy of the right authority's certificate along with one of their own."""
    made = make_certificates(tmp_path)
    made.server.write_bytes(made.server.read_bytes() + certificates.authority.read_bytes())
    async with running(FakeServer(made)) as server:
        with pytest.raises(ConnectError, match="does not hold"):
            await attempt(server, Trust(sha256=certificates.authority_sha256))
        await asyncio.sleep(0.05)
        assert server.registrations == []


@pytest.mark.parametrize(
    ("trust", "message"),
    [
        (Trust(), "certificate"),
        (Trust(sha256="0" * 64), "another SHA-256"),
    ],
)
async def test_a_stranger_is_told_nothing(server, trust, message):
    with pytest.raises(ConnectError, match=message):
        await attempt(server, trust)
    await asyncio.sleep(0.05)
    assert server.registrations == []


async def test_another_authority_is_not_trusted(server, tmp_path):
    with pytest.raises(ConnectError, match="certificate"):
        await attempt(server, Trust(make_certificates(tmp_path).authority))
    assert server.registrations == []


async def test_a_certificate_for_another_name_is_not_trusted(server, certificates, monkeypatch):
    real = asyncio.get_running_loop().getaddrinfo

    async def elsewhere(host, *args, **kwargs):
        return await real("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", elsewhere)
    with pytest.raises(ConnectError, match="doesn't match"):
        await attempt(server, Trust(certificates.authority), "quartz.example.com")


async def test_a_name_that_does_not_exist_is_said_so(server, certificates, monkeypatch):
    async def nowhere(*args, **kwargs):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
    with pytest.raises(ConnectError, match=r'cannot resolve "nowhere\.invalid"'):
        await attempt(server, Trust(certificates.authority), "nowhere.invalid")


async def test_a_server_that_does_not_answer_is_given_up(certificates, monkeypatch):
    from quartzflow_agent import connection as connection_module

    monkeypatch.setattr(connection_module, "HANDSHAKE_TIMEOUT", 0.2)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    session = AgentSession(agent_pb2.RegisterRequest(client_id="c1"), Vitals, lambda *sample: None)
    with pytest.raises(ConnectError, match="does UDP get through"):
        await connect(Endpoint("127.0.0.1", port), Trust(certificates.authority), session)
    transport.close()


async def test_the_tuning_survives_the_handshake(rig):
    quic = rig.link._connection._quic
    assert quic._ack_delay == quic_tuning.ACK_DELAY == 0.0
    assert quic._loss.max_ack_delay == quic_tuning.MAX_ACK_DELAY == 0.3


def test_the_pause_grows_and_is_spread():
    drawn = []
    backoff = Backoff(draw=lambda low, high: drawn.append((low, high)) or high)
    for _ in range(9):
        backoff.next()
    assert [high for _, high in drawn] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert {low for low, _ in drawn} == {0}
    backoff.reset()
    assert backoff.next() == 1
    assert 30 <= Backoff().longest() <= 60
