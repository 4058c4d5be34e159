"""Asking a worker to go on with what is in the tables, soon and at most a few times a second.

A hint: housekeeping does the same every few seconds.
"""

import threading

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from quartzflow.celery import app

log = structlog.get_logger(__name__)

ADVANCE = "executions_app.tasks.advance"
PAUSE = 0.1  # seconds that kicks are gathered for


class Kicker:
    """Sends the message from a thread of its own: whoever writes results does not wait for the broker."""

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def __call__(self) -> None:
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(self._pause, self.send)
                self._timer.daemon = True
                self._timer.start()

    def send(self) -> None:
        """Send it now; never raises for a broker that is away."""
        with self._lock:
            self._timer = None
        try:
            app.send_task(ADVANCE, ignore_result=True, retry=False, expires=10)
        except (OperationalError, RedisError, OSError) as error:
            log.warning("worker not asked to go on", error=str(error))


kick = Kicker()
