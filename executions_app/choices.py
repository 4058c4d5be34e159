"""Why an execution exists, and why it did not end well. Its status is in quartzflow.execution_status."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class ExecutionType(models.IntegerChoices):
    """1 and 2 are the PRD's."""

    SCHEDULED = 1, _("Scheduled")
    MANUAL = 2, _("Manual")
    DEPENDENCY = 3, _("Dependency")
    REPLAY = 4, _("Replay")


class Hold(models.TextChoices):
    """Why a pending execution is not sent to its host yet; empty: it is."""

    LIMIT = "limit", _("Waits for others to end")
    WAVE = "wave", _("Waits for the wave before it")


class FailureReason(models.TextChoices):
    """Why an execution did not end well."""

    EXIT_CODE = "exit_code", _("Non-zero exit code")
    TIMEOUT = "timeout", _("Ran out of time")
    AGENT_LOST = "agent_lost", _("The agent was lost")
    AGENT_RESTARTED = "agent_restarted", _("The agent restarted")
    NO_ONLINE_CLIENT = "no_online_client", _("No host was online")
    PUSH_FAILED = "push_failed", _("The host did not take the instruction")
    EXPIRED = "expired", _("Not started in time")
    REJECTED = "rejected", _("Refused by the host")
    START_FAILED = "start_failed", _("Could not be started")
    EXECUTOR_ERROR = "executor_error", _("The executor failed")
    CANCELLED_BY_USER = "cancelled_by_user", _("Cancelled by a user")
    CONCURRENCY = "concurrency", _("The one before was still running")
    WAVE_STOPPED = "wave_stopped", _("Too many hosts before it failed")
    TASK_DISABLED = "task_disabled", _("The task was disabled")
    TASK_CHANGED = "task_changed", _("The task was changed")
    TASK_DELETED = "task_deleted", _("The task was deleted")
    HOST_MOVED = "host_moved", _("The host left the task's groups")


# These are guesses of the server about an agent it could not ask; the agent's own record wins over them.
SERVER_GUESSES = frozenset({FailureReason.AGENT_LOST, FailureReason.EXPIRED, FailureReason.PUSH_FAILED})
