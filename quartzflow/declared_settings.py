"""The system settings of the server itself; other modules declare theirs beside what they are for."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _lazy

from .system_settings import Setting, register

DAY = 24 * 3600  # seconds


def _from_settings(name: str) -> Any:
    """A default that comes from the settings module, and by it from the environment, whenever it is asked."""
    return lambda: getattr(settings, name)


# --- limits ---

MAX_RUNNING: Setting[int] = register(
    Setting(
        name="max_running",
        section="limits",
        kind=int,
        default=_from_settings("QF_MAX_RUNNING"),
        minimum=0,
        maximum=1_000_000,
        label=_lazy("Executions at once, everywhere"),
        help=_lazy("What is beyond waits. 0: no limit."),
    )
)
MAX_RUNNING_PER_HOST: Setting[int] = register(
    Setting(
        name="max_running_per_host",
        section="limits",
        kind=int,
        default=_from_settings("QF_MAX_RUNNING_PER_CLIENT"),
        minimum=0,
        maximum=1_000_000,
        label=_lazy("Executions at once on one host"),
        help=_lazy("All tasks together; what is beyond waits. 0: no limit."),
    )
)
API_RATE: Setting[int] = register(
    Setting(
        name="api_rate",
        section="limits",
        kind=int,
        default=3000,
        minimum=0,
        maximum=1_000_000,
        label=_lazy("API requests of one token"),
        unit=_lazy("a minute"),
        help=_lazy("The same for each person who uses the API by a session. 0: no limit."),
    )
)
PAGE_SIZE: Setting[int] = register(
    Setting(
        name="page_size",
        section="limits",
        kind=int,
        default=20,
        minimum=1,
        maximum=200,
        label=_lazy("Rows on a page of the API"),
        help=_lazy("Where a request names no page_size of its own."),
    )
)

# --- scheduling ---

RECONNECT_GRACE: Setting[int] = register(
    Setting(
        name="reconnect_grace",
        section="scheduling",
        kind=int,
        default=_from_settings("QF_RECONNECT_GRACE"),
        minimum=0,
        maximum=3600,
        label=_lazy("Grace for hosts that went offline"),
        unit=_lazy("s"),
        help=_lazy("A host that has been offline for no longer is still sent what fires."),
    )
)
LOST_GRACE: Setting[int] = register(
    Setting(
        name="lost_grace",
        section="scheduling",
        kind=int,
        default=_from_settings("QF_LOST_GRACE"),
        minimum=10,
        maximum=DAY,
        label=_lazy("Grace for lost agents"),
        unit=_lazy("s"),
        help=_lazy("So long after its timeout, an execution whose agent is silent is given up."),
    )
)
LONGEST_QUEUE: Setting[int] = register(
    Setting(
        name="longest_queue",
        section="scheduling",
        kind=int,
        default=_from_settings("QF_LONGEST_QUEUE"),
        minimum=60,
        maximum=30 * DAY,
        label=_lazy("Longest wait on a host"),
        unit=_lazy("s"),
        help=_lazy("So long an execution may wait on its host for those before it."),
    )
)

# --- new tasks ---

TASK_TIMEOUT: Setting[int] = register(
    Setting(
        name="task_timeout",
        section="tasks",
        kind=int,
        default=300,
        minimum=10,
        maximum=3600,
        label=_lazy("Timeout"),
        unit=_lazy("s"),
        help=_lazy("For tasks that are made without saying otherwise, as are the two below."),
    )
)
TASK_RETRY_COUNT: Setting[int] = register(
    Setting(
        name="task_retry_count",
        section="tasks",
        kind=int,
        default=0,
        minimum=0,
        maximum=10,
        label=_lazy("Retries"),
    )
)
TASK_RETRY_INTERVAL: Setting[int] = register(
    Setting(
        name="task_retry_interval",
        section="tasks",
        kind=int,
        default=60,
        minimum=1,
        maximum=DAY,
        label=_lazy("Wait before a retry"),
        unit=_lazy("s"),
    )
)


def task_defaults() -> dict[str, int]:
    """What a new task has where nothing else was said: names of its columns → values."""
    return {
        "timeout": TASK_TIMEOUT.value,
        "retry_count": TASK_RETRY_COUNT.value,
        "retry_interval": TASK_RETRY_INTERVAL.value,
    }


# --- retention ---

AUDIT_DAYS: Setting[int] = register(
    Setting(
        name="audit_days",
        section="retention",
        kind=int,
        default=0,
        minimum=0,
        maximum=3650,
        label=_lazy("Audit log"),
        unit=_lazy("days"),
        help=_lazy(
            "Older entries are removed; the chain of what is kept can still be verified. 0: kept for ever."
        ),
    )
)
CHAINS_DAYS: Setting[int] = register(
    Setting(
        name="chains_days",
        section="retention",
        kind=int,
        default=_from_settings("QF_CHAINS_KEPT"),
        minimum=1,
        maximum=3650,
        label=_lazy("Links between runs"),
        unit=_lazy("days"),
        help=_lazy("Which run of a task was started by which run of another."),
    )
)
SCHEDULER_DAYS: Setting[int] = register(
    Setting(
        name="scheduler_days",
        section="retention",
        kind=int,
        default=365,
        minimum=0,
        maximum=3650,
        label=_lazy("Missed firings and replays"),
        unit=_lazy("days"),
        help=_lazy("Older ones are removed; a replay that is under way stays. 0: kept for ever."),
    )
)

# --- security ---

LOGIN_FAILURES: Setting[int] = register(
    Setting(
        name="login_failures",
        section="security",
        kind=int,
        default=10,
        minimum=3,
        maximum=100,
        label=_lazy("Failed log-ins before a pause"),
        help=_lazy("Counted for a user name from one address."),
    )
)
LOGIN_PAUSE: Setting[int] = register(
    Setting(
        name="login_pause",
        section="security",
        kind=int,
        default=15,
        minimum=1,
        maximum=1440,
        label=_lazy("Pause after failed log-ins"),
        unit=_lazy("minutes"),
    )
)
TOKEN_DAYS: Setting[int] = register(
    Setting(
        name="token_days",
        section="security",
        kind=int,
        default=365,
        minimum=1,
        maximum=3650,
        label=_lazy("Longest life of an API token"),
        unit=_lazy("days"),
        help=_lazy("New tokens cannot be valid for longer."),
    )
)


def login_failures(request: Any = None, credentials: Any = None) -> int:
    """For AXES_FAILURE_LIMIT."""
    return LOGIN_FAILURES.value


def login_pause(request: Any = None) -> timedelta:
    """For AXES_COOLOFF_TIME."""
    return timedelta(minutes=LOGIN_PAUSE.value)
