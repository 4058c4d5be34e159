"""A small agent for tests: real QUIC, and full control over what it sends."""

import asyncio
from contextlib import asynccontextmanager

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.constants import ALPN_AGENT, PROTOCOL_VERSION
from quartzflow_agent.protocol.framing import FrameDecoder, encode

PATIENCE = 5.0  # seconds that a test waits for anything


class FakeAgent(QuicConnectionProtocol):
    """Queues the frames it receives; `ended` is (code, reason) once the bridge has closed the connection."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.client_id = ""
        self.frames = asyncio.Queue()
        self.ended = asyncio.get_running_loop().create_future()
        self._decoder = FrameDecoder()
        self._next = 0

    def quic_event_received(self, event):
        if isinstance(event, events.StreamDataReceived) and event.stream_id == 0:
            for frame in self._decoder.feed(event.data):
                self.frames.put_nowait(frame)
        elif isinstance(event, events.ConnectionTerminated) and not self.ended.done():
            self.ended.set_result((event.error_code, event.reason_phrase))

    def write(self, data, stream_id=0, end_stream=False):
        """Raw bytes."""
        self._quic.send_stream_data(stream_id, data, end_stream)
        self.transmit()

    def send(self, frame):
        self.write(encode(frame))

    def say(self, type, message, wait_ack=False):
        """Send a DATA message; returns its msg_id."""
        self._next += 1
        msg_id = f"m{self._next}"
        self.send(messages.data(type, message, msg_id, wait_ack=wait_ack))
        return msg_id

    def result(self, execution_id, **fields):
        fields.setdefault("status", task_pb2.SUCCESS)
        message = task_pb2.TaskResult(execution_id=execution_id, task_id="1", **fields)
        return self.say(pb.MESSAGE_TYPE_TASK_RESULT, message, wait_ack=True)

    async def next(self):
        return await asyncio.wait_for(self.frames.get(), PATIENCE)

    async def next_data(self, cls):
        """(envelope, message) of the next frame, which must be DATA of this class."""
        envelope, message = messages.decode_data(await self.next())
        assert isinstance(message, cls), message
        return envelope, message

    async def next_ack(self):
        return messages.decode_ack(await self.next())

    async def closed(self):
        return await asyncio.wait_for(asyncio.shield(self.ended), PATIENCE)

    async def register(self, client_id, credential=None, **fields):
        """Register; returns the response."""
        self.client_id = client_id
        fields.setdefault("protocol_version", PROTOCOL_VERSION)
        request = agent_pb2.RegisterRequest(
            client_id=client_id,
            credential=f"good:{client_id}" if credential is None else credential,
            **fields,
        )
        self.say(pb.MESSAGE_TYPE_REGISTER, request)
        return (await self.next_data(agent_pb2.RegisterResponse))[1]

    async def ping(self, **fields):
        """A heartbeat; returns the PONG."""
        self.send(messages.ping(self.client_id, **fields))
        return messages.decode_pong(await self.next())

    async def pull(self, since=0):
        """Pull and acknowledge the configuration; returns the response."""
        asked = self.say(pb.MESSAGE_TYPE_TASK_CONFIG_PULL, task_pb2.TaskConfigPull(version=since))
        envelope, response = await self.next_data(task_pb2.TaskConfigResponse)
        assert envelope.msg_id == asked
        self.send(messages.ack(envelope.msg_id, result=str(response.version).encode()))
        return response


@asynccontextmanager
async def agent(port, ca, *, alpn=ALPN_AGENT):
    """A connected, not yet registered agent."""
    config = QuicConfiguration(is_client=True, alpn_protocols=[alpn], server_name="localhost")
    config.load_verify_locations(cadata=ca)
    async with connect("127.0.0.1", port, configuration=config, create_protocol=FakeAgent) as connected:
        yield connected


async def eventually(condition, patience=PATIENCE):
    """Wait until `condition()` holds."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110  any condition at all
            await asyncio.sleep(0.01)
