"""Frames on a byte stream: a 4-byte big-endian length, then that many bytes of a protobuf Frame."""

from __future__ import annotations

from typing import List

from google.protobuf.message import DecodeError

from quartzflow_agent.protocol.backbone_pb2 import Frame
from quartzflow_agent.protocol.constants import MAX_FRAME

HEADER = 4  # bytes of the length prefix


class FramingError(ValueError):
    """The bytes are not a sequence of frames. The stream cannot be read any further."""


def encode(frame: Frame) -> bytes:
    """The frame with its length prefix. Raises FramingError when it is empty or over MAX_FRAME."""
    body = frame.SerializeToString()
    if not 0 < len(body) <= MAX_FRAME:
        raise FramingError(f"frame of {len(body)} bytes")
    return len(body).to_bytes(HEADER, "big") + body


class FrameDecoder:
    """Cuts a stream into frames. Holds at most one incomplete frame: max_size + HEADER bytes."""

    def __init__(self, max_size: int = MAX_FRAME) -> None:
        self.max_size = max_size  # bytes; may be changed between two calls of feed()
        self._buffer = bytearray()
        self._needed = HEADER  # bytes until the incomplete frame says more
        self._error = ""

    @property
    def buffered(self) -> int:
        """Bytes of the incomplete frame held so far."""
        return len(self._buffer)

    def feed(self, data: bytes) -> List[Frame]:
        """The frames that `data` completes.

        Raises FramingError on a length of 0 or over max_size, and on a body that is not a Frame; from then on
        every call raises. The length is checked before its body is waited for.
        """
        if self._error:
            raise FramingError(self._error)
        if self._buffer:
            self._buffer += data
            # A large frame comes in thousands of datagrams: it is looked at once it is whole, not with each.
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        frames: List[Frame] = []
        position, end = 0, len(data)
        self._needed = HEADER
        while end - position >= HEADER:
            size = int.from_bytes(data[position : position + HEADER], "big")
            if not 0 < size <= self.max_size:
                raise self._fail(f"frame length {size} is not in 1..{self.max_size}")
            if end - position - HEADER < size:
                self._needed = HEADER + size
                break
            position += HEADER + size
            try:
                frames.append(Frame.FromString(data[position - size : position]))
            except DecodeError:
                raise self._fail("not a protobuf Frame") from None
        self._buffer += data[position:]
        return frames

    def _fail(self, error: str) -> FramingError:
        self._error = error
        return FramingError(error)
