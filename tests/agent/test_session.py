"""The agent's session: bytes and time in, bytes and events out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quartzflow_agent import events
from quartzflow_agent import session as session_module
from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.constants import RECORDS_WANTED
from quartzflow_agent.protocol.framing import FrameDecoder, encode
from quartzflow_agent.session import CLOSED, READY, AgentSession, Vitals

from tests.agent.support import instruction


class Conversation:
    """A session, and what its bridge sees."""

    def __init__(self):
        self.samples = []
        request = agent_pb2.RegisterRequest(client_id="c1", credential="secret")
        self.session = AgentSession(
            request, lambda: Vitals(7, 2, 3), lambda *sample: self.samples.append(sample)
        )
        self.decoder = FrameDecoder()

    def sent(self):
        return self.decoder.feed(self.session.data_to_send())

    def said(self):
        """The messages of the DATA frames sent."""
        return [messages.decode_data(frame) for frame in self.sent() if frame.type == pb.FRAME_TYPE_DATA]

    def hear(self, *frames, now=100.0):
        return self.session.receive_data(b"".join(map(encode, frames)), now)

    def tell(self, kind, message, msg_id="s1", now=100.0):
        return self.hear(messages.data(kind, message, msg_id), now=now)

    def register(self, now=100.0, **fields):
        self.session.start(now)
        self.sent()
        response = agent_pb2.RegisterResponse(accepted=True, client_id="c1", **fields)
        found = self.tell(pb.MESSAGE_TYPE_REGISTER_RESPONSE, response, now=now)
        self.sent()
        return found


@pytest.fixture
def talk():
    return Conversation()


def pong(**fields):
    return messages.pong(server_time=1_000_000, **fields)


def test_registers_first(talk):
    talk.session.start(100.0)
    ((envelope, request),) = talk.said()
    assert envelope.type == pb.MESSAGE_TYPE_REGISTER
    assert not envelope.wait_ack
    assert request.credential == "secret"


def test_is_ready_and_sends_a_heartbeat_once_it_is_accepted(talk):
    talk.session.start(100.0)
    talk.sent()
    response = agent_pb2.RegisterResponse(accepted=True, client_id="c1", server_time=500_000)
    (event,) = talk.tell(pb.MESSAGE_TYPE_REGISTER_RESPONSE, response, now=100.4)
    assert isinstance(event, events.Registered)
    assert talk.session.state == READY
    assert talk.samples == [(500_000, 100.0, 100.4)]
    (frame,) = talk.sent()
    ping = messages.decode_ping(frame)
    assert (ping.client_id, ping.config_version, ping.running, ping.unacknowledged) == ("c1", 7, 2, 3)


def test_a_refusal_ends_it(talk):
    talk.session.start(100.0)
    response = agent_pb2.RegisterResponse(accepted=False, code="bad_credential", message="join again")
    assert talk.tell(pb.MESSAGE_TYPE_REGISTER_RESPONSE, response) == [
        events.Refused("bad_credential", "join again")
    ]
    assert talk.session.state == CLOSED
    assert talk.session.timer() is None


def test_anything_before_the_answer_to_the_registration_ends_it(talk):
    talk.session.start(100.0)
    (event,) = talk.tell(pb.MESSAGE_TYPE_TASK_EXECUTION, instruction())
    assert isinstance(event, events.Lost)


def test_gives_up_when_the_registration_is_not_answered(talk):
    talk.session.start(100.0)
    assert talk.session.timer() == 115.0
    assert talk.session.handle_timer(114.9) == []
    assert talk.session.handle_timer(115.0) == [events.Lost("the server did not answer the registration")]


def test_sends_a_heartbeat_every_15_seconds(talk):
    talk.register()
    talk.hear(pong(), now=100.1)
    assert talk.session.timer() == 115.0
    assert talk.session.handle_timer(115.0) == []
    (frame,) = talk.sent()
    assert frame.type == pb.FRAME_TYPE_PING


def test_the_server_may_ask_for_another_heartbeat_interval(talk):
    talk.register(heartbeat_interval=3)
    talk.hear(pong(), now=100.1)
    assert talk.session.timer() == 103.0


def test_a_pong_is_a_sample_of_the_servers_clock(talk):
    talk.register()
    found = talk.hear(pong(config_version=9, scheduler_alive=True), now=100.25)
    assert found == [events.Pong(9, True)]
    assert talk.samples[-1] == (1_000_000, 100.0, 100.25)


def test_is_lost_without_a_pong_within_5_seconds(talk):
    talk.register()
    assert talk.session.timer() == 105.0
    assert talk.session.handle_timer(105.0) == [events.Lost("no PONG within 5 s")]
    assert talk.hear(pong(), now=105.1) == []


def test_a_bridge_that_sends_other_things_is_alive_but_not_for_ever(talk):
    talk.register()
    for second in range(101, 145):
        talk.tell(pb.MESSAGE_TYPE_TASK_EXECUTION, instruction(), now=second + 0.5)
        assert talk.session.handle_timer(second + 0.6) == []
    (lost,) = talk.session.handle_timer(146.0)
    assert isinstance(lost, events.Lost)


def test_acknowledgements_share_a_frame(talk):
    talk.register()
    for number in range(1200):
        talk.session.accept(f"m{number}")
    acks = [messages.decode_ack(frame) for frame in talk.sent()]
    assert [1 + len(ack.more_msg_ids) for ack in acks] == [500, 500, 200]
    assert acks[0].msg_id == "m0"
    assert acks[2].more_msg_ids[-1] == "m1199"
    assert talk.sent() == []


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (0, "speaks agent protocol 2 to 3, the server 1: update the server"),
        (1, "speaks agent protocol 2 to 3, the server 1: update the server"),
        (4, "speaks agent protocol 2 to 3, the server 4: update the agent"),
    ],
)
def test_a_server_of_another_protocol_is_left_with_a_word_on_what_to_update(
    talk, monkeypatch, server, message
):
    monkeypatch.setattr(session_module, "OLDEST_PROTOCOL", 2)
    monkeypatch.setattr(session_module, "PROTOCOL_VERSION", 3)
    (event,) = talk.register(protocol_version=server)
    assert (event.code, talk.session.state) == ("protocol_version", CLOSED)
    assert message in event.message


@pytest.mark.parametrize("server", [2, 3])
def test_a_server_of_an_older_protocol_that_is_still_spoken_will_do(talk, monkeypatch, server):
    monkeypatch.setattr(session_module, "OLDEST_PROTOCOL", 2)
    monkeypatch.setattr(session_module, "PROTOCOL_VERSION", 3)
    talk.register(protocol_version=server)
    assert talk.session.state == READY


def test_a_rejection_names_its_reason(talk):
    talk.register()
    talk.session.reject("m1", "rejected: no")
    ack = messages.decode_ack(talk.sent()[0])
    assert (ack.status, ack.error) == (pb.ACK_STATUS_FAILURE, "rejected: no")


def test_an_applied_configuration_is_acknowledged_with_its_version(talk):
    talk.register()
    talk.session.applied("m1", 42)
    assert messages.decode_ack(talk.sent()[0]).result == b"42"


def test_results_are_matched_with_their_acknowledgements(talk):
    talk.register()
    for number in range(3):
        talk.session.result(task_pb2.TaskResult(execution_id=f"e{number}", attempt=number))
    ids = [envelope.msg_id for envelope, _ in talk.said()]
    assert len(set(ids)) == 3
    found = talk.hear(messages.ack(ids[0], more_msg_ids=[ids[1]]))
    assert found == [events.ResultsAcknowledged([("e0", 0), ("e1", 1)])]
    assert talk.hear(messages.ack(ids[2], pb.ACK_STATUS_FAILURE, error="unknown execution")) == [
        events.ResultRefused(("e2", 2), "unknown execution")
    ]
    assert talk.hear(messages.ack(ids[0])) == []  # once is enough


def test_an_answer_that_came_too_late_for_the_server_leaves_the_result_pending(talk):
    talk.register()
    talk.session.result(task_pb2.TaskResult(execution_id="e1"))
    ((envelope, _),) = talk.said()
    assert talk.hear(messages.ack(envelope.msg_id, pb.ACK_STATUS_TIMEOUT)) == []


def test_a_batch_is_answered_by_the_records_that_are_committed(talk):
    talk.register()
    talk.session.sync([task_pb2.TaskResult(execution_id=f"e{n}", attempt=1) for n in range(3)], 77)
    ((envelope, request),) = talk.said()
    assert (request.record_count, request.last_sync_time, request.client_id) == (3, 77, "c1")
    response = task_pb2.OfflineSyncResponse(execution_ids=["e2", "e0", "stranger"], refused_ids=["e1", "x"])
    (event,) = talk.tell(pb.MESSAGE_TYPE_OFFLINE_SYNC_RESPONSE, response, envelope.msg_id)
    assert event.sent == [("e0", 1), ("e1", 1), ("e2", 1)]
    assert event.committed == [("e0", 1), ("e2", 1)]
    assert event.refused == [("e1", 1)]
    assert talk.tell(pb.MESSAGE_TYPE_OFFLINE_SYNC_RESPONSE, response, "unknown") == []


def test_statistics_are_acknowledged_with_the_revision_that_was_sent(talk):
    talk.register()
    talk.session.daily_stats(task_pb2.DailyStatsReport(date="2025-01-09"), 8)
    ((envelope, _),) = talk.said()
    assert talk.hear(messages.ack(envelope.msg_id)) == [events.StatsAcknowledged("2025-01-09", 8)]


def test_statistics_may_be_answered_by_a_wish_for_records(talk):
    talk.register()
    for _ in range(2):
        talk.session.daily_stats(task_pb2.DailyStatsReport(date="2025-01-09"), 8)
    (first, _), (second, _) = talk.said()
    wish = messages.ack(first.msg_id, pb.ACK_STATUS_FAILURE, error=RECORDS_WANTED, result=b"7,8")
    assert talk.hear(wish) == [events.RecordsWanted("2025-01-09", ["7", "8"])]
    assert talk.hear(messages.ack(second.msg_id, pb.ACK_STATUS_FAILURE, error="not readable")) == []


def test_every_message_of_a_bridge_becomes_an_event(talk):
    talk.register()
    push = task_pb2.TaskConfigPush(version=3)
    cancel = agent_pb2.TaskCancel(execution_ids=["e1"], reason="task_disabled")
    watch = agent_pb2.LogWatch(execution_id="e1", watching=True)
    fetch = agent_pb2.LogFetch(request_id="r", execution_id="e1")
    away = agent_pb2.GoAway(reason="stopping", endpoints=["a:1"], delay_ms=1500)
    order = instruction()
    assert talk.tell(pb.MESSAGE_TYPE_TASK_CONFIG_PUSH, push) == [events.ConfigReceived("s1", push)]
    assert talk.tell(pb.MESSAGE_TYPE_TASK_EXECUTION, order) == [events.Instructed("s1", order)]
    assert talk.tell(pb.MESSAGE_TYPE_TASK_CANCEL, cancel) == [
        events.CancelRequested("s1", ["e1"], "task_disabled")
    ]
    assert talk.tell(pb.MESSAGE_TYPE_LOG_WATCH, watch) == [events.WatchChanged("e1", True)]
    assert talk.tell(pb.MESSAGE_TYPE_LOG_FETCH, fetch) == [events.LogRequested(fetch)]
    assert talk.tell(pb.MESSAGE_TYPE_GO_AWAY, away) == [events.WentAway(["a:1"], 1.5, "stopping")]


def test_a_message_that_only_agents_send_ends_it(talk):
    talk.register()
    (event,) = talk.tell(pb.MESSAGE_TYPE_TASK_PROGRESS, task_pb2.TaskProgress())
    assert isinstance(event, events.Lost)


@given(st.binary(min_size=1, max_size=200))
def test_whatever_arrives_nothing_is_raised(data):
    talk = Conversation()
    talk.register()
    for event in talk.session.receive_data(data, 101.0):
        assert isinstance(event, events.Lost | events.Pong)


@given(st.lists(st.integers(1, 7), max_size=60))
def test_how_the_bytes_are_cut_does_not_matter(cuts):
    frames = b"".join(
        encode(messages.data(pb.MESSAGE_TYPE_TASK_EXECUTION, instruction(n), f"m{n}")) for n in range(4)
    )
    talk = Conversation()
    talk.register()
    found = []
    for cut in cuts:
        found += talk.session.receive_data(frames[:cut], 101.0)
        frames = frames[cut:]
    found += talk.session.receive_data(frames, 101.0)
    assert [event.msg_id for event in found] == ["m0", "m1", "m2", "m3"]
