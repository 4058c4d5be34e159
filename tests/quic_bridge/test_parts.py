"""Configurations that are too large for one frame."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quartzflow_agent import events
from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.constants import CONFIG_PARTS, FEATURES, MAX_FRAME
from quartzflow_agent.protocol.framing import FrameDecoder, FramingError
from quartzflow_agent.session import AgentSession, Vitals

from quic_bridge import configs, parts
from quic_bridge.facts import Facts
from quic_bridge.inputs import ConfigApplied, PartTaken
from quic_bridge.limits import Limits
from quic_bridge.parts import encode_push, split
from quic_bridge.session import Session

from .agents import eventually


def task(number, size=6000):
    return task_pb2.TaskConfig(id=str(number), version=7, executor_config={"command": "x" * size})


def push(*tasks, version=7, deleted=(), action=task_pb2.FULL_SYNC):
    return task_pb2.TaskConfigPush(tasks=tasks, version=version, action=action, deleted_task_ids=deleted)


class Pair:
    """A bridge's session and an agent's, with what they say carried over by hand."""

    def __init__(self, features=FEATURES):
        request = agent_pb2.RegisterRequest(client_id="host-1", features=features)
        self.bridge = Session("s1", Facts("b1", config_version=7), Limits(), 0.0)
        self.agent = AgentSession(request, Vitals, lambda *sample: None)
        self.agent.start(0.0)
        self.up()
        self.bridge.accept("host-1", 3)
        self.down()
        self.up()

    def up(self):
        return self.bridge.receive(0, self.agent.data_to_send(), False, 1.0)

    def down(self):
        return self.agent.receive_data(self.bridge.take_output(), 1.0)

    def carry(self, frames=None):
        """Until nobody says any more: what came out at the agent, and at the bridge."""
        heard, inputs = [], []
        while output := self.bridge.take_output():
            assert len(output) < parts.PART + 20_000
            heard += self.agent.receive_data(output, 1.0)
            inputs += self.up()
        return heard, inputs


def received(heard):
    return [event for event in heard if isinstance(event, events.ConfigReceived)]


def test_a_large_push_comes_in_parts_and_out_as_a_whole():
    pair, whole = Pair(), push(*(task(n) for n in range(400)), deleted=["900"])
    assert whole.ByteSize() > 4 * parts.PART
    pair.bridge.push(7, encode_push(whole, in_parts=True))
    heard, inputs = pair.carry()
    (event,) = received(heard)
    assert event.config == whole
    assert inputs == [PartTaken()] * (len(split(whole)) - 1)
    pair.agent.applied(event.msg_id, 7)
    assert pair.up() == [ConfigApplied(7)]
    assert pair.bridge.in_step()
    pair.bridge.push_again()  # nothing is left of it
    assert pair.bridge.take_output() == b""


def test_a_large_answer_to_a_pull_does_too():
    pair = Pair()
    pair.agent.pull_config(0)
    (asked,) = pair.up()
    whole = task_pb2.TaskConfigResponse(
        tasks=[task(n) for n in range(300)], version=7, action=task_pb2.FULL_SYNC
    )
    pair.bridge.answer_pull(asked.msg_id, whole)
    heard, _ = pair.carry()
    (event,) = received(heard)
    assert (event.config, event.msg_id) == (whole, asked.msg_id)
    pair.agent.applied(event.msg_id, 7)
    assert pair.up() == [ConfigApplied(7)]


def test_parts_that_come_twice_count_once():
    pair, whole = Pair(), push(*(task(n) for n in range(300)))
    pair.bridge.push(7, encode_push(whole, in_parts=True))
    heard = []
    while True:
        pair.bridge.push_again()  # the ACK is late
        if not (found := pair.down()):
            break
        heard += found
        pair.up()
        if received(found):
            pair.bridge.push_again()
            assert pair.down() == []
            break
    (event,) = received(heard)
    assert event.config == whole


def test_a_newer_configuration_takes_the_place_of_one_under_way():
    pair, old, new = (
        Pair(),
        push(*(task(n) for n in range(300))),
        push(*(task(n) for n in range(200)), version=8),
    )
    pair.bridge.facts.config_version = 8
    pair.bridge.push(7, encode_push(old, in_parts=True))
    pair.down()
    pair.bridge.push(8, encode_push(new, in_parts=True))
    pair.down()
    pair.up()
    heard, _ = pair.carry()
    (event,) = received(heard)
    assert event.config == new


def test_an_agent_that_cannot_put_parts_together_gets_one_frame():
    pair, whole = Pair(features=()), push(*(task(n) for n in range(300)))
    assert not pair.bridge.in_parts
    (part,) = encode_push(whole, in_parts=pair.bridge.in_parts)
    pair.bridge.push(7, [part])
    (event,) = received(pair.down())
    assert event.config == whole
    with pytest.raises(FramingError):
        encode_push(push(*(task(n) for n in range(2000))), in_parts=False)


def test_a_single_task_beyond_a_frame_is_an_error_all_the_same():
    with pytest.raises(FramingError):
        encode_push(push(task(1, MAX_FRAME), task(2)), in_parts=True)


@given(st.lists(st.integers(0, 3000), max_size=12), st.lists(st.integers(1, 99).map(str), max_size=3))
def test_parts_put_together_are_the_whole(sizes, deleted):
    whole = push(*(task(n, size) for n, size in enumerate(sizes)), deleted=deleted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART", 4000)
        found = split(whole)
        frames = encode_push(whole, in_parts=True)
    together = task_pb2.TaskConfigPush()
    for number, part in enumerate(found):
        assert (part.part, part.parts) == ((number, len(found)) if len(found) > 1 else (0, 0))
        assert len(part.tasks) == 1 or part.ByteSize() < 4000 + 100 or part is whole
        together.MergeFrom(part)
    together.part = together.parts = 0
    assert together == whole
    assert [part.msg_id for part in frames][-1] == "p:7"
    assert len({part.msg_id for part in frames}) == len(found)


async def test_two_thousand_tasks_of_six_kilobytes_are_pulled_and_pushed(connect, bridge, domain):
    domain.tasks = [task(number) for number in range(2000)]
    old = await connect("host-1", config_version=1)
    able = await connect("host-2", config_version=1, features=[CONFIG_PARTS])

    async def whole(agent, cls):
        found = []
        while True:
            envelope, message = await agent.next_data(cls)
            agent.send(messages.ack(envelope.msg_id))
            found += message.tasks
            if message.part == message.parts - 1:
                return found

    able.say(pb.MESSAGE_TYPE_TASK_CONFIG_PULL, task_pb2.TaskConfigPull(version=0))
    assert await whole(able, task_pb2.TaskConfigResponse) == domain.tasks
    await eventually(lambda: domain.applied == [("host-2", 1)])
    domain.version = 2
    bridge.config_changed.set()
    assert await whole(able, task_pb2.TaskConfigPush) == domain.tasks
    await eventually(lambda: domain.applied[1:] == [("host-2", 2)])
    assert bridge.configs._pushes == {}
    # Who cannot put parts together is named, as what fits into no frame always is.
    assert domain.failed_pushes == [(["host-1"], 2, "configuration too large")]
    await old.ping()


async def test_an_agent_that_goes_on_taking_parts_is_not_given_up(connect, bridge, domain, monkeypatch):
    monkeypatch.setattr(configs, "PUSH_TIMEOUT", 0.0)
    domain.tasks = [task(number) for number in range(1000)]
    agent = await connect("host-1", config_version=1, features=[CONFIG_PARTS])
    domain.version = 2
    await bridge.configs.sync()
    taken = set()
    while len(taken) < len(split(push(*domain.tasks))) - 1:
        envelope, message = await agent.next_data(task_pb2.TaskConfigPush)
        if message.part in taken:
            continue
        taken.add(message.part)
        await bridge.configs.repeat()  # each part may be late, but none too often
        await bridge.configs.repeat()
        agent.send(messages.ack(envelope.msg_id))
    assert domain.failed_pushes == []


def test_what_arrives_out_of_order_does_no_harm():
    pair = Pair()
    frames = encode_push(push(*(task(n) for n in range(300))), in_parts=True)
    for part in [*frames[2:], frames[0], frames[2], frames[1]]:
        for frame in FrameDecoder().feed(part.frame):
            assert received(pair.agent._on_frame(frame, 1.0)) == []
    # The next one in its turn still counts.
    assert pair.agent._on_frame(FrameDecoder().feed(frames[2].frame)[0], 1.0) == [events.ConfigComing()]
