import pytest
from hypothesis import given
from hypothesis import strategies as st
from quartzflow_agent.protocol import messages
from quartzflow_agent.protocol.backbone_pb2 import FRAME_TYPE_PING, Frame
from quartzflow_agent.protocol.constants import MAX_FRAME
from quartzflow_agent.protocol.framing import HEADER, FrameDecoder, FramingError, encode

frames = st.lists(
    st.builds(
        Frame,
        type=st.integers(0, 9),
        payload=st.binary(min_size=1, max_size=300),
        timestamp=st.integers(0, 2**62),
    ),
    max_size=8,
)


def cut(data, sizes):
    pieces, position = [], 0
    for size in sizes:
        pieces.append(data[position : position + size])
        position += size
    return [*pieces, data[position:]]


@given(frames, st.lists(st.integers(0, 50), max_size=60))
def test_any_frames_survive_any_chunking(sent, sizes):
    decoder = FrameDecoder()
    stream = b"".join(encode(frame) for frame in sent)

    received = [frame for piece in cut(stream, sizes) for frame in decoder.feed(piece)]

    assert received == sent
    assert decoder.buffered == 0


@given(st.binary(max_size=400), st.lists(st.integers(0, 50), max_size=20))
def test_garbage_either_waits_within_its_bound_or_is_a_framing_error_for_good(garbage, sizes):
    decoder = FrameDecoder(max_size=64)
    for piece in cut(garbage, sizes):
        try:
            decoder.feed(piece)
        except FramingError:
            with pytest.raises(FramingError):
                decoder.feed(encode(messages.ping("c")))
            return
        assert decoder.buffered < 64 + HEADER


@given(st.binary(max_size=200), st.lists(st.integers(0, 20), max_size=20))
def test_the_verdict_does_not_depend_on_the_chunking(garbage, sizes):
    def broken(pieces):
        decoder = FrameDecoder(max_size=64)
        try:
            for piece in pieces:
                decoder.feed(piece)
        except FramingError:
            return True
        return False

    assert broken([garbage]) == broken(cut(garbage, sizes))


@pytest.mark.parametrize("length", [0, 65, MAX_FRAME, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_its_body_arrives(length):
    with pytest.raises(FramingError, match=str(length)):
        FrameDecoder(max_size=64).feed(length.to_bytes(4, "big"))


def test_a_body_that_is_no_frame_is_refused():
    with pytest.raises(FramingError, match="not a protobuf Frame"):
        FrameDecoder().feed(b"\x00\x00\x00\x02\xff\xff")


def test_the_length_is_big_endian_and_does_not_count_itself():
    frame = Frame(type=FRAME_TYPE_PING, payload=b"abc")
    assert encode(frame) == b"\x00\x00\x00\x07" + b"\x08\x01" + b"\x12\x03abc"


def test_a_frame_over_the_limit_or_empty_is_not_sent():
    with pytest.raises(FramingError):
        encode(Frame(payload=bytes(MAX_FRAME)))
    with pytest.raises(FramingError):
        encode(Frame())


def test_a_frame_of_exactly_the_limit_passes():
    frame = Frame(type=FRAME_TYPE_PING, payload=bytes(MAX_FRAME - 7))
    data = encode(frame)
    assert len(data) == MAX_FRAME + HEADER
    assert FrameDecoder().feed(data) == [frame]
