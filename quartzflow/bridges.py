"""Wake-ups to the bridges over the channel layer.

They are hints: what they speak of is a committed row, and every bridge sweeps the tables too. So a full or
unreachable layer is logged and otherwise ignored.
"""

import base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypedDict

import msgpack
import structlog
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.utils.crypto import salted_hmac
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


class Dispatch(TypedDict):
    """Instructions for some clients of the bridge; `dispatch` makes it, `instructions_of` reads it."""

    type: Literal["dispatch"]
    sealed: bytes


class Config(TypedDict):
    """The configuration has this version now."""

    type: Literal["config"]
    version: int


class Cancel(TypedDict):
    """[client_id, execution_id, reason] to stop."""

    type: Literal["cancel"]
    items: list[tuple[str, str, str]]


class LogWatch(TypedDict):
    """Somebody reads this execution's log now, or no longer does."""

    type: Literal["log_watch"]
    client_id: str
    execution_id: str
    watching: bool


class LogFetch(TypedDict):
    """Send a part of an execution's whole log, which its agent keeps, to the channel `reply` as LogChunks."""

    type: Literal["log_fetch"]
    client_id: str
    execution_id: str
    request_id: str  # unique; comes back in every chunk
    offset: int  # bytes
    limit: int  # bytes; 0: to the end
    reply: str


class LogChunk(TypedDict):
    """The answer to a LogFetch; the last one has `last` set, or `error` says why there will not be more."""

    type: Literal["log.chunk"]
    request_id: str
    execution_id: str
    offset: int  # bytes
    total: int  # bytes of the whole log
    data: bytes
    last: bool
    error: str


class Close(TypedDict):
    """The client's session must end now (credential revoked, client deleted)."""

    type: Literal["close"]
    client_id: str
    reason: str


class Reconnect(TypedDict):
    """The client must register again: what it is or has, on the server, has changed."""

    type: Literal["reconnect"]
    client_id: str
    reason: str


BridgeMessage = Dispatch | Config | Cancel | LogWatch | LogFetch | Close | Reconnect


def channel_name(bridge_id: str) -> str:
    """The channel of one bridge; channel names allow letters, digits, hyphen, underscore and period."""
    return (
        "bridge." + "".join(c if (c.isalnum() and c.isascii()) or c in "-_" else "-" for c in bridge_id)[:80]
    )


def dispatch(items: Sequence[tuple[str, bytes]]) -> Dispatch:
    """The message with these instructions: (client id, serialised TaskExecution).

    Encrypted, as a whole: there are values of secrets in it, and Redis writes what passes through it to disk.
    """
    return {"type": "dispatch", "sealed": _cipher(settings.SECRET_KEY).encrypt(msgpack.packb(items))}


def instructions_of(message: Dispatch) -> list[tuple[str, bytes]]:
    """What `dispatch` was given. Raises KeyError, ValueError: another version's, or of a server with another key."""
    try:
        opened = _cipher(settings.SECRET_KEY).decrypt(message["sealed"])
    except InvalidToken:
        raise ValueError("instructions that QF_SECRET_KEY does not open") from None
    return [(client_id, data) for client_id, data in msgpack.unpackb(opened)]


@lru_cache(maxsize=2)
def _cipher(key: str) -> Fernet:
    derived = salted_hmac("quartzflow.bridges.dispatch", b"", key, algorithm="sha256").digest()
    return Fernet(base64.urlsafe_b64encode(derived))


def send(bridge_id: str, message: BridgeMessage) -> bool:
    """Send one message to one bridge; False (and a log line) when the layer did not take it."""
    return send_all([(bridge_id, message)])


def send_all(messages: list[tuple[str, BridgeMessage]]) -> bool:
    """Send several messages in one go; each message is tried. False when any was not taken."""
    if not messages:
        return True

    async def run() -> bool:
        layer = get_channel_layer()
        complete = True
        for bridge_id, message in messages:
            try:
                await layer.send(channel_name(bridge_id), message)
            except (ChannelFull, RedisError, OSError) as error:
                complete = False
                log.warning("wake-up not sent", bridge=bridge_id, type=message["type"], error=str(error))
        return complete

    return async_to_sync(run)()
