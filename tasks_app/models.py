"""Tasks, their groups and the log of configuration versions (PRD §5.2)."""

from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _
from django_celery_beat.models import PeriodicTask
from quartzflow_agent.schedule import Schedule

from groups_app.models import Group

from .choices import (
    CalendarMode,
    ChangeAction,
    ConcurrencyPolicy,
    DependencyCondition,
    DependencyMode,
    ExecutorType,
    MisfirePolicy,
    OfflinePolicy,
    Routing,
    ScheduleType,
    TaskStatus,
    VersionAction,
)


class Calendar(models.Model):
    """Named moments that tasks share: holidays, working days, maintenance windows. Written by tasks_app.calendars."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    description = models.CharField(_("description"), max_length=256, blank=True)
    timezone = models.CharField(_("time zone"), max_length=64, default="Asia/Shanghai")
    # As quartzflow_agent.calendars has them, but that working_days is the name of a country's calendar here.
    rules = models.JSONField(_("rules"), default=dict, blank=True)
    # The rules as agents get them: JSON text with the official days filled in.
    resolved = models.TextField(editable=False)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        db_table = "tb_calendar"
        verbose_name = _("calendar")
        verbose_name_plural = _("calendars")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Task(models.Model):
    """A unit of work: what runs, when, on which groups. Written only through tasks_app.actions."""

    name = models.CharField(_("name"), max_length=128, unique=True)
    description = models.CharField(_("description"), max_length=512, blank=True)
    executor_type = models.SmallIntegerField(_("executor"), choices=ExecutorType, default=ExecutorType.SHELL)
    executor_config = models.JSONField(_("executor configuration"), default=dict)
    cron_expr = models.CharField(_("cron expression"), max_length=64, blank=True)
    timeout = models.IntegerField(
        _("timeout"),
        default=300,
        validators=[MinValueValidator(10), MaxValueValidator(3600)],
        help_text=_("Seconds, 10 to 3600."),
    )
    retry_count = models.IntegerField(
        _("retries"), default=0, validators=[MinValueValidator(0), MaxValueValidator(10)]
    )
    retry_interval = models.IntegerField(
        _("retry interval"),
        default=60,
        validators=[MinValueValidator(1), MaxValueValidator(86400)],
        help_text=_("Seconds."),
    )
    retry_max_interval = models.IntegerField(
        _("longest retry interval"),
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(86400)],
        help_text=_("Seconds. The interval doubles with each attempt, up to this; 0: it stays the same."),
    )
    concurrency = models.IntegerField(
        _("concurrency"),
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text=_("Running at once on one host."),
    )
    status = models.SmallIntegerField(_("status"), choices=TaskStatus, default=TaskStatus.ENABLED)
    created_by = models.CharField(_("created by"), max_length=64, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("owner"), null=True, blank=True, on_delete=models.SET_NULL
    )
    groups = models.ManyToManyField(
        Group, verbose_name=_("groups"), through="TaskGroup", related_name="tasks", blank=True
    )
    is_global = models.BooleanField(_("on every host"), default=False)
    labels = models.JSONField(_("labels"), default=dict, blank=True)
    schedule_type = models.CharField(
        _("schedule"), max_length=12, choices=ScheduleType, default=ScheduleType.CRON
    )
    timezone = models.CharField(_("time zone"), max_length=64, default="Asia/Shanghai")
    interval_seconds = models.IntegerField(
        _("interval"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(366 * 86400)],
        help_text=_("Seconds."),
    )
    run_at = models.DateTimeField(_("run at"), null=True, blank=True)
    calendar = models.ForeignKey(
        Calendar, verbose_name=_("calendar"), null=True, blank=True, on_delete=models.PROTECT
    )
    calendar_mode = models.CharField(
        _("use of the calendar"), max_length=8, choices=CalendarMode, default=CalendarMode.NOT_ON
    )
    # Firings that the calendar did not allow.
    skipped_count = models.BigIntegerField(_("skipped firings"), default=0, editable=False)
    last_skipped_at = models.DateTimeField(_("last skipped"), null=True, editable=False)
    selector = models.JSONField(
        _("label selector"),
        default=dict,
        blank=True,
        help_text=_("Only hosts of the groups with these labels; a list stands for any of its values."),
    )
    offline_policy = models.CharField(
        _("hosts offline"), max_length=4, choices=OfflinePolicy, default=OfflinePolicy.FAIL
    )
    dependency_mode = models.CharField(
        _("runs after"), max_length=4, choices=DependencyMode, default=DependencyMode.ALL
    )
    wave_size = models.CharField(
        _("hosts at a time"),
        max_length=6,
        blank=True,
        validators=[
            RegexValidator(
                r"^([1-9]\d{0,4}|([1-9]\d?|100)%)\Z", _("A number such as 10, or a part such as 20%%.")
            )
        ],
        help_text=_(
            "A number, or a part such as 20%; the next go when these have ended. Empty: all at once."
        ),
    )
    wave_max_failed = models.IntegerField(
        _("failures allowed"),
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text=_("Percent. When more of the hosts so far have failed, the others are left out."),
    )
    # fixed_rate fires at anchor + n·interval, so its phase survives restarts and edits of other fields.
    anchor_at = models.DateTimeField(null=True, blank=True, editable=False)
    start_at = models.DateTimeField(_("not before"), null=True, blank=True)
    end_at = models.DateTimeField(_("not after"), null=True, blank=True)
    misfire_policy = models.CharField(
        _("when missed"), max_length=10, choices=MisfirePolicy, default=MisfirePolicy.FIRE_ONCE
    )
    misfire_grace = models.IntegerField(
        _("grace time"),
        default=3600,
        validators=[MinValueValidator(1), MaxValueValidator(30 * 86400)],
        help_text=_("Seconds after its time in which a missed firing is still made up for."),
    )
    concurrency_policy = models.CharField(
        _("when still running"), max_length=8, choices=ConcurrencyPolicy, default=ConcurrencyPolicy.QUEUE
    )
    spread_seconds = models.IntegerField(
        _("spread"),
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(3600)],
        help_text=_("Seconds over which the hosts begin, each at its own moment, instead of all at once."),
    )
    routing = models.CharField(_("routing"), max_length=16, choices=Routing, default=Routing.BROADCAST)
    # When this schedule was set or switched on: what lies before it is never made up for.
    schedule_since = models.DateTimeField(default=now, editable=False)
    # fixed_delay: set when the whole run has ended.
    next_fire_at = models.DateTimeField(null=True, blank=True, editable=False)
    version = models.BigIntegerField(_("version"), default=0, editable=False)
    periodic_task = models.OneToOneField(
        PeriodicTask, null=True, editable=False, on_delete=models.SET_NULL, related_name="quartz_task"
    )

    class Meta:
        db_table = "tb_task"
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        ordering = ["-id"]
        permissions = [
            ("trigger_task", _("Can run the task now")),
            ("cancel_task", _("Can cancel the task's executions")),
            ("view_logs_task", _("Can read the task's logs")),
        ]
        indexes = [
            models.Index(fields=["status"], name="idx_task_status")
        ]  # list filter; enabled tasks at start

    def __str__(self) -> str:
        return self.name

    @property
    def is_enabled(self) -> bool:
        return self.status == TaskStatus.ENABLED

    def schedule_spec(self) -> Schedule:
        """When this task fires, as the scheduler and the agents compute it."""
        values = {field: getattr(self, field) for field in SCHEDULE_FIELDS}
        values["interval_seconds"] = self.interval_seconds or 0
        if self.calendar:
            values |= {"calendar": self.calendar.resolved, "calendar_mode": self.calendar_mode}
        return Schedule(**values)

    def schedule_text(self) -> Any:
        """The schedule in one short piece for lists."""
        if self.schedule_type == ScheduleType.CRON:
            return self.cron_expr
        if self.schedule_type == ScheduleType.FIXED_RATE:
            return _("every %(seconds)s s") % {"seconds": self.interval_seconds}
        if self.schedule_type == ScheduleType.FIXED_DELAY:
            return _("%(seconds)s s after the end") % {"seconds": self.interval_seconds}
        return ScheduleType(self.schedule_type).label


# A change of any of these begins the schedule anew.
TIMING_FIELDS = (
    "schedule_type",
    "cron_expr",
    "timezone",
    "interval_seconds",
    "run_at",
    "anchor_at",
    "start_at",
    "end_at",
)
SCHEDULE_FIELDS = (*TIMING_FIELDS, "misfire_policy", "misfire_grace")


class TaskGroup(models.Model):
    """Binds a task to a group (FR-3.3)."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE)
    # A group that tasks are bound to cannot be deleted.
    group = models.ForeignKey(Group, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "tb_task_group"
        constraints = [models.UniqueConstraint(fields=["task", "group"], name="uk_task_group")]


class TaskDependency(models.Model):
    """The task runs after runs of its parent. Written by tasks_app.dependencies."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependencies")
    parent = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependents")
    condition = models.CharField(
        max_length=8, choices=DependencyCondition, default=DependencyCondition.SUCCESS
    )

    class Meta:
        db_table = "tb_task_dependency"
        constraints = [models.UniqueConstraint(fields=["task", "parent"], name="uk_task_dependency")]


class TaskVersion(models.Model):
    """What a task was after one change of its definition. Written by tasks_app.versions."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()  # 1, 2, 3 … of the task
    action = models.CharField(max_length=8, choices=VersionAction)
    origin = models.PositiveIntegerField(null=True)  # RESTORE: the number that was gone back to
    actor_name = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(default=now)
    changed = models.JSONField(default=list)  # names of the fields that differ from what was before
    definition = models.JSONField()  # tasks_app.versions.definitions

    class Meta:
        db_table = "tb_task_version"
        constraints = [models.UniqueConstraint(fields=["task", "number"], name="uk_task_version")]


class ConfigVersion(models.Model):
    """One row: the newest configuration version.

    Locked by whoever makes the next one, so commit order is version order.
    """

    version = models.BigIntegerField(default=0)

    class Meta:
        db_table = "tb_config_version"


class ConfigChange(models.Model):
    """What changed at a version: the scheduler's and the agents' cursor."""

    id = models.BigAutoField(primary_key=True)
    version = models.BigIntegerField(db_index=True)  # cursor reads: version > seen
    action = models.CharField(max_length=12, choices=ChangeAction)
    task_id = models.BigIntegerField(null=True)
    client_id = models.CharField(max_length=64, blank=True)
    # Groups that the task was or is bound to; null: every host.
    group_ids = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "tb_config_change"
