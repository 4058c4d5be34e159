"""A bridge's life: start, periodic work, trouble, end."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from channels.layers import get_channel_layer
from quartzflow_agent.protocol import messages

from quartzflow.run import programs, supervise
from quic_bridge import bridge as module
from quic_bridge import server, udp
from quic_bridge.bridge import Bridge
from quic_bridge.domain import Pulse, Unavailable

from .agents import agent, eventually
from .conftest import running


def make(pki, domain):
    sock = udp.bind("127.0.0.1", 0)
    return Bridge(
        bridge_id="test-bridge",
        endpoint="127.0.0.1:1",
        sock=sock,
        config=server.configuration(pki.certificate, pki.key),
        domain=domain,
        layer=get_channel_layer(),
    )


async def test_without_a_database_it_does_not_start(pki, domain, redis_url):
    domain.broken.set()
    bridge = make(pki, domain)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(bridge.run(asyncio.Event()), 5)
    assert not bridge.server.accepting
    assert domain.closed


async def test_nobody_is_let_in_before_its_start_is_announced(pki, domain, redis_url):
    # Announcing takes the clients of the predecessor offline, and would those that came before.
    async with running(pki, domain) as bridge, agent(bridge.port, pki.ca) as a:
        await a.register("host-1")
        assert domain.life == [("started", "test-bridge", bridge.endpoint)]


@pytest.mark.parametrize("method", ["pulse", "pending", "save_heartbeats", "current_version", "mark_offline"])
async def test_an_error_in_a_side_task_ends_the_process_loudly(pki, domain, redis_url, monkeypatch, method):
    for name in ("PULSE", "SWEEP", "COMPARE", "HEARTBEATS"):
        monkeypatch.setattr(module, name, 0.05)
    bridge = make(pki, domain)
    task = asyncio.create_task(bridge.run(asyncio.Event()))
    await eventually(lambda: bridge.server.accepting)
    async with agent(bridge.port, pki.ca) as a:
        await a.register("host-1")

        def fail(*arguments):
            raise ZeroDivisionError(method)

        setattr(domain, method, fail)
        a.send(messages.ping("host-1"))
        await a.next()
        await asyncio.sleep(0.2)  # its heartbeat is written before its session ends
        a.close()
    with pytest.raises(ZeroDivisionError, match=method):
        await asyncio.wait_for(task, 5)
    assert domain.life[-1] == ("stopped", "test-bridge") or method in ("mark_offline", "save_heartbeats")
    assert domain.closed


async def test_the_death_of_the_writers_thread_ends_the_process_loudly(pki, domain, redis_url, monkeypatch):
    bridge = make(pki, domain)
    task = asyncio.create_task(bridge.run(asyncio.Event()))
    await eventually(lambda: bridge.server.accepting)
    monkeypatch.setattr("quic_bridge.writer._rounds", lambda batch: 1 / 0)
    async with agent(bridge.port, pki.ca) as a:
        await a.register("host-1")
        a.result("e1")
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(task, 5)


async def test_a_database_that_is_away_for_a_while_is_waited_for(pki, domain, redis_url, monkeypatch):
    for name in ("PULSE", "SWEEP", "COMPARE", "HEARTBEATS"):
        monkeypatch.setattr(module, name, 0.05)
    async with running(pki, domain) as bridge, agent(bridge.port, pki.ca) as a:
        await a.register("host-1")
        domain.broken.set()
        for _ in range(5):
            await a.ping()
            await asyncio.sleep(0.05)
        a.close()
        await asyncio.sleep(0.2)
        assert domain.offline == []
        domain.broken.clear()
        await eventually(lambda: domain.offline)
        assert domain.offline[0][0] == "host-1"
        async with agent(bridge.port, pki.ca) as b:
            assert (await b.register("host-2")).accepted


async def test_a_database_that_is_away_at_the_end_does_not_hold_it_up(pki, domain, redis_url, monkeypatch):
    monkeypatch.setattr(module, "DRAIN", 0.1)
    async with running(pki, domain) as bridge, agent(bridge.port, pki.ca) as a:
        await a.register("host-1")
        domain.broken.set()
    assert domain.life == [("started", "test-bridge", bridge.endpoint)]
    assert domain.closed


@pytest.mark.parametrize(("agents", "seconds"), [(1, 1.001), (3000, 4.0), (100_000, module.DRAIN)])
async def test_agents_get_the_time_they_need_for_leaving(bridge, agents, seconds):
    assert bridge._patience(agents) == pytest.approx(seconds)


async def test_quic_flow_clients_get_time_to_end_what_runs(legacy_bridge, client):
    await client.arrive("host-1")
    assert legacy_bridge._patience(1) == module.DRAIN


async def test_an_agent_that_is_dead_holds_its_bridge_up_for_a_second(pki, domain, redis_url):
    async with AsyncExitStack() as stack:
        async with running(pki, domain) as bridge:
            a = await stack.enter_async_context(agent(bridge.port, pki.ca))
            await a.register("host-1")
            started = time.monotonic()
        assert 0.9 < time.monotonic() - started < 3


def test_the_supervisor_waits_longer_than_the_bridge_takes():
    assert programs.BRIDGE_STOP > module.DRAIN + 2
    assert supervise.STOP_SECONDS > programs.BRIDGE_STOP + 4


async def test_heartbeats_are_folded_per_client(connect, bridge, domain):
    a, b = await connect("host-1"), await connect("host-2")
    for running_now in (1, 2, 3):
        await a.ping(running=running_now)
    await b.ping(running=9)
    await bridge.inbound.save_heartbeats()
    assert sorted((beat.client_id, beat.running) for beat in domain.beats) == [("host-1", 3), ("host-2", 9)]
    await bridge.inbound.save_heartbeats()
    assert len(domain.beats) == 2


async def test_a_heartbeat_takes_back_no_version_that_was_acknowledged_after_it(connect, bridge, domain):
    """Both are written in bulk, the acknowledgement first: the host's page showed it behind until the next PING."""
    a = await connect("host-1")
    await a.ping()
    bridge.registry.get("host-1").session.applied = 7
    await bridge.inbound.save_heartbeats()
    assert [beat.config_version for beat in domain.beats] == [7]


async def test_a_heartbeat_that_is_not_written_yet_ends_with_its_session(connect, bridge, domain):
    """Written after the end, it would show the host online for ever."""
    a, b = await connect("host-1"), await connect("host-2")
    await a.ping()
    await b.ping(running=9)
    a.close()
    await eventually(lambda: domain.offline)
    await bridge.inbound.save_heartbeats()
    assert [beat.client_id for beat in domain.beats] == ["host-2"]


async def test_a_clock_that_is_far_off_fits_into_its_column(connect, bridge, domain):
    a = await connect("host-1")
    for sent_at in (1, 2**62, -(2**62)):
        await a.ping(sent_at=sent_at)
        await bridge.inbound.save_heartbeats()
    await a.ping(sent_at=0)
    await bridge.inbound.save_heartbeats()
    assert [beat.clock_offset_ms for beat in domain.beats] == [-(2**31 - 1), 2**31 - 1, -(2**31 - 1), None]


async def test_agents_hear_what_the_bridge_has_learnt(connect, bridge, domain):
    a = await connect("host-1", config_version=1)
    domain.pulse = lambda bridge_id, endpoint: Pulse(1, scheduler_alive=False, endpoints=())
    await bridge._pulse()
    assert (await a.ping(config_version=1)).scheduler_alive is False


async def test_too_many_registrations_at_once_are_told_to_come_back(connect, domain, monkeypatch):
    monkeypatch.setattr("quic_bridge.inbound.MAX_REGISTERING", 0)
    a = await connect()
    response = await a.register("host-1")
    assert (response.accepted, response.code) == (False, "busy")


async def test_a_registration_that_fails_closes_the_connection(connect, domain):
    domain.register = lambda info: 1 / 0
    a = await connect()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(a.register("host-1"), 0.5)
    assert (await a.closed())[1] == "registration failed"


async def test_who_leaves_before_the_answer_is_taken_offline_again(connect, bridge, domain):
    import threading

    entered, leave = threading.Event(), threading.Event()
    register = domain.register

    def slow(info):
        entered.set()
        leave.wait(5)
        return register(info)

    domain.register = slow
    a = await connect()
    registering = asyncio.create_task(a.register("host-1"))
    await asyncio.to_thread(entered.wait, 5)
    a.close()
    await eventually(lambda: not bridge.server.connections)
    leave.set()
    await eventually(lambda: domain.offline)
    assert domain.offline[0][0] == "host-1"
    assert len(bridge.registry) == 0
    registering.cancel()


async def test_an_error_of_ours_closes_one_session_only(connect, bridge, monkeypatch):
    good, bad = await connect("host-1"), await connect("host-2")
    monkeypatch.setattr(
        type(bridge.inbound),
        "received",
        lambda self, connection, item: 1 / 0 if item.ping.client_id == "host-2" else None,
    )
    bad.send(messages.ping("host-2"))
    assert (await bad.closed())[1] == "internal error"
    await good.ping()


async def test_a_library_that_swallows_a_cancellation_does_not_hold_up_the_end(
    pki, domain, redis_url, monkeypatch
):
    swallowed = []

    async def deaf(self):
        while not swallowed:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed.append(True)
        await asyncio.sleep(60)

    monkeypatch.setattr("quic_bridge.wake.Wake.send_chunks", deaf)
    async with asyncio.timeout(5), running(pki, domain):
        pass
    assert swallowed


async def test_a_second_error_while_ending_is_logged(pki, domain, redis_url, monkeypatch, caplog):
    async def spiteful(self):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ZeroDivisionError("at the end") from None

    monkeypatch.setattr("quic_bridge.wake.Wake.send_chunks", spiteful)
    async with running(pki, domain):
        pass
    assert "side task failed" in caplog.text
    assert domain.life[-1] == ("stopped", "test-bridge")
