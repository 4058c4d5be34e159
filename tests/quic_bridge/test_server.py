"""Real QUIC on loopback."""

import asyncio
import os
from contextlib import AsyncExitStack

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from quartzflow_agent.protocol import agent_pb2, constants, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb

from quic_bridge import server
from quic_bridge.limits import Limits

from .agents import agent, eventually
from .conftest import running


async def test_an_agent_registers_and_heartbeats(connect, bridge, domain):
    a = await connect()
    response = await a.register("host-1", config_version=1, hostname="h", labels={"env": "prod"})

    assert response.accepted
    assert (response.client_id, response.group, response.bridge_id) == ("host-1", "default", "test-bridge")
    assert response.heartbeat_interval == constants.HEARTBEAT_INTERVAL
    assert list(response.endpoints) == ["other.example:8474"]
    info = domain.registered[0]
    assert (info.client_id, info.ip, info.labels) == ("host-1", "127.0.0.1", {"env": "prod"})

    pong = await a.ping(config_version=1, running=3, sent_at=messages.now_ms() - 500)
    assert abs(pong.server_time - messages.now_ms()) < 2000
    assert (pong.config_version, pong.scheduler_alive) == (1, True)
    await bridge.inbound.save_heartbeats()
    beat = domain.beats[0]
    assert (beat.client_id, beat.session_id, beat.running) == ("host-1", info.session_id, 3)
    assert -2000 < beat.clock_offset_ms <= -500


async def test_a_refused_agent_hears_why_before_the_connection_closes(connect, domain):
    a = await connect()
    response = await a.register("host-1", credential="wrong")
    assert (response.accepted, response.code) == (False, "bad_credential")
    code, reason = await a.closed()
    assert (code, reason) == (constants.CLOSE_REFUSED, "bad_credential: wrong credential")


async def test_an_agent_is_asked_to_come_back_when_the_database_is_away(connect, domain):
    domain.broken.set()
    a = await connect()
    response = await a.register("host-1")
    assert (response.accepted, response.code) == (False, "busy")


async def test_the_newer_session_wins_and_the_older_hears_why(connect, bridge, domain):
    older = await connect("host-1")
    newer = await connect("host-1")

    code, reason = await older.closed()
    assert code == constants.CLOSE_SUPERSEDED
    assert "connected again from 127.0.0.1" in reason
    await newer.ping()
    await bridge.commands.dispatch([("host-1", task_pb2.TaskExecution(execution_id="exec_1"))])
    await newer.next_data(task_pb2.TaskExecution)
    # The older one's end does not take the client offline.
    await asyncio.sleep(0.3)
    assert domain.offline == []


async def test_a_clean_goodbye_takes_the_client_offline_at_once(connect, domain):
    a = await connect("host-1")
    session_id = domain.registered[0].session_id
    a.close()
    await eventually(lambda: domain.offline, patience=1)
    assert domain.offline == [("host-1", session_id, "closed by the agent")]


async def test_silence_takes_the_client_offline(pki, domain, redis_url):
    limits = Limits(silence=0.2)
    async with running(pki, domain, limits=limits) as bridge, agent(bridge.port, pki.ca) as a:
        await a.register("host-1")
        code, reason = await a.closed()
        assert (code, reason) == (constants.CLOSE_SILENT, "silent for 0.2 s")
        await eventually(lambda: domain.offline)


async def test_who_does_not_register_in_time_is_closed(pki, domain, redis_url):
    limits = Limits(register_timeout=0.2)
    async with running(pki, domain, limits=limits) as bridge, agent(bridge.port, pki.ca) as a:
        code, _ = await a.closed()
        assert code == constants.CLOSE_REGISTER_TIMEOUT
        await eventually(lambda: not bridge.server.connections)


async def test_garbage_closes_only_the_offender(connect, bridge):
    good = await connect("host-1")
    bad = await connect("host-2")
    bad.write(os.urandom(100_000))
    code, _ = await bad.closed()
    assert code == constants.CLOSE_PROTOCOL
    await good.ping()
    assert [c.session.client_id for c in bridge.registry] == ["host-1"]


async def test_garbage_datagrams_neither_stop_the_bridge_nor_stay(connect, bridge):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.0.0.1", bridge.port)
    )
    initial = b"\xc3\x00\x00\x00\x01\x08" + os.urandom(8) + b"\x08" + os.urandom(8) + b"\x00\x44\x90"
    for data in (b"", b"\x40", b"\xc0", os.urandom(1200), initial + os.urandom(1200), b"\x80" + bytes(1200)):
        transport.sendto(data)
    good = await connect("host-1")
    await good.ping()
    transport.close()
    assert len(bridge.server.connections) <= 2


async def test_another_quic_version_is_answered_with_ours(bridge):
    loop = asyncio.get_running_loop()
    answers = asyncio.Queue()

    class Probe(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            answers.put_nowait(data)

    transport, _ = await loop.create_datagram_endpoint(Probe, remote_addr=("127.0.0.1", bridge.port))
    transport.sendto(b"\xc0\xfa\xce\xb0\x0c\x08" + bytes(8) + b"\x08" + bytes(8) + bytes(1200))
    answer = await asyncio.wait_for(answers.get(), 5)
    assert answer[1:5] == bytes(4)
    assert b"\x00\x00\x00\x01" in answer[5:]
    transport.close()


async def test_a_wrong_alpn_gets_no_session(pki, bridge):
    failed = None
    try:
        async with agent(bridge.port, pki.ca, alpn="h3"):
            pass
    except ConnectionError as error:
        failed = error
    assert failed is not None
    await eventually(lambda: not bridge.server.connections)


async def test_results_are_acknowledged_after_the_commit(connect, bridge, domain):
    a = await connect("host-1")
    sent = [a.result(f"exec_{number}", output="hello") for number in range(3)]
    ack = await a.next_ack()
    assert ack.status == pb.ACK_STATUS_SUCCESS
    assert [ack.msg_id, *ack.more_msg_ids] == sent
    assert [(r.client_id, r.message.output) for r in domain.reports] == [("host-1", "hello")] * 3
    assert len(domain.batches) == 1


async def test_a_result_is_not_acknowledged_while_the_database_is_away(connect, bridge, domain):
    a = await connect("host-1")
    domain.broken.set()
    msg_id = a.result("exec_1")
    await asyncio.sleep(0.3)
    assert a.frames.empty()
    domain.broken.clear()
    ack = await a.next_ack()
    assert ack.msg_id == msg_id


async def test_a_result_sent_twice_is_acknowledged_twice(connect, domain):
    a = await connect("host-1")
    first = a.result("exec_1")
    assert (await a.next_ack()).msg_id == first
    second = a.result("exec_1")
    assert (await a.next_ack()).msg_id == second


async def test_a_refused_result_is_answered_with_the_reason(connect, domain):
    domain.known = {"exec_mine"}
    a = await connect("host-1")
    msg_id = a.result("exec_other")
    ack = await a.next_ack()
    assert (ack.msg_id, ack.status, ack.error) == (msg_id, pb.ACK_STATUS_FAILURE, "unknown execution")


async def test_instructions_go_out_together_and_are_reported_as_accepted(connect, bridge, domain):
    a = await connect("host-1")
    items = [("host-1", task_pb2.TaskExecution(execution_id=f"exec_{n}")) for n in range(5)]
    assert await bridge.commands.dispatch([*items, ("elsewhere", task_pb2.TaskExecution())]) == 5
    received = [await a.next_data(task_pb2.TaskExecution) for _ in range(5)]
    assert [message.execution_id for _, message in received] == [f"exec_{n}" for n in range(5)]
    assert all(envelope.wait_ack for envelope, _ in received)

    first, *more = [envelope.msg_id for envelope, _ in received[:4]]
    a.send(messages.ack(first, more_msg_ids=more))
    a.send(
        messages.ack(received[4][0].msg_id, pb.ACK_STATUS_FAILURE, error="rejected: run_as is not allowed")
    )
    await eventually(lambda: len(domain.reports) == 5)
    assert [r.execution_id for r in domain.reports] == [f"exec_{n}" for n in range(5)]
    rejected = domain.reports[4]
    assert (rejected.reason, rejected.error) == ("rejected", "run_as is not allowed")


async def test_what_was_not_accepted_is_sent_again_by_the_sweep(connect, bridge, domain):
    a = await connect("host-1")
    domain.waiting = [("host-1", task_pb2.TaskExecution(execution_id="exec_1"))]
    await bridge.sweep()
    await bridge.sweep()
    for _ in range(2):
        _, message = await a.next_data(task_pb2.TaskExecution)
        assert message.execution_id == "exec_1"


async def test_offline_records_are_answered_after_their_commit(connect, domain):
    domain.known = {"exec_1", "exec_2"}
    a = await connect("host-1")
    records = [task_pb2.TaskResult(execution_id=f"exec_{n}") for n in (1, 2, 3)]
    request = task_pb2.OfflineSyncRequest(client_id="host-1", record_count=3, records=records)
    msg_id = a.say(pb.MESSAGE_TYPE_OFFLINE_SYNC_REQUEST, request, wait_ack=True)
    envelope, response = await a.next_data(task_pb2.OfflineSyncResponse)
    assert envelope.msg_id == msg_id
    assert list(response.execution_ids) == ["exec_1", "exec_2"]
    assert (response.success, response.synced_count) == (False, 2)
    assert response.message == "unknown execution"


async def test_an_agent_that_does_not_read_is_closed(pki, domain, redis_url):
    limits = Limits(backlog=100_000)
    async with running(pki, domain, limits=limits) as bridge, agent(bridge.port, pki.ca) as a:
        await a.register("host-1")
        big = task_pb2.TaskExecution(execution_id="exec_1", params={"x": "y" * 200_000})
        await bridge.commands.dispatch([("host-1", big)])
        code, reason = await a.closed()
        assert code == constants.CLOSE_FLOOD
        assert "not read" in reason


async def test_a_flood_closes_only_the_offender(pki, domain, redis_url):
    limits = Limits(rate=10, burst=50)
    async with (
        running(pki, domain, limits=limits) as bridge,
        agent(bridge.port, pki.ca) as good,
        agent(bridge.port, pki.ca) as bad,
    ):
        await good.register("host-1")
        await bad.register("host-2")
        for _ in range(60):
            bad.send(messages.ping("host-2"))
        code, _ = await bad.closed()
        assert code == constants.CLOSE_FLOOD
        await good.ping()


async def test_stopping_sends_agents_elsewhere_and_writes_what_they_still_report(pki, domain, redis_url):
    async with running(pki, domain) as bridge, agent(bridge.port, pki.ca) as a:
        await a.register("host-1")
        stopping = asyncio.create_task(bridge._drain())
        _, message = await a.next_data(agent_pb2.GoAway)
        assert list(message.endpoints) == ["other.example:8474"]
        msg_id = a.result("exec_1")
        assert (await a.next_ack()).msg_id == msg_id
        a.close()
        await asyncio.wait_for(stopping, 2)
    assert domain.life == [("started", "test-bridge", bridge.endpoint), ("stopped", "test-bridge")]
    assert domain.closed


async def test_who_stays_is_closed_when_the_bridge_ends(pki, domain, redis_url, monkeypatch):
    monkeypatch.setattr("quic_bridge.bridge.DRAIN", 0.1)
    async with AsyncExitStack() as later:
        async with running(pki, domain) as bridge:
            a = await later.enter_async_context(agent(bridge.port, pki.ca))
            await a.register("host-1")
            a.result("exec_1")
            await asyncio.sleep(0.02)
        assert await a.closed() == (constants.CLOSE_GO_AWAY, "the bridge is stopping")
    assert [r.execution_id for r in domain.reports] == ["exec_1"]
    assert [client_id for client_id, _, _ in domain.offline] == ["host-1"]


async def test_nothing_is_left_of_connections_that_have_ended(connect, bridge):
    for number in range(5):
        a = await connect(f"host-{number}")
        a.close()
    await eventually(lambda: not bridge.server.connections)
    assert bridge.server.routes == {}
    assert len(bridge.registry) == 0
    assert bridge.server._admission.unregistered == 0


async def test_further_handshakes_wait_while_too_many_are_under_way(pki, domain, redis_url):
    async with (
        running(pki, domain, limits=Limits(unregistered=1)) as bridge,
        AsyncExitStack() as stack,
        agent(bridge.port, pki.ca) as first,
    ):
        second = asyncio.create_task(stack.enter_async_context(agent(bridge.port, pki.ca)))
        await asyncio.sleep(0.3)
        assert len(bridge.server.connections) == 1
        await first.register("host-1")
        connected = await asyncio.wait_for(second, 5)
        assert (await connected.register("host-2")).accepted


async def test_an_instruction_that_fits_into_no_frame_does_not_hold_up_the_others(connect, bridge):
    a = await connect("host-1")
    large = task_pb2.TaskExecution(execution_id="e1", params={"x": "y" * constants.MAX_FRAME})
    small = task_pb2.TaskExecution(execution_id="e2")
    assert await bridge.commands.dispatch([("host-1", large), ("host-1", small)]) == 1
    _, message = await a.next_data(task_pb2.TaskExecution)
    assert message.execution_id == "e2"


async def test_what_many_have_to_send_is_spread_over_turns(connect, bridge, monkeypatch):
    monkeypatch.setattr(server, "TURN", 0)
    agents = [await connect(f"host-{number}") for number in range(3)]
    sent, original = [], bridge.server.transmit
    monkeypatch.setattr(
        bridge.server, "transmit", lambda one, now: (sent.append(one.session.client_id), original(one, now))
    )
    for connection in bridge.registry:
        connection.wake()
    bridge.server._flush()
    assert sent == ["host-0"]
    await eventually(lambda: sent[:3] == ["host-0", "host-1", "host-2"])
    for a in agents:
        a.send(messages.ping(a.client_id))
    await eventually(lambda: not any(a.frames.empty() for a in agents))


async def test_a_connection_that_cannot_even_be_closed_is_forgotten(connect, bridge, domain):
    good, bad = await connect("host-1"), await connect("host-2")
    broken = bridge.registry.get("host-2")
    broken._quic.datagrams_to_send = lambda now: 1 / 0
    bad.send(messages.ping("host-2"))
    await eventually(lambda: domain.offline)
    assert [c.session.client_id for c in bridge.registry] == ["host-1"]
    assert broken not in bridge.server.connections
    await good.ping()


async def test_a_timer_that_fails_ends_its_connection_only(connect, bridge):
    good, bad = await connect("host-1"), await connect("host-2")
    broken = bridge.registry.get("host-2")
    broken._quic.handle_timer = lambda now: 1 / 0
    broken._quic._close_at = 0.0
    broken._keeper.timers.disarm(broken)
    broken.ring(broken._keeper.loop.time())
    assert (await bad.closed())[1] == "internal error"
    await good.ping()


def test_a_key_that_is_anothers_is_refused(pki, tmp_path):
    other = ec.generate_private_key(ec.SECP256R1())
    key = tmp_path / "other.key"
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(other.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    with pytest.raises(ValueError, match=r"other\.key is not the key of"):
        server.configuration(pki.certificate, key)
    key.write_bytes(other.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"x")))
    with pytest.raises(ValueError, match="cannot use"):
        server.configuration(pki.certificate, key)
    with pytest.raises(FileNotFoundError):
        server.configuration(tmp_path / "none.pem", key)
