"""Frames as nobody sends them: a session never raises, never grows without bound, never touches another one.

FUZZ_FRAMES=1000000 runs more of them, FUZZ_SEED others.
"""

import os
import random
import time

from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.constants import PROTOCOL_VERSION
from quartzflow_agent.protocol.framing import encode

from quic_bridge import inputs
from quic_bridge.facts import Facts, State
from quic_bridge.limits import Limits
from quic_bridge.parts import encode_push
from quic_bridge.session import Session

FRAMES = int(os.environ.get("FUZZ_FRAMES", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "20261124"))
LIMITS = Limits(frame=256 * 1024, buffered=512 * 1024, burst=500, rate=1000)
MEMORY = 3 * LIMITS.frame + LIMITS.buffered  # bytes that one session may hold
CLIENT = "host-1"


def data(type, message, msg_id="m1", **fields):
    return encode(messages.data(type, message, msg_id, **fields))


def valid_frames():
    """One or more of everything that an agent may say, and of what only a bridge does."""
    result = task_pb2.TaskResult(execution_id="e1", task_id="1", status=task_pb2.SUCCESS, output="x" * 500)
    yield data(
        pb.MESSAGE_TYPE_REGISTER,
        agent_pb2.RegisterRequest(client_id=CLIENT, credential="c", protocol_version=PROTOCOL_VERSION),
    )
    yield encode(messages.ping(CLIENT, config_version=1, running=2))
    yield encode(messages.ping("another", config_version=2**40))
    yield encode(messages.pong(config_version=1, scheduler_alive=True))
    yield encode(messages.ack("x:0:e1", more_msg_ids=["x:1:e2", "x:e2", "p:1", "c:e3", "m9"]))
    yield encode(messages.ack("p:1", pb.ACK_STATUS_FAILURE, error="no"))
    yield encode(messages.ack("p:99999999999999999999", result=b"\xff"))
    yield data(pb.MESSAGE_TYPE_TASK_CONFIG_PULL, task_pb2.TaskConfigPull(version=0))
    yield data(pb.MESSAGE_TYPE_TASK_RESULT, result, wait_ack=True)
    yield data(
        pb.MESSAGE_TYPE_TASK_PROGRESS,
        task_pb2.TaskProgress(execution_id="e1", status=task_pb2.RUNNING, output="é" * 100),
    )
    yield data(
        pb.MESSAGE_TYPE_OFFLINE_SYNC_REQUEST,
        task_pb2.OfflineSyncRequest(client_id=CLIENT, records=[result] * 5),
        wait_ack=True,
    )
    yield data(
        pb.MESSAGE_TYPE_DAILY_STATS_REPORT,
        task_pb2.DailyStatsReport(client_id=CLIENT, date="2026-11-24", task_stats=[task_pb2.TaskStats()]),
    )
    yield data(pb.MESSAGE_TYPE_LOG_CHUNK, agent_pb2.LogChunk(request_id="r", data=b"\0" * 2000, last=True))
    yield data(pb.MESSAGE_TYPE_TASK_EXECUTION, task_pb2.TaskExecution(execution_id="e1"))
    yield data(pb.MESSAGE_TYPE_GO_AWAY, agent_pb2.GoAway(reason="r"))
    yield encode_push(task_pb2.TaskConfigPush(version=1), in_parts=False)[0].frame


class Fuzzer:
    """Makes byte strings out of valid frames."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.frames = list(valid_frames())
        self.sent = []  # of this session, for replays
        self._mutations = [
            *[self.untouched] * 12, self.flip, self.flip, self.truncate, self.noise, self.lie_about_length,
            self.splice, self.replay, self.reorder, self.wrap, self.grow,
        ]  # fmt: skip

    def next(self):
        piece = self.random.choice(self._mutations)()
        self.sent = [*self.sent[-20:], piece]
        return piece

    def untouched(self):
        return self.random.choice(self.frames)

    def flip(self):
        piece = bytearray(self.untouched())
        # Mostly behind the length, so that the parsers behind it have their share.
        for _ in range(self.random.randint(1, 8)):
            start = self.random.choice((0, 4, 4, 4))
            piece[self.random.randrange(start, len(piece))] = self.random.randrange(256)
        return bytes(piece)

    def truncate(self):
        piece = self.untouched()
        return piece[: self.random.randrange(len(piece))]

    def noise(self):
        return self.random.randbytes(self.random.choice((0, 1, 3, 4, 5, 50, 1500)))

    def lie_about_length(self):
        piece = self.untouched()
        size = self.random.choice((0, 1, len(piece), LIMITS.frame, LIMITS.frame + 1, 2**31, 2**32 - 1))
        return size.to_bytes(4, "big") + piece[4:]

    def splice(self):
        one, other = self.untouched(), self.untouched()
        return one[: self.random.randrange(len(one))] + other[self.random.randrange(len(other)) :]

    def replay(self):
        return self.random.choice(self.sent) if self.sent else self.untouched()

    def reorder(self):
        pieces = self.random.sample(self.frames, 3)
        return b"".join(pieces)

    def wrap(self):
        """A well-formed frame of any type around anything."""
        payload = self.random.choice((self.noise, self.untouched))()
        frame = pb.Frame(payload=payload, timestamp=self.random.getrandbits(62))
        frame.type = self.random.choice((0, 1, 2, 3, 4, 5, 99, 2**31 - 1))
        return encode(frame)

    def grow(self):
        """The beginning of a frame that says to be the largest, and more of it with each piece."""
        return LIMITS.frame.to_bytes(4, "big") + b"\x0a" * self.random.choice((10, 1000, 60_000))


def held(session):
    """Bytes that a session keeps."""
    side = session._side or {}
    return (
        session._control.buffered
        + sum(decoder.buffered for decoder in side.values())
        + sum(map(len, session._output))
    )


def new_session(fuzzer, facts, now):
    session = Session("s", facts, LIMITS, now)
    fuzzer.sent = []
    if fuzzer.random.random() < 0.8:  # most of the rules begin behind the registration
        session.receive(0, fuzzer.frames[0], False, now)
        session.accept(CLIENT, 1)
    return session


def test_no_bytes_make_a_session_raise_or_grow_or_touch_another():
    fuzzer, facts, now = Fuzzer(SEED), Facts("b", config_version=1), 1000.0
    bystander = Session("other", facts, Limits(), now)
    bystander.receive(
        0, data(pb.MESSAGE_TYPE_REGISTER, agent_pb2.RegisterRequest(client_id="other")), False, now
    )
    bystander.accept("other", 1)
    session, kinds, sessions, largest, started = (
        new_session(fuzzer, facts, now),
        set(),
        1,
        0,
        time.monotonic(),
    )
    for number in range(FRAMES):
        now += fuzzer.random.choice((0.0, 0.0001, 0.01))
        piece = fuzzer.next()
        stream = fuzzer.random.choice((0,) * 57 + (4, 8, 2))
        end = fuzzer.random.random() < 0.01
        cut = fuzzer.random.randrange(len(piece) + 1) if fuzzer.random.random() < 0.2 else len(piece)
        found = [
            *session.receive(stream, piece[:cut], False, now),
            *session.receive(stream, piece[cut:], end, now),
        ]
        for item in found:
            kinds.add(type(item))
            if isinstance(item, inputs.PullReceived):
                session.answer_pull(item.msg_id, task_pb2.TaskConfigResponse(version=1))
            elif isinstance(item, inputs.ResultReceived):
                session.acknowledge([item.msg_id])
            elif isinstance(item, inputs.SyncReceived):
                session.answer_sync(item.msg_id, [record.execution_id for record in item.message.records])
        assert session.client_id in ("", CLIENT)
        size = held(session)
        largest = max(largest, size)
        assert size <= MEMORY, (SEED, number)
        session.take_output()
        session.check(now)
        if session.closing is not None:
            assert session.closing.reason
            assert session.receive(0, fuzzer.frames[1], False, now) == [], "a closed session says nothing"
            session, sessions = new_session(fuzzer, facts, now), sessions + 1
        if number % 1000 == 0:
            assert len(bystander.receive(0, encode(messages.ping("other")), False, now)) == 1
    assert bystander.state is State.REGISTERED
    assert facts == Facts("b", config_version=1)
    # The fuzzer is worth something only while it gets behind the first checks.
    assert {kind.__name__ for kind in kinds} >= {
        "RegisterReceived", "HeartbeatReceived", "PullReceived", "ProgressReceived", "ResultReceived", "SyncReceived",
        "StatsReceived", "ExecutionsAnswered", "ConfigApplied", "ChunkReceived",
    }  # fmt: skip
    text = (
        f"{FRAMES} pieces, {sessions} sessions, at most {largest} bytes, {time.monotonic() - started:.1f} s"
    )
    print(text)  # noqa: T201  what a run by hand wants to know
