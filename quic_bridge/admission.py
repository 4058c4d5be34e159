"""Whether the bridge answers a first packet."""

import time
from collections.abc import Callable

import structlog

from .limits import Bucket, Limits
from .metrics import LIMITED

log = structlog.get_logger(__name__)

ADDRESSES = 10_000  # whose buckets are kept; beyond, the fullest are forgotten
QUIET = 10.0  # seconds between two log lines about the same limit


class Admission:
    """Counts the connections that have not registered, and the handshakes of all and of each address."""

    def __init__(self, limits: Limits, now: float, lag: Callable[[float], float] = lambda now: 0.0) -> None:
        """`lag` tells how late the event loop is, in seconds."""
        self.unregistered = 0
        self._lag = lag
        self._limits = limits
        self._all = Bucket(limits.handshakes_burst, now)
        self._addresses: dict[str, Bucket] = {}
        self._told: dict[str, float] = {}

    def admit(self, ip: str, now: float) -> bool:
        """Let a connection begin; it then counts as unregistered."""
        limits = self._limits
        if self.unregistered >= limits.unregistered:
            return self._refuse("unregistered", ip)
        # Who is there already comes first: an agent that is not answered in time connects anew, which costs more.
        if self._lag(now) > limits.lag:
            return self._refuse("lag", ip)
        # The address first: what a flooding one is denied costs the others nothing.
        if not self._bucket(ip, now).take(limits.address_handshakes, limits.address_handshakes_burst, now):
            return self._refuse("address_handshakes", ip)
        if not self._all.take(limits.handshakes, limits.handshakes_burst, now):
            return self._refuse("handshakes", ip)
        self.unregistered += 1
        return True

    def _bucket(self, ip: str, now: float) -> Bucket:
        bucket = self._addresses.get(ip)
        if bucket is None:
            if len(self._addresses) >= ADDRESSES:
                self._forget(now)
            bucket = self._addresses[ip] = Bucket(self._limits.address_handshakes_burst, now)
        return bucket

    def _forget(self, now: float) -> None:
        """Drop the half that would be full soonest: a new bucket is full as well."""
        rate = self._limits.address_handshakes
        by_fullness = sorted(self._addresses, key=lambda ip: _fill(self._addresses[ip], rate, now))
        for ip in by_fullness[ADDRESSES // 2 :]:
            del self._addresses[ip]

    def _refuse(self, limit: str, ip: str) -> bool:
        LIMITED.labels(limit).inc()
        now = time.monotonic()
        if now - self._told.get(limit, -QUIET) >= QUIET:
            self._told[limit] = now
            log.warning("connections not answered", limit=limit, ip=ip)
        return False


def _fill(bucket: Bucket, rate: float, now: float) -> float:
    return bucket.left + (now - bucket.at) * rate
