"""What agents may cost the bridge. Each limit closes, or does not let in, the offender alone, and counts a metric."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from quartzflow_agent.protocol.constants import CLOSE_FLOOD, MAX_FRAME, OFFLINE_AFTER, REGISTER_TIMEOUT

from .closing import PeerError


@dataclass(frozen=True, slots=True)
class Limits:
    """Set by QF_BRIDGE_LIMITS. Beyond those of a session, it is closed with a reason; beyond the others, a new
    connection is not answered: its client repeats the first packet with growing intervals."""

    # Of all connections. A handshake and a registration take about 4 ms of work together. More of them at once than
    # are through within their clients' patience, and all of that work is for nothing, and is asked for again.
    unregistered: int = 400  # connections at once that have not registered
    lag: float = 0.2  # seconds that the event loop is late
    handshakes: float = 500  # a second
    handshakes_burst: float = 1000
    # Of one IP address; many agents may share one.
    address_handshakes: float = 200  # a second
    address_handshakes_burst: float = 1000

    # Of one session.
    register_timeout: float = REGISTER_TIMEOUT  # seconds from the first packet to the REGISTER frame
    silence: float = OFFLINE_AFTER  # seconds without a frame
    first_frame: int = 64 * 1024  # bytes, of the REGISTER frame
    frame: int = MAX_FRAME  # bytes
    side_streams: int = 8  # open at once
    buffered: int = 16 * 1024 * 1024  # bytes of incomplete frames, all streams together
    backlog: int = 32 * 1024 * 1024  # bytes written to the peer that it has not acknowledged
    # A bucket of frames: each costs 1, and 1 more for every 16 KiB; a pull costs PULL_COST.
    rate: float = 2_000  # refilled per second
    burst: float = 20_000

    def charge(self, bucket: "Bucket", cost: float, now: float) -> None:
        """Take what a frame costs from its session's bucket. Raises PeerError when there is not so much."""
        if not bucket.take(self.rate, self.burst, now, cost):
            raise PeerError(f"more than {self.rate:g} frames a second", CLOSE_FLOOD, "rate")


PULL_COST = 50
COST_UNIT = 16 * 1024  # bytes


def changed(limits: Iterable[tuple[str, float]]) -> Limits:
    """The limits with these in the place of the defaults. Raises ValueError naming one that does not exist."""
    names = [field.name for field in fields(Limits)]
    values: dict[str, Any] = {}
    for name, value in limits:
        if name not in names:
            raise ValueError(f"QF_BRIDGE_LIMITS: there is no {name!r}; there are: {', '.join(names)}")
        values[name] = int(value) if isinstance(getattr(Limits(), name), int) else value
    return replace(Limits(), **values)


class Bucket:
    """Grants `rate` a second on average, and up to `burst` at once."""

    __slots__ = ("at", "left")

    def __init__(self, burst: float, now: float) -> None:
        self.left = burst
        self.at = now

    def take(self, rate: float, burst: float, now: float, cost: float = 1) -> bool:
        """Take `cost`, if there is so much."""
        self.left = min(self.left + (now - self.at) * rate, burst)
        self.at = now
        if self.left < cost:
            return False
        self.left -= cost
        return True
