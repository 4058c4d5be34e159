"""Full logs on request: the server keeps 10 KB of an output, the agent the whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

from quartzflow_agent.protocol import agent_pb2

CHUNK = 128 * 1024  # bytes in one frame


def log_chunks(request: agent_pb2.LogFetch, path: Path) -> List[agent_pb2.LogChunk]:
    """The requested part of a log, in pieces; one piece with an error when it cannot be read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = min(max(request.offset, 0), size)
            end = min(start + request.limit, size) if request.limit > 0 else size
            file.seek(start)
            data = file.read(end - start)
    except OSError as error:
        return [log_error(request, f"the log cannot be read: {error.strerror}")]
    return [
        agent_pb2.LogChunk(
            request_id=request.request_id,
            execution_id=request.execution_id,
            offset=start + position,
            total=size,
            data=data[position : position + CHUNK],
            last=position + CHUNK >= len(data),
        )
        for position in range(0, max(len(data), 1), CHUNK)
    ]


def log_error(request: agent_pb2.LogFetch, error: str) -> agent_pb2.LogChunk:
    """The answer when there is no log to send."""
    return agent_pb2.LogChunk(
        request_id=request.request_id, execution_id=request.execution_id, last=True, error=error
    )
