"""Wake-ups through a real redis, and what goes back."""

import asyncio
import gc
import time

import pytest
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from quartzflow_agent.protocol import agent_pb2, constants, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.framing import encode
from redis.exceptions import ConnectionError as RedisConnectionError

from quartzflow.bridges import channel_name, dispatch
from quic_bridge import logs
from quic_bridge.commands import Commands
from quic_bridge.registry import Registry
from tests import services

from .agents import agent, eventually
from .conftest import running


@pytest.fixture
async def tell(bridge):
    """`await tell(message)` sends the bridge a wake-up."""
    layer = get_channel_layer()

    async def tell(message):
        await layer.send(channel_name(bridge.bridge_id), message)

    return tell


async def test_instructions_arrive(connect, tell):
    a = await connect("host-1")
    data = task_pb2.TaskExecution(execution_id="exec_1").SerializeToString()
    await tell(dispatch([("host-1", data), ("host-1", b"\xff"), ("elsewhere", data)]))
    _, message = await a.next_data(task_pb2.TaskExecution)
    assert message.execution_id == "exec_1"
    await a.ping()  # nothing else came


async def test_a_new_configuration_is_pushed_at_once(connect, tell, domain):
    a = await connect("host-1", config_version=1)
    domain.version = 2
    await tell({"type": "config", "version": 2})
    _, push = await asyncio.wait_for(a.next_data(task_pb2.TaskConfigPush), 1)
    assert push.version == 2


async def test_cancellations_are_grouped_per_agent_and_reason(connect, tell):
    a = await connect("host-1")
    items = [
        ("host-1", "e1", "cancelled_by_user"),
        ("host-1", "e2", "cancelled_by_user"),
        ("elsewhere", "e3", "x"),
    ]
    await tell({"type": "cancel", "items": items})
    envelope, message = await a.next_data(agent_pb2.TaskCancel)
    assert (list(message.execution_ids), message.reason) == (["e1", "e2"], "cancelled_by_user")
    assert envelope.wait_ack


async def test_an_instruction_whose_cancellation_overtook_it_is_not_sent(connect, tell):
    """Such as one for a host that has just moved out of the task's groups."""
    a = await connect("host-1")
    await tell({"type": "cancel", "items": [("host-1", "e1", "host_moved")]})
    await a.next_data(agent_pb2.TaskCancel)
    late, other = (task_pb2.TaskExecution(execution_id=name).SerializeToString() for name in ("e1", "e2"))
    await tell(dispatch([("host-1", late), ("host-1", other)]))
    _, message = await a.next_data(task_pb2.TaskExecution)
    assert message.execution_id == "e2"


def test_cancellations_are_forgotten_in_time():
    now = 0.0
    commands = Commands(Registry(), clock=lambda: now)
    asyncio.run(commands.cancel([("host-1", "e1", "x")]))
    now = 100.0
    asyncio.run(commands.cancel([("host-1", "e2", "x")]))
    assert set(commands._cancelled) == {"e1", "e2"}
    now = 130.0
    asyncio.run(commands.cancel([("host-1", "e3", "x")]))
    assert set(commands._cancelled) == {"e2", "e3"}


async def test_a_revoked_client_is_closed_at_once(connect, tell):
    a = await connect("host-1")
    await tell({"type": "close", "client_id": "host-1", "reason": "revoked by admin"})
    assert await a.closed() == (constants.CLOSE_REVOKED, "revoked by admin")


async def test_watching_a_log_is_passed_on(connect, tell):
    a = await connect("host-1")
    await tell({"type": "log_watch", "client_id": "host-1", "execution_id": "e1", "watching": True})
    _, message = await a.next_data(agent_pb2.LogWatch)
    assert (message.execution_id, message.watching) == ("e1", True)


async def test_a_log_is_watched_again_when_its_agent_comes_back(connect, tell, bridge, monkeypatch):
    first = await connect("host-1")
    for name, watching in (("e1", True), ("e2", True), ("e2", False)):
        await tell({"type": "log_watch", "client_id": "host-1", "execution_id": name, "watching": watching})
        await first.next_data(agent_pb2.LogWatch)
    # Said while nobody was there: it waits for who comes.
    await tell({"type": "log_watch", "client_id": "host-2", "execution_id": "e9", "watching": True})
    second, other = await connect("host-1"), await connect("host-2")
    for who, name in ((second, "e1"), (other, "e9")):
        _, message = await who.next_data(agent_pb2.LogWatch)
        assert (message.execution_id, message.watching) == (name, True)
    assert second.frames.empty()
    now = time.monotonic()
    monkeypatch.setattr(logs.time, "monotonic", lambda: now + logs.WATCH_LASTS)
    bridge.logs.expire()
    assert bridge.logs._watches == {}


async def test_instructions_of_another_key_or_version_are_left_to_the_sweep(connect, tell, settings):
    a = await connect("host-1")
    data = task_pb2.TaskExecution(execution_id="exec_1").SerializeToString()
    await tell({"type": "dispatch", "items": [("host-1", data)]})  # as they were before they were encrypted
    key = settings.SECRET_KEY
    settings.SECRET_KEY = "of another installation"
    foreign = dispatch([("host-1", data)])
    settings.SECRET_KEY = key
    await tell(foreign)
    damaged = dispatch([("host-1", data)])
    await tell({**damaged, "sealed": damaged["sealed"][:-9]})
    await tell(dispatch([("host-1", task_pb2.TaskExecution(execution_id="exec_2").SerializeToString())]))
    _, message = await a.next_data(task_pb2.TaskExecution)
    assert message.execution_id == "exec_2"


async def test_an_unreadable_wake_up_does_not_stop_the_next(connect, tell):
    a = await connect("host-1")
    await tell({"type": "cancel"})
    await tell({"type": "from the future"})
    await tell({"type": "cancel", "items": [("host-1", "e1", "x")]})
    await a.next_data(agent_pb2.TaskCancel)


def fetch(**fields):
    return {
        "type": "log_fetch", "client_id": "host-1", "execution_id": "e1", "request_id": "r1", "offset": 0, "limit": 0,
        "reply": "asker", **fields,
    }  # fmt: skip


def chunk(**fields):
    message = agent_pb2.LogChunk(request_id="r1", execution_id="e1", total=6, **fields)
    return encode(messages.data(pb.MESSAGE_TYPE_LOG_CHUNK, message))


async def received():
    return await asyncio.wait_for(get_channel_layer().receive("asker"), 5)


async def test_a_whole_log_comes_back_in_chunks(connect, tell, bridge):
    a, stranger = await connect("host-1"), await connect("host-2")
    await tell(fetch(offset=3))
    _, request = await a.next_data(agent_pb2.LogFetch)
    assert (request.request_id, request.execution_id, request.offset) == ("r1", "e1", 3)
    stranger.write(chunk(data=b"forged", last=True), stream_id=4, end_stream=True)
    a.write(chunk(data=b"abc") + chunk(offset=3, data=b"def", last=True), stream_id=4, end_stream=True)
    first, second = await received(), await received()
    assert (first["type"], first["data"], first["offset"], first["last"]) == ("log.chunk", b"abc", 0, False)
    assert (second["data"], second["offset"], second["total"], second["last"]) == (b"def", 3, 6, True)
    assert bridge.logs._fetches == {}


async def test_who_asks_for_the_log_of_an_absent_agent_hears_so(connect, tell, bridge, monkeypatch):
    await tell(fetch())
    assert (await received())["error"] == "offline"

    a = await connect("host-1")
    await tell(fetch())
    await a.next_data(agent_pb2.LogFetch)
    a.close()
    assert (await received())["error"] == "offline"


async def test_log_requests_are_limited_in_number_and_time(connect, tell, bridge, monkeypatch):
    monkeypatch.setattr(logs, "FETCHES", 1)
    a = await connect("host-1")
    await tell(fetch())
    await a.next_data(agent_pb2.LogFetch)
    await tell(fetch(request_id="r2"))
    assert (await received())["error"] == "busy"
    monkeypatch.setattr(logs, "FETCH_TIMEOUT", 0)
    bridge.logs.expire()
    answer = await received()
    assert (answer["request_id"], answer["error"], answer["last"]) == ("r1", "timeout", True)


async def test_a_log_that_nobody_takes_does_not_fill_the_memory(connect, bridge):
    a = await connect("host-1")
    bridge.logs.fetch("host-1", "asker", agent_pb2.LogFetch(request_id="r1"))
    connection = bridge.registry.get("host-1")
    while bridge.logs._fetches:
        bridge.logs.chunk(connection, agent_pb2.LogChunk(request_id="r1", data=b"x"))
    assert bridge.logs.chunks.full()
    await a.next_data(agent_pb2.LogFetch)


async def test_without_redis_the_bridge_goes_on_and_listens_again_afterwards(pki, domain, tmp_path, caplog):
    from channels_redis.core import RedisChannelLayer

    def layer():
        return RedisChannelLayer(hosts=[f"unix://{tmp_path}/redis.sock"])

    async with running(pki, domain, layer=layer()) as bridge, agent(bridge.port, pki.ca) as a:
        await a.register("host-1")
        await asyncio.sleep(0.3)
        for _ in range(2):
            with services.redis_server(tmp_path):
                sender = layer()
                message = {"type": "cancel", "items": [("host-1", "e1", "x")]}
                while True:
                    try:
                        await sender.send(channel_name(bridge.bridge_id), message)
                        break
                    except RedisConnectionError:  # its socket is there a little before it listens
                        await asyncio.sleep(0.01)
                await a.next_data(agent_pb2.TaskCancel)
                await sender.close_pools()
            await a.ping()
            assert a.frames.empty()
    assert domain.life[-1] == ("stopped", "test-bridge")
    await eventually(lambda: domain.closed)
    # channels_redis starts a task that clears up behind a message and forgets it; Redis may be gone by then.
    # Found here, it is no later test's.
    gc.collect()
    lost = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert [text for text in lost if "_clean_receive_backup" not in text] == []
    caplog.clear()


async def test_a_reader_that_does_not_keep_up_loses_chunks_and_nothing_else(connect, bridge, monkeypatch):
    sent = []

    async def send(channel, message):
        sent.append(message["offset"])
        if len(sent) == 1:
            raise ChannelFull

    await connect("host-1")
    monkeypatch.setattr(bridge.wake._layer, "send", send)
    bridge.logs.fetch("host-1", "asker", agent_pb2.LogFetch(request_id="r1"))
    connection = bridge.registry.get("host-1")
    for offset in range(3):
        bridge.logs.chunk(connection, agent_pb2.LogChunk(request_id="r1", offset=offset))
    await eventually(lambda: len(sent) == 3)
