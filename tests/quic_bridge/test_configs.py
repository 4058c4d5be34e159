"""Configuration: pulls and pushes, over real connections."""

import asyncio

import pytest
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol import messages, task_pb2

from quic_bridge import configs, parts
from quic_bridge.domain import Unavailable

from .agents import eventually


@pytest.fixture
def change(bridge, domain):
    """`await change()` makes a new version and has the bridge look."""

    async def change(version=None):
        domain.version = version or domain.version + 1
        domain.tasks = [task_pb2.TaskConfig(id="1", name="report", version=domain.version)]
        bridge.config_changed.set()

    return change


async def test_an_agent_pulls_and_is_then_in_step(connect, bridge, domain):
    a = await connect("host-1", config_version=0)
    assert (await a.ping()).config_version == 1
    response = await a.pull()
    assert (response.version, response.action) == (1, task_pb2.FULL_SYNC)
    await eventually(lambda: domain.applied == [("host-1", 1)])
    assert (await a.ping(config_version=1)).config_version == 1


async def test_a_change_is_pushed_once_per_content_and_acknowledged(
    connect, bridge, domain, change, monkeypatch
):
    encoded = []
    encode = parts.encode_push
    monkeypatch.setattr(
        configs, "encode_push", lambda push, **how: encoded.append(push) or encode(push, **how)
    )
    agents = [await connect(f"host-{number}", config_version=1) for number in range(3)]
    await change()
    for a in agents:
        envelope, push = await a.next_data(task_pb2.TaskConfigPush)
        assert (push.version, push.tasks[0].name) == (2, "report")
        a.send(messages.ack(envelope.msg_id, result=b"2"))
    await eventually(lambda: len(domain.applied) == 3)
    assert sorted(domain.applied) == [("host-0", 2), ("host-1", 2), ("host-2", 2)]
    assert len(encoded) == 1
    assert bridge.configs._pushes == {}


async def test_a_change_that_concerns_others_is_not_pushed(connect, bridge, domain, change):
    mine, other = await connect("host-1", config_version=1), await connect("host-2", config_version=1)
    domain.concerned = {"host-1"}
    await change()
    await mine.next_data(task_pb2.TaskConfigPush)
    assert (await other.ping(config_version=1)).config_version == 1
    assert (await mine.ping(config_version=1)).config_version == 2


async def test_an_agent_that_has_not_pulled_yet_is_not_pushed_to(connect, bridge, domain, change):
    domain.version = 7
    bridge.facts.config_version = 7
    a = await connect("host-1", config_version=3)
    await change()
    await eventually(lambda: bridge.facts.config_version == 8)
    assert (await a.ping(config_version=3)).config_version == 8
    assert (await a.pull(3)).version == 8


async def test_a_change_during_an_unanswered_push_covers_both(connect, bridge, domain, change):
    held = []
    plan = domain.plan_pushes
    domain.plan_pushes = lambda versions: held.append(dict(versions)) or plan(versions)
    a = await connect("host-1", config_version=1)
    await change()
    await a.next_data(task_pb2.TaskConfigPush)
    await change()
    envelope, push = await a.next_data(task_pb2.TaskConfigPush)
    assert push.version == 3
    assert held == [{"host-1": 1}, {"host-1": 1}]
    a.send(messages.ack(envelope.msg_id))
    await eventually(lambda: domain.applied == [("host-1", 3)])
    await change()
    await a.next_data(task_pb2.TaskConfigPush)
    assert held[-1] == {"host-1": 3}


async def test_what_is_not_acknowledged_is_sent_three_times_more_and_then_recorded(
    connect, bridge, domain, change, monkeypatch
):
    monkeypatch.setattr(configs, "PUSH_TIMEOUT", 0.05)
    a = await connect("host-1", config_version=1)
    await change()
    received = 0
    async with asyncio.timeout(5):
        while not domain.failed_pushes:
            await asyncio.sleep(0.06)
            await bridge.configs.repeat()
            while not a.frames.empty():
                await a.next_data(task_pb2.TaskConfigPush)
                received += 1
    assert received == 4
    assert domain.failed_pushes == [(["host-1"], 2, "not acknowledged")]
    # The next heartbeat makes it pull.
    assert (await a.ping(config_version=1)).config_version == 2


async def test_a_refusals_reason_is_recorded(connect, bridge, domain, change, monkeypatch):
    monkeypatch.setattr(configs, "PUSH_TIMEOUT", 0.01)
    a = await connect("host-1", config_version=1)
    await change()
    for _ in range(4):
        envelope, _ = await a.next_data(task_pb2.TaskConfigPush)
        a.send(messages.ack(envelope.msg_id, pb.ACK_STATUS_FAILURE, error="disk\0 full"))
        await eventually(lambda: [p.error for p in bridge.configs._pushes.values()] == ["disk full"])
        await asyncio.sleep(0.02)
        await bridge.configs.repeat()
    assert domain.failed_pushes == [(["host-1"], 2, "disk full")]


async def test_a_late_acknowledgement_ends_the_repeats(connect, bridge, domain, change, monkeypatch):
    monkeypatch.setattr(configs, "PUSH_TIMEOUT", 0.01)
    a = await connect("host-1", config_version=1)
    await change()
    envelope, _ = await a.next_data(task_pb2.TaskConfigPush)
    await asyncio.sleep(0.02)
    await bridge.configs.repeat()
    a.send(messages.ack(envelope.msg_id))
    await eventually(lambda: bridge.configs._pushes == {})
    assert domain.failed_pushes == []


async def test_the_end_of_a_session_ends_its_repeats(connect, bridge, domain, change):
    a = await connect("host-1", config_version=1)
    await change()
    await a.next_data(task_pb2.TaskConfigPush)
    a.close()
    await eventually(lambda: bridge.configs._pushes == {})


async def test_a_configuration_that_fits_into_no_frame_is_recorded(connect, bridge, domain, change):
    a = await connect("host-1", config_version=1)
    await change()
    await a.next_data(task_pb2.TaskConfigPush)
    domain.version = 3
    domain.tasks = [task_pb2.TaskConfig(id="1", executor_config={"x": "y" * 11_000_000})]
    await bridge.configs.sync()
    await eventually(lambda: domain.failed_pushes == [(["host-1"], 3, "configuration too large")])
    a.say(pb.MESSAGE_TYPE_TASK_CONFIG_PULL, task_pb2.TaskConfigPull(version=1))
    await eventually(lambda: len(domain.failed_pushes) == 2)
    await a.ping()


async def test_a_pull_while_the_database_is_away_is_left_to_the_next_heartbeat(connect, domain):
    a = await connect("host-1")
    domain.broken.set()
    before = domain.refused
    a.say(pb.MESSAGE_TYPE_TASK_CONFIG_PULL, task_pb2.TaskConfigPull())
    assert (await a.ping()).config_version == 1
    # The PONG does not wait for the database; the pull must have met it before it is mended.
    await eventually(lambda: domain.refused > before)
    domain.broken.clear()
    assert (await a.pull()).version == 1


async def test_a_pull_that_fails_closes_the_session(connect, domain):
    a = await connect("host-1")
    domain.config_delta = lambda client_id, since: 1 / 0
    a.say(pb.MESSAGE_TYPE_TASK_CONFIG_PULL, task_pb2.TaskConfigPull())
    assert (await a.closed())[1] == "configuration not available"


async def test_a_server_whose_version_went_back_sends_everything_anew(connect, bridge, domain, change):
    domain.version = 9
    await bridge.configs.sync()
    a = await connect("host-1", config_version=9)
    await change(4)
    _, push = await a.next_data(task_pb2.TaskConfigPush)
    assert push.version == 4


async def test_synchronising_needs_the_database(bridge, domain):
    domain.broken.set()
    with pytest.raises(Unavailable):
        await bridge.configs.sync()
