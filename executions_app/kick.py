"""Asking a worker to go on with what is in the tables, soon and at most a few times a second.

A hint: beat asks for the same every few seconds.
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
    """Asks for a Celery task, from a thread of its own: whoever writes results does not wait for the broker.

    pause: seconds for which further kicks are gathered
    """

    def __init__(self, task: str = ADVANCE, pause: float = PAUSE) -> None:
        self._task = task
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
            app.send_task(self._task, ignore_result=True, retry=False, expires=10)
        except (OperationalError, RedisError, OSError) as error:
            log.warning("worker not asked to go on", task=self._task, error=str(error))


kick = Kicker()
