"""What a bridge counts, for Prometheus (`QF_BRIDGE_METRICS_PORT`, on the loopback address)."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server

log = structlog.get_logger(__name__)

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

CONNECTIONS = Gauge("quartzflow_bridge_connections", "Open connections.", registry=REGISTRY)
AGENTS = Gauge("quartzflow_bridge_agents", "Registered agents.", registry=REGISTRY)
REPORTS_WAITING = Gauge(
    "quartzflow_bridge_reports_waiting", "Reports that the database has not taken yet.", registry=REGISTRY
)
LOOP_LAG = Gauge(
    "quartzflow_bridge_loop_lag_seconds",
    "The longest time within the last 15 s that the event loop was late.",
    registry=REGISTRY,
)
MESSAGES = Counter("quartzflow_bridge_messages", "Messages of agents.", ["type"], registry=REGISTRY)
ANSWERED = Counter(
    "quartzflow_bridge_instructions_answered",
    "Instructions that agents have stored or refused.",
    registry=REGISTRY,
)
INSTRUCTED = Counter("quartzflow_bridge_instructions_sent", "Instructions sent to agents.", registry=REGISTRY)
COMMITTED = Counter("quartzflow_bridge_results_committed", "Results in the database.", registry=REGISTRY)
CLOSED = Counter(
    "quartzflow_bridge_sessions_closed", "Ended sessions, by close code.", ["code"], registry=REGISTRY
)
LIMITED = Counter(
    "quartzflow_bridge_limited",
    "Offences: connections not begun, or closed, because of a limit.",
    ["limit"],
    registry=REGISTRY,
)
DATAGRAMS_DROPPED = Gauge(
    "quartzflow_bridge_datagrams_dropped", "Datagrams that could not be sent in time.", registry=REGISTRY
)

TICK = 0.05  # seconds between two looks at the loop
WINDOW = 15.0  # seconds
STALL = 0.25  # seconds; a longer one is logged


class LagGauge:
    """How late the event loop is: what everything that runs in it has to wait."""

    def __init__(self) -> None:
        self._found: deque[tuple[float, float]] = deque()  # (when, seconds), falling seconds
        self._last = 0.0  # seconds
        self._due = float("inf")

    def now(self, now: float) -> float:
        """Seconds that the loop is late now, also in the middle of a long turn; `now` is the loop's time."""
        return max(self._last, now - self._due)

    async def watch(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._due = loop.time() + TICK
            await asyncio.sleep(TICK)
            now = loop.time()
            self.add(now, now - self._due)

    def add(self, now: float, lag: float) -> None:
        """Take one measurement; the longest within WINDOW is what the gauge shows."""
        self._last = lag
        if lag > STALL:
            log.warning("event loop stalled", seconds=round(lag, 3))
        while self._found and self._found[-1][1] <= lag:
            self._found.pop()
        self._found.append((now, lag))
        while self._found[0][0] < now - WINDOW:
            self._found.popleft()
        LOOP_LAG.set(self._found[0][1])


@contextmanager
def served(port: int) -> Iterator[None]:
    """Serve the metrics on a loopback port, by a thread; 0: not at all. Raises OSError when the port is in use."""
    if not port:
        yield
        return
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=REGISTRY)
    except OSError as error:
        raise OSError(error.errno, f"cannot serve metrics on TCP port {port}: {error.strerror}") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
