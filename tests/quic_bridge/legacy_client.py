"""A quic-flow client for tests, from the wire up: every byte it sends is made here, none by the product's own code."""

import asyncio
import json
import struct
from contextlib import asynccontextmanager

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.protocol.messages import now_ms

from quic_bridge.domain import Result

PATIENCE = 5.0
PING, PONG, DATA, ACK = 1, 2, 3, 4


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, value):
    """A protobuf field: an integer or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def parse(data):
    """The fields of a protobuf message by number; repeated ones: the last."""
    found, position = {}, 0

    def number():
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while position < len(data):
        key = number()
        if key & 7 == 0:
            found[key >> 3] = number()
        else:
            length = number()
            found[key >> 3] = data[position : position + length]
            position += length
    return found


def frame(kind, payload, timestamp=1_700_000_000_000):
    """What goes over the wire: length, then Frame{type, payload, timestamp}."""
    body = field(1, kind) + field(2, payload) + field(3, timestamp)
    return struct.pack(">I", len(body)) + body


def ping(client_id):
    return frame(PING, field(1, client_id.encode()))


def data(msg_id, payload=b"{}", *, kind=2, wait_ack=True):
    body = field(1, msg_id.encode()) + field(2, b"me") + field(4, kind) + field(5, payload)
    return frame(DATA, body + (field(6, 1) if wait_ack else b""))


def ack(msg_id, status=1, result=b"", error=""):
    body = field(1, msg_id.encode()) + field(2, status)
    return frame(
        ACK, body + (field(3, result) if result else b"") + (field(4, error.encode()) if error else b"")
    )


class Stream:
    """What came on one stream."""

    def __init__(self):
        self.data = b""
        self.ended = False
        self.changed = asyncio.Event()

    async def frame(self):
        """(type, fields of the payload) of the next frame."""
        async with asyncio.timeout(PATIENCE):
            while len(self.data) < 4 or len(self.data) - 4 < struct.unpack(">I", self.data[:4])[0]:
                self.changed.clear()
                await self.changed.wait()
        size = struct.unpack(">I", self.data[:4])[0]
        found = parse(self.data[4 : 4 + size])
        self.data = self.data[4 + size :]
        return found[1], parse(found.get(2, b""))

    async def end(self):
        async with asyncio.timeout(PATIENCE):
            while not self.ended:
                self.changed.clear()
                await self.changed.wait()


class LegacyClient(QuicConnectionProtocol):
    """`opened` has the streams that the server opened, as (id, Stream)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.streams = {}
        self.opened = asyncio.Queue()
        self.ended = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, events.StreamDataReceived):
            stream = self.streams.get(event.stream_id)
            if stream is None:
                stream = self.streams[event.stream_id] = Stream()
                self.opened.put_nowait((event.stream_id, stream))
            stream.data += event.data
            stream.ended |= event.end_stream
            stream.changed.set()
        elif isinstance(event, events.ConnectionTerminated) and not self.ended.done():
            self.ended.set_result((event.error_code, event.reason_phrase))

    def write(self, stream_id, data, end=False):
        self._quic.send_stream_data(stream_id, data, end)
        self.transmit()

    def open(self, data, end=True):
        """Open a stream and write to it; by default half-close it, as these clients do."""
        stream_id = self._quic.get_next_available_stream_id()
        self.streams[stream_id] = Stream()
        self.write(stream_id, data, end)
        return self.streams[stream_id]

    async def arrive(self, client_id):
        """Say the name; returns the PONG's fields."""
        kind, fields = await self.open(ping(client_id)).frame()
        assert kind == PONG
        return fields

    async def command(self):
        """(stream id, stream, msg_id, command) of the next command."""
        stream_id, stream = await asyncio.wait_for(self.opened.get(), PATIENCE)
        kind, message = await stream.frame()
        assert (kind, message[4], message[6]) == (DATA, 1, 1)  # COMMAND, wait_ack
        assert not stream.ended
        return stream_id, stream, message[1].decode(), json.loads(message[5])

    def answer(self, stream_id, msg_id, *, exit_code=0, stdout="", stderr="", message=""):
        result = {
            "success": exit_code == 0, "exit_code": exit_code, "stdout": stdout, "stderr": stderr, "message": message,
        }  # fmt: skip
        self.write(stream_id, ack(msg_id, result=json.dumps(result).encode()), end=True)

    async def closed(self):
        return await asyncio.wait_for(asyncio.shield(self.ended), PATIENCE)


@asynccontextmanager
async def legacy_client(port, ca, *, alpn="quic-backbone-v1"):
    """A connected quic-flow client that has not said its name yet."""
    config = QuicConfiguration(is_client=True, alpn_protocols=[alpn], server_name="localhost")
    config.load_verify_locations(cadata=ca)
    async with connect("127.0.0.1", port, configuration=config, create_protocol=LegacyClient) as connected:
        yield connected


def instruction(execution_id="e1", **fields):
    fields.setdefault("executor_config", {"command": "date"})
    fields.setdefault("scheduled_time", now_ms())
    fields.setdefault("timeout", 60)
    fields.setdefault("task_id", "7")
    return task_pb2.TaskExecution(execution_id=execution_id, task_name="job", **fields)


def results(domain):
    return [report.message for report in domain.reports if isinstance(report, Result)]
