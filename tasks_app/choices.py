"""What a task can be. The database codes are the PRD's (§5.2)."""

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _
from quartzflow_agent.protocol import task_pb2


class ExecutorType(models.IntegerChoices):
    SHELL = 1, _("Shell")
    HTTP = 2, _("HTTP")
    PLUGIN = 3, _("Plugin")

    @property
    def wire(self) -> Any:
        """The code on the wire (PRD §9: 0..2)."""
        return task_pb2.ExecutorType.Value(self.name)


class TaskStatus(models.IntegerChoices):
    DISABLED = 0, _("Disabled")
    ENABLED = 1, _("Enabled")


class ScheduleType(models.TextChoices):
    CRON = "cron", _("Cron expression")
    FIXED_RATE = "fixed_rate", _("Fixed rate")
    FIXED_DELAY = "fixed_delay", _("Fixed delay")
    ONCE = "once", _("Once")
    NONE = "none", _("Not scheduled")


class MisfirePolicy(models.TextChoices):
    FIRE_ONCE = "fire_once", _("Fire once")
    SKIP = "skip", _("Skip")
    FIRE_ALL = "fire_all", _("Fire all")


class ConcurrencyPolicy(models.TextChoices):
    QUEUE = "queue", _("Queue")
    SKIP = "skip", _("Skip")
    REPLACE = "replace", _("Replace the running one")


class Routing(models.TextChoices):
    BROADCAST = "broadcast", _("Every host")
    RANDOM = "random", _("One at random")
    ROUND_ROBIN = "round_robin", _("One in turn")
    LEAST_LOADED = "least_loaded", _("The least loaded")
    CONSISTENT_HASH = "consistent_hash", _("Always the same (consistent hash)")
    FAILOVER = "failover", _("The first online")
    SHARDING = "sharding", _("Sharded over all hosts")


class OfflinePolicy(models.TextChoices):
    """What a firing for every host does about hosts that are offline."""

    FAIL = "fail", _("Leave them out")
    WAIT = "wait", _("Wait for them, within the grace time")


class DependencyCondition(models.TextChoices):
    """After which end of another task's run."""

    SUCCESS = "success", _("After success")
    FAILURE = "failure", _("After failure")
    ALWAYS = "always", _("After any end")


class DependencyMode(models.TextChoices):
    """Of several tasks that are waited for."""

    ALL = "all", _("All of them")
    ANY = "any", _("Any of them")


class CalendarMode(models.TextChoices):
    """How a task keeps to its calendar."""

    ONLY_ON = "only_on", _("Only on")
    NOT_ON = "not_on", _("Not on")


class ChangeAction(models.TextChoices):
    """Why a configuration version exists."""

    TASK = "task", _("Task changed")
    TASK_DELETED = "task_deleted", _("Task deleted")
    CLIENT = "client", _("Host moved")


class VersionAction(models.TextChoices):
    """What made a version of a task's definition."""

    CREATE = "create", _("New task")
    UPDATE = "update", _("Edited")
    ENABLE = "enable", _("Enabled")
    DISABLE = "disable", _("Disabled")
    RESTORE = "restore", _("Restored")
    IMPORT = "import", _("Imported")
    COPY = "copy", _("Copied")
