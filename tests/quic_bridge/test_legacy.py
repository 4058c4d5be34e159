"""Quic-flow clients over real QUIC, played byte by byte: how they come and go."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quartzflow_agent.protocol.messages import now_ms

from quic_bridge import server
from quic_bridge.facts import Facts
from quic_bridge.legacy_session import LegacySession
from quic_bridge.limits import Limits

from .agents import agent, eventually
from .conftest import running
from .legacy_client import ACK, PING, PONG, data, frame, instruction, legacy_client, ping


async def test_it_says_its_name_and_beats(client, legacy_bridge, domain):
    pong = await client.arrive("host-1")
    assert abs(pong[1] - now_ms()) < 5000
    (info,) = domain.registered
    assert (info.client_id, info.ip, info.credential) == ("host-1", "127.0.0.1", "")
    beat = client.open(ping("host-1"))
    assert (await beat.frame())[0] == PONG
    await beat.end()
    await legacy_bridge.inbound.save_heartbeats()
    assert [beat.client_id for beat in domain.beats] == ["host-1"]
    client.close()
    await eventually(lambda: domain.offline)
    assert domain.offline[0][0] == "host-1"


async def test_a_stream_that_the_client_does_not_close_is_answered_too(client):
    opened = client.open(ping("host-1"), end=False)
    assert (await opened.frame())[0] == PONG
    assert (await client.open(ping("host-1"), end=False).frame())[0] == PONG


async def test_a_frame_may_come_in_pieces(client):
    whole = ping("host-1")
    opened = client.open(whole[:3], end=False)
    for position in range(3, len(whole)):
        await asyncio.sleep(0)
        client.write(0, whole[position : position + 1], position == len(whole) - 1)
    assert (await opened.frame())[0] == PONG


async def test_a_message_that_wants_an_answer_gets_an_ack_on_its_stream(client):
    await client.arrive("host-1")
    opened = client.open(data("m1"))
    kind, answer = await opened.frame()
    assert (kind, answer[1], answer[2]) == (ACK, b"m1", 1)
    await opened.end()
    silent = client.open(data("m2", wait_ack=False))
    await silent.end()
    assert silent.data == b""


async def test_what_comes_before_the_pong_is_answered_after_it(client):
    first = client.open(ping("host-1"))
    second = client.open(data("m1"))
    assert (await first.frame())[0] == PONG
    assert (await second.frame())[0] == ACK


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (data("m1"), "the first frame is not a PING"),
        (ping(""), "the first PING has no client id"),
        (frame(PING, b""), "the first PING has no client id"),
        (frame(ACK, b""), "the first frame is not a PING"),
        (b"\0\0\0\0", "frame length 0"),
        (b"\x7f\0\0\0", "frame length"),
        (b"\0\0\0\x02\xff\xff", "not a protobuf Frame"),
        (frame(PING, b"\xff"), "malformed PingFrame"),
    ],
)
async def test_any_other_beginning_closes_with_application_error_1(client, domain, first, reason):
    client.open(first)
    code, text = await client.closed()
    assert code == 1
    assert reason in text
    assert domain.registered == []


@pytest.mark.parametrize(
    "later", [ping("host-2"), frame(PONG, b""), frame(9, b""), data("m1") * 2, data("m1")[:-1], b"\0\0\0\0"]
)
async def test_garbage_later_on_closes_this_client_only(client, legacy_bridge, pki, later):
    async with legacy_client(legacy_bridge.port, pki.ca) as other:
        await other.arrive("other")
        await client.arrive("host-1")
        client.open(later)
        assert (await client.closed())[0] == 1
        assert (await other.open(ping("other")).frame())[0] == PONG


async def test_who_may_not_come_in_is_told_why(client):
    client.open(ping("bad"))
    assert await client.closed() == (3, "in_use: connected from another address")


async def test_by_default_they_cannot_connect(pki, domain, redis_url):
    async with running(pki, domain) as bridge:
        with pytest.raises(ConnectionError):
            async with legacy_client(bridge.port, pki.ca):
                pass


async def test_agents_connect_beside_them(client, legacy_bridge, pki):
    await client.arrive("host-1")
    async with agent(legacy_bridge.port, pki.ca) as a:
        assert (await a.register("host-2")).accepted


async def test_the_newer_session_wins(client, legacy_bridge, pki):
    await client.arrive("host-1")
    async with legacy_client(legacy_bridge.port, pki.ca) as newer:
        await newer.arrive("host-1")
        assert (await client.closed())[0] == 4
        assert (await newer.open(ping("host-1")).frame())[0] == PONG


async def test_a_flood_closes_the_session(pki, domain, redis_url):
    config = server.configuration(pki.certificate, pki.key, legacy=True)
    limits = Limits(buffered=100_000, rate=1, burst=20)
    async with running(pki, domain, config=config, limits=limits) as bridge:
        async with legacy_client(bridge.port, pki.ca) as client:
            await client.arrive("host-1")
            for _ in range(3):
                client.open(b"\0\x01\0\0" + bytes(40_000), end=False)
            assert (await client.closed())[0] == 7
        async with legacy_client(bridge.port, pki.ca) as client:
            await client.arrive("host-2")
            for _ in range(30):
                client.open(data("m"))
            assert (await client.closed())[0] == 7


async def test_one_that_says_nothing_is_closed(pki, domain, redis_url):
    config = server.configuration(pki.certificate, pki.key, legacy=True)
    async with (
        running(pki, domain, config=config, limits=Limits(register_timeout=0.1)) as bridge,
        legacy_client(bridge.port, pki.ca) as client,
    ):
        assert (await client.closed())[0] == 2


async def test_an_operators_decision_makes_it_come_again(client, legacy_bridge):
    await client.arrive("host-1")
    legacy_bridge.commands.reconnect("host-1", "approved")
    assert await client.closed() == (5, "approved")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=60), st.booleans()), max_size=30), st.booleans()
)
def test_no_bytes_whatever_come_out_as_an_error(pieces, begun):
    session = LegacySession("s", Facts("b"), Limits(), 0.0)
    if begun:
        session.receive(0, ping("host-1"), True, 0.0)
        session.approved = True
        session.accept("host-1", 0)
        session.start(instruction(), now_ms(), 0.0)
    for stream_id, payload, end in pieces:
        session.receive(stream_id, payload, end, 0.0)
        session.receive(stream_id, ping("host-1")[: len(payload)], end, 0.0)
        session.stop_sending(stream_id)
        session.take_writes()
    session.check(1000.0)
    assert session.closing is not None
