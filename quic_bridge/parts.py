"""Configurations as frames: one each, or several parts where that would be too large.

Parts also keep the stream free for other things: each is sent once the agent has acknowledged the one before.
"""

from collections.abc import Sequence
from typing import NamedTuple

from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol import messages, task_pb2
from quartzflow_agent.protocol.framing import encode

Config = task_pb2.TaskConfigPush | task_pb2.TaskConfigResponse

PART = 512 * 1024  # bytes, but one task at least: through a link of 1 Mbit/s before a push is repeated
PUSH = "p:"  # msg_id of a push: + configuration version
TASK_HEAD = 8  # bytes that a task needs beside its own


class Part(NamedTuple):
    """One frame; its ACK calls for the next. The last one's msg_id is the message's own."""

    msg_id: str
    frame: bytes


def encode_config(config: Config, msg_id: str, *, in_parts: bool) -> Sequence[Part]:
    """The frames, in their order. in_parts: the agent can put parts together.

    Raises FramingError when one is over MAX_FRAME: for parts that is a single task's fault.
    """
    kind = (
        pb.MESSAGE_TYPE_TASK_CONFIG_PUSH
        if isinstance(config, task_pb2.TaskConfigPush)
        else pb.MESSAGE_TYPE_TASK_CONFIG_RESPONSE
    )
    parts = split(config) if in_parts else [config]
    names = [f"{msg_id}/{number}" for number in range(len(parts) - 1)] + [msg_id]
    return [
        Part(name, encode(messages.data(kind, part, name, wait_ack=True)))
        for name, part in zip(names, parts, strict=True)
    ]


def split(config: Config) -> Sequence[Config]:
    """Parts of PART bytes or one task; the configuration itself when that is enough."""
    if config.ByteSize() <= PART:
        return [config]
    parts: list[Config] = []
    size = 0
    for task in config.tasks:
        more = task.ByteSize() + TASK_HEAD
        if not parts or size + more > PART:
            parts.append(type(config)(version=config.version, action=config.action, part=len(parts)))
            size = 0
        parts[-1].tasks.append(task)
        size += more
    if len(parts) < 2:
        return [config]
    parts[-1].deleted_task_ids.extend(config.deleted_task_ids)
    for part in parts:
        part.parts = len(parts)
    return parts


def encode_push(push: task_pb2.TaskConfigPush, *, in_parts: bool) -> Sequence[Part]:
    """The frames of a push, the same for every agent it goes to. Raises FramingError when one is over MAX_FRAME."""
    return encode_config(push, f"{PUSH}{push.version}", in_parts=in_parts)
