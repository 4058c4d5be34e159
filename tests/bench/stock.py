"""aioquic's own asyncio server with a StreamReader for each stream, as much of a bridge as a burst needs.

For each line on standard input, seconds to wait at most, it sends one message to each agent and prints, as JSON,
how many have acknowledged it and when the last did.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from aioquic.asyncio import serve
from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.framing import FrameDecoder, encode

from quic_bridge.server import configuration


class Stock:
    def __init__(self) -> None:
        self.writers: set[asyncio.StreamWriter] = set()
        self.acknowledged = 0
        self.last = 0.0
        self.tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = FrameDecoder()
        while data := await reader.read(65536):
            for frame in decoder.feed(data):
                if frame.type == pb.FRAME_TYPE_PING:
                    ping = messages.decode_ping(frame)
                    pong = messages.pong(config_version=ping.config_version, sent_at=ping.sent_at)
                    writer.write(encode(pong))
                elif frame.type == pb.FRAME_TYPE_ACK:
                    self.acknowledged += 1
                    self.last = time.monotonic()
                elif writer not in self.writers:
                    self.writers.add(writer)
                    answer = agent_pb2.RegisterResponse(accepted=True, credential="c", config_version=0)
                    writer.write(encode(messages.data(pb.MESSAGE_TYPE_REGISTER_RESPONSE, answer)))
        self.writers.discard(writer)

    async def burst(self, number: int, patience: float) -> dict[str, float]:
        self.acknowledged, start = 0, time.monotonic()
        self.last = start
        later = messages.now_ms() + 3_600_000
        for count, writer in enumerate(list(self.writers)):
            instruction = task_pb2.TaskExecution(execution_id=f"e{number}-{count}", scheduled_time=later)
            writer.write(encode(messages.data(pb.MESSAGE_TYPE_TASK_EXECUTION, instruction, f"x{number}")))
        while self.acknowledged < len(self.writers) and time.monotonic() < start + patience:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        done = self.acknowledged >= len(self.writers)
        return {"acknowledged": self.acknowledged, "seconds": (self.last - start) if done else patience}


async def main(port: int, certificate: Path, key: Path) -> None:
    stock = Stock()
    server = await serve(
        "127.0.0.1", port, configuration=configuration(certificate, key), stream_handler=stock.accept
    )
    number = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        number += 1
        print(json.dumps(await stock.burst(number, float(line))), flush=True)  # noqa: T201
    server.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
