"""What is done to aioquic, and that it still has the effect it is done for."""

import asyncio
import gc
import math
import random
import time
import weakref

import pytest
from aioquic import tls
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quartzflow_agent import quic_tuning
from quartzflow_agent.protocol import messages, task_pb2

from quic_bridge import metrics, server, tuning

from .agents import eventually

AGENT, BRIDGE = ("agent", 1), ("server", 2)  # addresses


def connection_of(bridge, client_id):
    return bridge.registry.get(client_id)


def test_only_the_known_minor_version_of_aioquic_is_taken(monkeypatch):
    tuning.check_version()
    for version in ("1.70.0", "1.8.0", "2.0"):
        monkeypatch.setattr("aioquic.__version__", version)
        with pytest.raises(tuning.WrongVersionError, match=r"aioquic 1\.7\.x is needed"):
            tuning.check_version()


async def test_the_delays_outlive_the_handshake(connect, bridge):
    await connect("host-1")
    quic = connection_of(bridge, "host-1")._quic
    assert quic._ack_delay == tuning.ACK_DELAY
    assert quic._loss.max_ack_delay == tuning.MAX_ACK_DELAY
    # The handshake's first round trip is over: a probe waits longer than an agent may take to acknowledge.
    assert quic._loss.get_probe_timeout() > tuning.MAX_ACK_DELAY


def exchange(agent, bridge, now):
    """Pass datagrams between both ends until they are silent; nothing takes any time."""
    silent = False
    while not silent:
        silent = True
        for sender, receiver, address in ((agent, bridge, AGENT), (bridge, agent, BRIDGE)):
            for data, _ in sender.datagrams_to_send(now=now):
                receiver.receive_datagram(data, address, now=now)
                silent = False


def connected(pki, kind=QuicConnection):
    """An agent's connection and the bridge's, past the handshake; `kind` is the bridge's class."""
    client_config = quic_tuning.configuration()
    client_config.load_verify_locations(cadata=pki.ca)
    client_config.server_name = "127.0.0.1"
    server_config = server.configuration(pki.certificate, pki.key)
    for config in (client_config, server_config):
        config.max_data = config.max_stream_data = 30_000  # so that limits are raised
    agent = QuicConnection(configuration=client_config)
    agent.connect(BRIDGE, now=0.0)
    bridge = kind(
        configuration=server_config,
        original_destination_connection_id=agent.original_destination_connection_id,
    )
    exchange(agent, bridge, 0.0)
    return agent, bridge


@given(
    writes=st.lists(
        st.tuples(
            st.booleans(),  # the agent writes, or the bridge
            st.sampled_from([0, 4]),  # stream
            st.integers(1, 5000) | st.just(50_000),  # bytes
        ),
        min_size=1,
        max_size=12,
    ),
    seed=st.integers(0, 1000),
    loss=st.sampled_from([0.0, 0.05]),
    tuned=st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_arrives_whatever_is_lost(pki, writes, seed, loss, tuned):
    agent, bridge = connected(pki, tuning.LeanConnection)
    if tuned:
        quic_tuning.tune(agent)
        tuning.tune(bridge)
    chance, sent, received, now = random.Random(seed), {}, {}, 1.0
    ends = {True: (agent, bridge, AGENT), False: (bridge, agent, BRIDGE)}
    writes = [(True, 0, 1), (True, 4, 1), *writes]  # it is the agent that opens streams
    for number, (by_agent, stream, size) in enumerate(writes):
        data = bytes([number]) * size
        ends[by_agent][0].send_stream_data(stream, data)
        key = (by_agent, stream)
        sent[key] = sent.get(key, b"") + data
        until = now + 300
        while now < until:
            moved = False
            for side, (sender, receiver, address) in ends.items():
                if sender.get_timer() <= now:
                    sender.handle_timer(now=now)
                for datagram, _ in sender.datagrams_to_send(now=now):
                    moved = True
                    if chance.random() >= loss:
                        receiver.receive_datagram(datagram, address, now=now)
                while (event := receiver.next_event()) is not None:
                    if isinstance(event, events.StreamDataReceived):
                        got = (side, event.stream_id)
                        received[got] = received.get(got, b"") + event.data
            if not moved and (1 < number < len(writes) - 1 or received == sent):
                break
            due = now if moved else min(agent.get_timer(), bridge.get_timer())
            now = max(now + 0.001, due)
    assert received == sent


def test_what_is_ordinary_is_written_in_one_round(pki, monkeypatch):
    agent, bridge = connected(pki, tuning.LeanConnection)
    agent.send_stream_data(0, b"a registration")
    exchange(agent, bridge, 1.0)
    slow = []
    monkeypatch.setattr(QuicConnection, "_write_application", lambda *args: slow.append(args))
    bridge.send_stream_data(0, b"an instruction")
    assert len(bridge.datagrams_to_send(now=2.0)) == 1
    assert bridge.datagrams_to_send(now=2.0) == []
    assert slow == []
    for unusual in ("_ping_pending", "_probe_pending", "_retire_connection_ids", "_handshake_done_pending"):
        monkeypatch.setattr(bridge, unusual, [1])
        bridge.datagrams_to_send(now=2.0)
        monkeypatch.undo()
        monkeypatch.setattr(QuicConnection, "_write_application", lambda *args: slow.append(args))
    assert len(slow) == 4


@pytest.mark.parametrize("tuned", [True, False])
def test_acknowledgements_that_come_late_make_no_storm(pki, tuned):
    """With 10,000 agents a burst's acknowledgements are read late; each probe sent meanwhile makes them later."""
    agent, bridge = connected(pki)
    if tuned:
        quic_tuning.tune(agent)
        tuning.tune(bridge)
    exchange(agent, bridge, 1.0)

    bridge.send_stream_data(1, b"an instruction")
    for data, _ in bridge.datagrams_to_send(now=10.0):
        agent.receive_datagram(data, BRIDGE, now=10.0)
    late = [data for data, _ in agent.datagrams_to_send(now=10.0)]
    probes = 0
    while (due := bridge.get_timer()) is not None and due < 10.25:
        bridge.handle_timer(now=due)
        probes += len(bridge.datagrams_to_send(now=due))
    for data in late:
        bridge.receive_datagram(data, AGENT, now=10.25)
    assert (probes == 0) is tuned, probes


async def test_an_acknowledgement_rides_on_the_answer(connect, bridge, monkeypatch):
    a = await connect("host-1")
    await asyncio.sleep(0.2)
    sent = []
    send = bridge.server.socket.send
    monkeypatch.setattr(
        bridge.server.socket, "send", lambda data, address: sent.append(data) or send(data, address)
    )
    await a.ping()
    await asyncio.sleep(3 * tuning.ACK_DELAY)
    assert len(sent) == 1


async def test_what_needs_no_answer_wakes_nobody_until_its_acknowledgement_is_due(
    connect, bridge, monkeypatch
):
    a = await connect("host-1")
    await asyncio.sleep(0.3)
    turns, sent = [], []
    transmit, send = bridge.server.transmit, bridge.server.socket.send
    monkeypatch.setattr(bridge.server, "transmit", lambda one, now: (turns.append(now), transmit(one, now)))
    monkeypatch.setattr(
        bridge.server.socket,
        "send",
        lambda data, address: sent.append(time.monotonic()) or send(data, address),
    )
    answered = metrics.ANSWERED._value.get()
    begun = time.monotonic()
    a.send(messages.ack("x:0:some-execution"))
    await eventually(lambda: metrics.ANSWERED._value.get() > answered)
    assert turns == []
    await eventually(lambda: sent)
    assert sent[0] - begun >= tuning.ACK_DELAY
    assert (len(turns), len(sent)) == (1, 1)


async def test_what_one_turn_makes_a_session_say_leaves_in_one_datagram(connect, bridge, monkeypatch):
    a = await connect("host-1")
    await asyncio.sleep(0.2)
    sent = []
    send = bridge.server.socket.send
    monkeypatch.setattr(
        bridge.server.socket, "send", lambda data, address: sent.append(data) or send(data, address)
    )
    connection = connection_of(bridge, "host-1")
    for number in range(10):
        connection.session.execute(task_pb2.TaskExecution(execution_id=f"e{number}"))
        connection.wake()
    for _ in range(10):
        await a.next_data(task_pb2.TaskExecution)
    assert len(sent) == 1


async def test_a_peers_goodbye_is_seen_before_its_event(connect, bridge):
    a = await connect("host-1")
    quic = connection_of(bridge, "host-1")._quic
    assert tuning.close_of(quic) is None
    a.close()
    await eventually(lambda: len(bridge.registry) == 0, patience=0.5)


async def test_what_the_peer_has_not_acknowledged_is_counted(connect, bridge):
    a = await connect("host-1")
    quic = connection_of(bridge, "host-1")._quic
    await eventually(lambda: tuning.unacknowledged(quic, 0) == 0)
    quic.send_stream_data(0, b"x" * 5000)
    assert tuning.unacknowledged(quic, 0) == 5000
    assert tuning.unacknowledged(quic, 400) == 0
    assert a.frames.empty()


async def test_an_ended_connection_is_freed_without_the_collector(connect, bridge):
    a = await connect("host-1")
    connection = weakref.ref(connection_of(bridge, "host-1"))
    quic = weakref.ref(connection()._quic)
    gc.collect()
    gc.disable()
    try:
        a.close()
        await eventually(lambda: len(bridge.registry) == 0)
        await asyncio.sleep(0.05)
        assert quic() is None
        assert connection() is None
    finally:
        gc.enable()


async def test_an_end_looks_up_only_its_own_ids(connect, bridge):
    class Routes(dict):
        def __iter__(self):
            raise AssertionError("scanned all routes")

        items = keys = values = __iter__

    a = await connect("host-1")
    bridge.server.routes = Routes(bridge.server.routes)
    a.close()
    await eventually(lambda: len(bridge.server.routes) == 0)


async def test_no_stream_is_kept_for_a_side_stream_that_has_ended(connect, bridge):
    from .test_session import CHUNK

    a = await connect("host-1")
    quic = connection_of(bridge, "host-1")._quic
    for number in range(1, 11):
        a.write(CHUNK, stream_id=4 * number, end_stream=True)
        await a.ping()
    await eventually(lambda: list(quic._streams) == [0])
    assert connection_of(bridge, "host-1").session._side == {}


def test_connections_are_frozen_once_they_are_many_or_the_bridge_is_idle(monkeypatch):
    calls = []
    monkeypatch.setattr(tuning.gc, "collect", lambda: calls.append("collect"))
    monkeypatch.setattr(tuning.gc, "freeze", lambda: calls.append("freeze"))
    freezer = tuning.Freezer()
    for _ in range(tuning.FREEZE_AFTER - 1):
        freezer.connected(now=0)
        freezer.settle(now=0)
    assert calls == []
    freezer.connected(now=0)
    assert calls == ["freeze"]
    freezer.settle(now=tuning.FREEZE_IDLE - 1)
    assert len(calls) == 1
    freezer.settle(now=tuning.FREEZE_IDLE)
    freezer.settle(now=1000)
    assert calls == ["freeze", "collect", "freeze"]


async def test_delayed_acknowledgements_are_only_hastened_where_there_are_any(connect, bridge):
    a = await connect("host-1")
    quic = connection_of(bridge, "host-1")._quic
    space = quic._spaces[tls.Epoch.ONE_RTT]
    await eventually(lambda: space.ack_at is None)
    tuning.acknowledge_now(quic, 1.0)
    assert space.ack_at is None
    space.ack_at = 5.0
    tuning.acknowledge_now(quic, 1.0)
    assert space.ack_at == 1.0
    a.send(messages.ping("host-1"))
    await a.next()


async def test_after_a_datagram_only_what_it_may_have_moved_ahead_is_looked_at(connect, bridge, monkeypatch):
    await connect("host-1")
    quic = connection_of(bridge, "host-1")._quic
    space = quic._spaces[tls.Epoch.ONE_RTT]
    await eventually(lambda: space.ack_at is None and not space.ack_eliciting_in_flight)
    assert tuning.timer_after_receipt(quic) == math.inf
    monkeypatch.setattr(space, "ack_at", 5.0)
    assert tuning.timer_after_receipt(quic) == 5.0
    monkeypatch.setattr(space, "ack_eliciting_in_flight", 1)
    monkeypatch.setattr(tuning, "timer", lambda quic: 4.0)
    assert tuning.timer_after_receipt(quic) == 4.0


async def test_what_is_received_after_a_timer_has_rung_is_counted_in(connect, bridge, monkeypatch):
    """An acknowledgement read between the ring and its turn: a probe would be sent for nothing, in a burst by many."""
    await connect("host-1")
    connection = connection_of(bridge, "host-1")
    await eventually(lambda: not connection._dirty)
    handled = []
    now = bridge.server.loop.time()
    with monkeypatch.context() as patch:
        patch.setattr(QuicConnection, "handle_timer", lambda quic, now: handled.append(now))
        connection.ring(tuning.timer(connection._quic) + 1)  # the idle timeout, far from now
        connection.received(b"", ("127.0.0.1", 9), now)
        connection.transmit(now)
        assert handled == []
        patch.setattr(tuning, "timer", lambda quic: now)
        connection.ring(now)
        connection.transmit(now)
        assert handled == [now]
