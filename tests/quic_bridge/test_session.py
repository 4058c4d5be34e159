"""The session without sockets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quartzflow_agent.protocol import agent_pb2, constants, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.framing import FrameDecoder, FramingError, encode

from quic_bridge import inputs
from quic_bridge.closing import Close
from quic_bridge.facts import Facts, State
from quic_bridge.limits import Limits
from quic_bridge.parts import encode_push
from quic_bridge.session import Session

REGISTER = encode(
    messages.data(pb.MESSAGE_TYPE_REGISTER, agent_pb2.RegisterRequest(client_id="host-1"), "m0")
)


def connected(now=0.0, **limits):
    return Session("session-1", Facts("bridge-1", config_version=5), Limits(**limits), now)


def registered(config_version=0, **limits):
    session = connected(**limits)
    session.receive(0, REGISTER, False, 0.0)
    session.accept("host-1", config_version)
    session.take_output()
    return session


def said(type, message, msg_id="m1", **more):
    return encode(messages.data(type, message, msg_id, **more))


def output(session):
    """(message or payload) of every frame the session has written."""
    readers = {
        pb.FRAME_TYPE_PONG: messages.decode_pong,
        pb.FRAME_TYPE_ACK: messages.decode_ack,
        pb.FRAME_TYPE_DATA: messages.decode_data,
    }
    return [readers[frame.type](frame) for frame in FrameDecoder().feed(session.take_output())]


def named(value):
    """A parameter's id: frames carry the time, and workers must agree on the tests' names."""
    return "" if isinstance(value, bytes) else str(value)


# --- Registration ---


def test_the_first_frame_is_the_registration():
    session = connected()
    (received,) = session.receive(0, REGISTER, False, 1.0)
    assert received.request.client_id == "host-1"
    assert session.state is State.REGISTERING
    session.accept("host-1", 3, group="default", credential="secret")
    ((_, response),) = output(session)
    assert (response.accepted, response.client_id, response.credential) == (True, "host-1", "secret")
    assert (response.config_version, response.protocol_version) == (5, constants.PROTOCOL_VERSION)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (encode(messages.ping("host-1")), "frame type 1"),
        (said(pb.MESSAGE_TYPE_TASK_RESULT, task_pb2.TaskResult()), "not a registration"),
        (REGISTER + REGISTER, "before the registration was answered"),
        (b"\x00\x00\x00\x00", "frame length 0"),
        ((70_000).to_bytes(4, "big"), "frame length 70000"),
    ],
    ids=named,
)
def test_anything_else_first_closes_the_session(first, reason):
    session = connected()
    session.receive(0, first, False, 0.0)
    assert session.closing.code == constants.CLOSE_PROTOCOL
    assert reason in session.closing.reason


def test_a_refusal_is_written_before_the_close():
    session = connected()
    session.receive(0, REGISTER, False, 0.0)
    session.refuse("revoked", "ask the operator")
    ((_, response),) = output(session)
    assert (response.accepted, response.code, response.message) == (False, "revoked", "ask the operator")
    assert session.closing == Close(constants.CLOSE_REFUSED, "revoked: ask the operator")


def test_registering_has_a_time_limit_that_ends_with_the_request():
    late, waiting = connected(now=100.0), connected(now=100.0)
    waiting.receive(0, REGISTER, False, 104.0)
    for session in (late, waiting):
        session.check(104.9)
        assert session.closing is None
        session.check(105.0)
    assert late.closing.code == constants.CLOSE_REGISTER_TIMEOUT
    assert waiting.closing is None


# --- Frames ---


def test_large_frames_are_allowed_after_the_registration_only():
    session = registered()
    progress = task_pb2.TaskProgress(execution_id="e", output="x" * 200_000)
    (received,) = session.receive(0, said(pb.MESSAGE_TYPE_TASK_PROGRESS, progress), False, 0.0)
    assert received.message == progress


def test_what_came_before_an_error_counts():
    session = registered()
    good = said(pb.MESSAGE_TYPE_TASK_RESULT, task_pb2.TaskResult(execution_id="e"))
    bad = encode(pb.Frame(type=pb.FRAME_TYPE_DATA, payload=b"\xff"))
    (received,) = session.receive(0, good + bad + good, False, 0.0)
    assert received.message.execution_id == "e"
    assert session.closing.code == constants.CLOSE_PROTOCOL
    assert session.receive(0, good, False, 0.0) == []


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (encode(pb.Frame(type=9, payload=b"x")), "frame type 9"),
        (encode(messages.pong()), "frame type 2"),
        (encode(messages.ping("host-2")), "another client"),
        (said(pb.MESSAGE_TYPE_REGISTER, agent_pb2.RegisterRequest()), "unexpected RegisterRequest"),
        (said(pb.MESSAGE_TYPE_TASK_EXECUTION, task_pb2.TaskExecution()), "unexpected TaskExecution"),
        (
            said(pb.MESSAGE_TYPE_OFFLINE_SYNC_REQUEST, task_pb2.OfflineSyncRequest(client_id="host-2")),
            "another client",
        ),
        (
            said(pb.MESSAGE_TYPE_DAILY_STATS_REPORT, task_pb2.DailyStatsReport(client_id="host-2")),
            "another client",
        ),
        (encode(messages.ack("p:99")), "version 99, which was not sent"),
    ],
    ids=named,
)
def test_what_breaks_the_rules_closes_the_session(frame, reason):
    session = registered()
    session.receive(0, frame, False, 0.0)
    assert session.closing.code == constants.CLOSE_PROTOCOL
    assert reason in session.closing.reason


def test_the_end_or_reset_of_the_control_stream_ends_the_session():
    ended, reset = registered(), registered()
    ended.receive(0, b"", True, 0.0)
    reset.reset(0)
    assert ended.closing.reason == "control stream ended"
    assert reset.closing.reason == "control stream was reset"


def test_the_first_reason_of_a_close_stays():
    session = registered()
    session.close(constants.CLOSE_REVOKED, "revoked")
    session.close(constants.CLOSE_OK, "gone")
    assert session.closing == Close(constants.CLOSE_REVOKED, "revoked")


def test_silence_is_measured_from_the_last_frame():
    session = registered()
    session.receive(0, encode(messages.ping("host-1")), False, 30.0)
    session.check(74.9)
    assert session.closing is None
    session.check(75.0)
    assert session.closing.code == constants.CLOSE_SILENT


def test_frames_are_counted_against_a_bucket_that_refills():
    session = registered(rate=10, burst=20)
    for second in range(1, 5):
        for _ in range(10):
            session.receive(0, encode(messages.ping("host-1")), False, float(second))
    assert session.closing is None
    for _ in range(30):
        session.receive(0, encode(messages.ping("host-1")), False, 5.0)
    assert session.closing.code == constants.CLOSE_FLOOD


def test_pulls_and_bytes_cost_more_than_a_frame():
    pulling, heavy = registered(rate=1, burst=200), registered(rate=1, burst=200)
    pull = said(pb.MESSAGE_TYPE_TASK_CONFIG_PULL, task_pb2.TaskConfigPull())
    for _ in range(5):
        pulling.receive(0, pull, False, 0.0)
    progress = said(pb.MESSAGE_TYPE_TASK_PROGRESS, task_pb2.TaskProgress(output="x" * 4_000_000))
    heavy.receive(0, progress, False, 0.0)
    assert pulling.closing.code == heavy.closing.code == constants.CLOSE_FLOOD


# --- Configuration ---


def pong_version(session, held):
    session.receive(0, encode(messages.ping("host-1", config_version=held)), False, 0.0)
    (pong,) = output(session)
    return pong.config_version


def test_a_pong_names_the_servers_version_until_the_agent_has_pulled():
    session = registered(config_version=3)
    assert pong_version(session, 3) == 5
    session.receive(0, said(pb.MESSAGE_TYPE_TASK_CONFIG_PULL, task_pb2.TaskConfigPull(version=3)), False, 0.0)
    session.answer_pull("m1", task_pb2.TaskConfigResponse(version=5))
    (applied,) = session.receive(0, encode(messages.ack("m1", result=b"5")), False, 0.0)
    assert applied == inputs.ConfigApplied(5)
    assert session.in_step()


def test_a_change_that_does_not_concern_the_agent_does_not_make_it_pull():
    session = registered(config_version=5)
    assert session.in_step()
    session.facts.config_version = 9
    session.looked = 9
    assert pong_version(session, 5) == 5
    session.push(9, encode_push(task_pb2.TaskConfigPush(version=9), in_parts=False))
    session.take_output()
    assert pong_version(session, 5) == 9
    (applied,) = session.receive(0, encode(messages.ack("p:9")), False, 0.0)
    assert applied == inputs.ConfigApplied(9)
    assert pong_version(session, 9) == 9


def test_an_agent_ahead_of_the_server_is_told_the_servers_version():
    session = registered(config_version=5)
    assert pong_version(session, 7) == 5


def test_a_late_acknowledgement_does_not_move_the_agent_back():
    session = registered(config_version=5)
    for version in (6, 7):
        session.push(version, encode_push(task_pb2.TaskConfigPush(version=version), in_parts=False))
    session.receive(0, encode(messages.ack("p:7")), False, 0.0)
    session.receive(0, encode(messages.ack("p:6")), False, 0.0)
    assert session.applied == 7


def test_a_refused_configuration_says_why():
    session = registered(config_version=5)
    session.push(6, encode_push(task_pb2.TaskConfigPush(version=6), in_parts=False))
    frame = encode(messages.ack("p:6", pb.ACK_STATUS_FAILURE, error="disk full"))
    assert session.receive(0, frame, False, 0.0) == [inputs.ConfigRefused(6, "disk full")]
    assert session.applied == 5


# --- Acknowledgements ---


def test_one_ack_may_answer_many_instructions():
    session = registered()
    for number in range(3):
        session.execute(task_pb2.TaskExecution(execution_id=f"e{number}", attempt=number))
    first, *more = [envelope.msg_id for envelope, _ in output(session)]
    strange = ["c:e9", "unknown", "x:e9", "x::e9", "x:-1:e9", f"x:{'9' * 5000}:e9"]
    frame = encode(messages.ack(first, more_msg_ids=[*more, *strange]))
    assert session.receive(0, frame, False, 0.0) == [
        inputs.ExecutionsAnswered((("e0", 0), ("e1", 1), ("e2", 2)), "")
    ]


def test_acknowledgements_are_split_into_frames_of_a_bounded_size():
    session = registered()
    session.acknowledge([f"m{number}" for number in range(1201)])
    acks = output(session)
    assert [len(ack.more_msg_ids) for ack in acks] == [499, 499, 200]


def test_nothing_is_written_to_a_closed_session():
    session = registered()
    session.close(constants.CLOSE_OK, "gone")
    session.execute(task_pb2.TaskExecution(execution_id="e"))
    assert session.take_output() == b""


def test_an_instruction_over_the_frame_limit_is_an_error_of_the_caller():
    session = registered()
    with pytest.raises(FramingError):
        session.execute(task_pb2.TaskExecution(params={"x": "y" * constants.MAX_FRAME}))
    assert session.closing is None


# --- Side streams ---

CHUNK = said(pb.MESSAGE_TYPE_LOG_CHUNK, agent_pb2.LogChunk(request_id="r", data=b"log", last=True))


def test_log_chunks_come_on_streams_of_their_own():
    session = registered()
    first = session.receive(4, CHUNK[:10], False, 0.0)
    rest = session.receive(4, CHUNK[10:] + CHUNK, True, 0.0)
    assert first == []
    assert [item.message.data for item in rest] == [b"log", b"log"]


@pytest.mark.parametrize(
    ("data", "end", "reason"),
    [
        (REGISTER, False, "unexpected RegisterRequest on stream 4"),
        (CHUNK[:10], True, "ended within a frame"),
        (encode(messages.ping("host-1")), False, "frame type 1"),
    ],
    ids=named,
)
def test_side_streams_carry_nothing_else(data, end, reason):
    session = registered()
    session.receive(4, data, end, 0.0)
    assert session.closing.code == constants.CLOSE_PROTOCOL
    assert reason in session.closing.reason


def test_side_streams_are_few_and_come_after_the_registration():
    session = registered(side_streams=2)
    for stream_id in (4, 8):
        session.receive(stream_id, CHUNK, False, 0.0)
    session.reset(4)
    session.receive(12, CHUNK, False, 0.0)
    assert session.closing is None
    session.receive(16, CHUNK, False, 0.0)
    assert session.closing.code == constants.CLOSE_FLOOD

    early = connected()
    early.receive(4, CHUNK, False, 0.0)
    assert early.closing.code == constants.CLOSE_PROTOCOL


# --- Hostile input ---

valid = st.sampled_from(
    [
        REGISTER,
        CHUNK,
        encode(messages.ping("host-1", config_version=5)),
        encode(messages.ack("x:0:e1", more_msg_ids=["p:5", "p:x", "c:e1", ""])),
        said(pb.MESSAGE_TYPE_TASK_RESULT, task_pb2.TaskResult(execution_id="e1")),
        said(pb.MESSAGE_TYPE_TASK_CONFIG_PULL, task_pb2.TaskConfigPull(version=-1)),
        said(
            pb.MESSAGE_TYPE_OFFLINE_SYNC_REQUEST, task_pb2.OfflineSyncRequest(records=[task_pb2.TaskResult()])
        ),
        said(pb.MESSAGE_TYPE_LOG_FETCH, agent_pb2.LogFetch()),
    ]
)


@st.composite
def mutated(draw):
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(data) - 1))
        data[position] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


pieces = st.one_of(valid, mutated(), st.binary(max_size=60))
steps = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 0, 2, 4, 8, 12]), pieces, st.booleans(), st.floats(0, 2)), max_size=30
)


@given(st.booleans(), steps)
@settings(max_examples=300, deadline=None)
def test_no_input_raises_or_makes_the_session_grow(is_registered, steps):
    session = registered() if is_registered else connected()
    now = 0.0
    for stream_id, data, end, pause in steps:
        now += pause
        was_open = session.closing is None
        found = session.receive(stream_id, data, end and stream_id != 0, now)
        session.check(now)
        assert was_open or not found
        for item in found:
            assert is_registered or isinstance(item, inputs.RegisterReceived)
    buffered = [session._control, *(session._side or {}).values()]
    assert len(buffered) <= 1 + session._limits.side_streams
    assert sum(decoder.buffered for decoder in buffered) <= sum(len(data) for _, data, _, _ in steps)
    FrameDecoder().feed(session.take_output())


@given(steps)
@settings(max_examples=100, deadline=None)
def test_one_sessions_input_does_not_touch_another(steps):
    facts = Facts("bridge-1", config_version=5)
    mine, other = (Session(name, facts, Limits(), 0.0) for name in ("mine", "other"))
    for session in (mine, other):
        session.receive(0, REGISTER, False, 0.0)
        session.accept("host-1", 5)
        session.take_output()
    for stream_id, data, end, _ in steps:
        mine.receive(stream_id, data, end, 0.0)
    assert other.closing is None
    assert other.take_output() == b""
    assert (facts.config_version, facts.bridge_id) == (5, "bridge-1")
    assert pong_version(other, 5) == 5
