import pytest
from hypothesis import given
from hypothesis import strategies as st
from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.messages import MessageError

READERS = [messages.decode_ping, messages.decode_pong, messages.decode_ack, messages.decode_data]


def test_a_heartbeat_and_its_answer():
    ping = messages.decode_ping(
        messages.ping("host-1", config_version=7, running=2, unacknowledged=3, sent_at=11)
    )
    assert (ping.client_id, ping.config_version, ping.running, ping.unacknowledged, ping.sent_at) == (
        "host-1",
        7,
        2,
        3,
        11,
    )
    pong = messages.decode_pong(
        messages.pong(config_version=8, scheduler_alive=True, sent_at=ping.sent_at, server_time=12)
    )
    assert (pong.config_version, pong.scheduler_alive, pong.sent_at, pong.server_time) == (8, True, 11, 12)


def test_the_clock_is_read_when_no_time_is_given():
    before = messages.now_ms()
    ping = messages.decode_ping(messages.ping("host-1"))
    pong = messages.decode_pong(messages.pong())
    assert before <= ping.sent_at <= pong.server_time <= messages.now_ms()


def test_data_carries_its_envelope_and_its_typed_payload():
    frame = messages.data(
        pb.MESSAGE_TYPE_TASK_EXECUTION,
        task_pb2.TaskExecution(execution_id="exec_1", params={"名": "值"}),
        "m1",
        sender_id="server",
        receiver_id="host-1",
        wait_ack=True,
    )
    envelope, payload = messages.decode_data(frame)
    assert (envelope.msg_id, envelope.sender_id, envelope.receiver_id, envelope.wait_ack) == (
        "m1",
        "server",
        "host-1",
        True,
    )
    assert isinstance(payload, task_pb2.TaskExecution)
    assert dict(payload.params) == {"名": "值"}


def test_an_ack_answers_several_messages():
    frame = messages.ack("a", pb.ACK_STATUS_FAILURE, result=b"r", error="rejected", more_msg_ids=["b", "c"])
    ack = messages.decode_ack(frame)
    assert (ack.msg_id, ack.status, ack.result, ack.error) == ("a", pb.ACK_STATUS_FAILURE, b"r", "rejected")
    assert list(ack.more_msg_ids) == ["b", "c"]


def test_every_message_type_of_ours_has_its_payload():
    ours = {number for number in pb.MessageType.values() if number >= 10}
    assert set(messages.PAYLOADS) == ours


@pytest.mark.parametrize("type", sorted(messages.PAYLOADS))
def test_every_payload_round_trips(type):
    message = messages.PAYLOADS[type]()
    envelope, payload = messages.decode_data(messages.data(type, message))
    assert (envelope.type, payload) == (type, message)


def test_a_payload_of_another_type_is_not_sent():
    with pytest.raises(TypeError, match="LogWatch"):
        messages.data(pb.MESSAGE_TYPE_REGISTER, agent_pb2.LogWatch())


@pytest.mark.parametrize("number", [0, 1, 4, 9, 19, 29, 37, 2**31 - 1])
def test_an_unknown_message_type_is_an_error(number):
    payload = pb.DataMessage(type=number).SerializeToString()
    with pytest.raises(MessageError, match=str(number)):
        messages.decode_data(pb.Frame(type=pb.FRAME_TYPE_DATA, payload=payload))


def test_an_ack_of_nothing_is_an_error():
    with pytest.raises(MessageError):
        messages.decode_ack(messages.ack(""))


@given(st.sampled_from(READERS), st.integers(0, 6), st.binary(max_size=200))
def test_reading_a_random_frame_succeeds_or_raises_message_error(reader, type, payload):
    frame = pb.Frame(type=type, payload=payload)
    expected = [pb.FRAME_TYPE_PING, pb.FRAME_TYPE_PONG, pb.FRAME_TYPE_ACK, pb.FRAME_TYPE_DATA]
    try:
        reader(frame)
    except MessageError:
        return
    assert type == expected[READERS.index(reader)]


@given(st.sampled_from(sorted(messages.PAYLOADS)), st.binary(max_size=200))
def test_a_random_payload_succeeds_or_raises_message_error(type, payload):
    envelope = pb.DataMessage(type=type, payload=payload).SerializeToString()
    try:
        _, message = messages.decode_data(pb.Frame(type=pb.FRAME_TYPE_DATA, payload=envelope))
    except MessageError:
        return
    assert isinstance(message, messages.PAYLOADS[type])
