"""Executions and their output (PRD §5.2, FR-4)."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from quartzflow.execution_status import ExecutionStatus
from tasks_app.models import Task

from .alerts.models import (
    Alert,
    AlertChannel,
    AlertDelivery,
    AlertEvent,
    AlertRule,
    AlertSilence,
)
from .choices import ExecutionType, FailureReason, Hold
from .reports.models import Report, ReportMail, ReportSchedule

__all__ = [
    "Alert",
    "AlertChannel",
    "AlertDelivery",
    "AlertEvent",
    "AlertRule",
    "AlertSilence",
    "Attempt",
    "DailyStats",
    "DependencyEvent",
    "Execution",
    "ExecutionLog",
    "MissedFiring",
    "RemovedExecution",
    "Replay",
    "Report",
    "ReportMail",
    "ReportSchedule",
    "Watermark",
]


# Those that did not go well are few: their indexes are small, and cost nothing while all goes well. Written with OR, so
# that SQLite knows, too, that an index of the three serves a query for one.
NOT_WELL = (
    Q(status=ExecutionStatus.FAILURE)
    | Q(status=ExecutionStatus.TIMEOUT)
    | Q(status=ExecutionStatus.CANCELLED)
)


class Execution(models.Model):
    """One task on one host at one firing. Written only through dispatch, ingest and actions of this app."""

    execution_id = models.CharField(_("execution id"), max_length=160, unique=True)
    run_id = models.CharField(_("run"), max_length=80, db_index=True)  # page of one run
    # History outlives its task: no constraint, and the name is kept beside it.
    task = models.ForeignKey(
        Task,
        verbose_name=_("task"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="executions",
        db_index=False,
    )
    task_name = models.CharField(_("task name"), max_length=128)
    client_id = models.CharField(_("host"), max_length=64, blank=True)
    group_id = models.BigIntegerField(_("group"), null=True)
    execution_type = models.SmallIntegerField(
        _("trigger"), choices=ExecutionType, default=ExecutionType.SCHEDULED
    )
    status = models.SmallIntegerField(_("status"), choices=ExecutionStatus, default=ExecutionStatus.PENDING)
    scheduled_time = models.DateTimeField(_("scheduled"))
    delay_ms = models.IntegerField(
        default=0, help_text="the host's share of the spread: it begins so much later"
    )
    start_time = models.DateTimeField(_("started"), null=True)
    end_time = models.DateTimeField(_("ended"), null=True)
    duration = models.IntegerField(_("duration"), null=True, help_text="ms")
    exit_code = models.IntegerField(_("exit code"), null=True)
    retry_count = models.IntegerField(_("retries"), default=0)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    shard_index = models.IntegerField(null=True)
    shard_total = models.IntegerField(null=True)
    failure_reason = models.CharField(_("reason"), max_length=24, choices=FailureReason, blank=True)
    params = models.JSONField(_("parameters"), default=dict, blank=True)
    timeout = models.IntegerField(_("timeout"), default=300, help_text="s, as it was when fired")
    max_retries = models.IntegerField(default=0)
    retry_interval = models.IntegerField(default=60, help_text="s")
    retry_max_interval = models.IntegerField(default=0, help_text="s; 0: every attempt waits the same")
    # Who retries by hand gets new executions; each names the one that it repeats.
    retry_of = models.BigIntegerField(null=True)
    task_version = models.BigIntegerField(default=0)
    local = models.BooleanField(_("fired by the host itself"), default=False)
    triggered_by = models.CharField(_("triggered by"), max_length=150, blank=True)
    cancelled_by = models.CharField(_("cancelled by"), max_length=150, blank=True)
    # The agent has stored the instruction; until then the bridge sends it again.
    accepted_at = models.DateTimeField(null=True)
    wave = models.IntegerField(null=True)  # of a broadcast in waves, from 0
    hold = models.CharField(_("held back"), max_length=8, choices=Hold, blank=True)
    # Pending, or between attempts, and not with its agent by then: it expires. Null: whatever holds it back ends it.
    expires_at = models.DateTimeField(null=True)
    # Between two attempts the status stays RUNNING (it never moves back) and this says when the next begins.
    next_retry_at = models.DateTimeField(_("next attempt"), null=True)

    class Meta:
        db_table = "tb_execution"
        verbose_name = _("execution")
        verbose_name_plural = _("executions")
        ordering = ["-id"]
        indexes = [
            # Newest of one task, of one host, of one status; each list page and filter orders by -id.
            models.Index(fields=["task", "-id"], name="idx_exec_task_id"),
            models.Index(fields=["client_id", "-id"], name="idx_exec_client_id"),
            models.Index(fields=["status", "-id"], name="idx_exec_status_id"),
            models.Index(
                fields=["-scheduled_time"], name="idx_exec_scheduled"
            ),  # time range filters, statistics
            models.Index(fields=["start_time"], name="idx_exec_start_time"),  # PRD's own: start_time ranges
            # Sweeps: what is not finished. Few rows, whatever the table's size.
            models.Index(
                fields=["client_id", "scheduled_time"],
                name="idx_exec_live",
                condition=Q(status__in=[ExecutionStatus.PENDING, ExecutionStatus.RUNNING]),
            ),
            # Newest of those that nobody scheduled: a few in a hundred of all.
            models.Index(
                fields=["execution_type", "-id"],
                name="idx_exec_by_hand",
                condition=~Q(execution_type=ExecutionType.SCHEDULED),
            ),
            # What of a task waits or runs: edits, concurrency, limits.
            models.Index(
                fields=["task", "status"],
                name="idx_exec_live_task",
                condition=Q(status__in=[ExecutionStatus.PENDING, ExecutionStatus.RUNNING]),
            ),
            # Newest that failed of one task, of one host, of a stretch of time: of a task that fires every second and
            # failed long ago, the others would be read first. The status at the end is looked at without the row.
            models.Index(fields=["task", "-id", "status"], name="idx_exec_bad_of_task", condition=NOT_WELL),
            models.Index(
                fields=["client_id", "-id", "status"], name="idx_exec_bad_of_client", condition=NOT_WELL
            ),
            models.Index(
                fields=["-scheduled_time", "task", "status"], name="idx_exec_bad_in_time", condition=NOT_WELL
            ),
            # What the figures of a group and of a reason lead to: a stretch of time.
            models.Index(fields=["group_id", "-scheduled_time"], name="idx_exec_group"),
            models.Index(
                fields=["failure_reason", "-scheduled_time"],
                name="idx_exec_reason",
                condition=~Q(failure_reason=""),
            ),
        ]

    def __str__(self) -> str:
        return self.execution_id

    @property
    def status_enum(self) -> ExecutionStatus:
        return ExecutionStatus(self.status)


class ExecutionLog(models.Model):
    """The output of one execution: at most 10 KB of it (FR-4.2), apart so that lists never drag it along."""

    execution = models.OneToOneField(
        Execution, primary_key=True, on_delete=models.CASCADE, related_name="log"
    )
    output = models.TextField(blank=True)
    error_msg = models.TextField(blank=True)
    truncated = models.BooleanField(default=False)
    size = models.BigIntegerField(default=0, help_text="bytes of the whole output, which the agent keeps")
    # Since when it is found by log search (log_search_index.py); whoever writes an output leaves it empty.
    indexed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "tb_execution_log"
        # What is still to be indexed: few rows, whatever the table's size.
        indexes = [models.Index(fields=["execution"], name="idx_log_waiting", condition=Q(indexed_at=None))]

    def __str__(self) -> str:
        return f"log of {self.execution_id}"


class Attempt(models.Model):
    """How one attempt of an execution ended; the execution's row has the last one."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="attempts")
    number = models.IntegerField(help_text="0 is the first")
    status = models.SmallIntegerField(choices=ExecutionStatus)
    start_time = models.DateTimeField(null=True)
    end_time = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    failure_reason = models.CharField(max_length=24, choices=FailureReason, blank=True)
    error_msg = models.TextField(blank=True)

    class Meta:
        db_table = "tb_execution_attempt"
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["execution", "number"], name="uk_attempt")]


class DependencyEvent(models.Model):
    """A run has ended that a task waits for: first this row, then a message. The links of chains of runs."""

    class State(models.IntegerChoices):
        NEW = 0, "new"
        WAITING = 1, "waiting"  # for the runs of other parents
        DONE = 2, "done"

    id = models.BigAutoField(primary_key=True)
    task_id = models.BigIntegerField()
    parent_id = models.BigIntegerField()
    run_id = models.CharField(max_length=80, db_index=True)  # of the parent; the chain downwards
    status = models.SmallIntegerField(choices=ExecutionStatus)  # how that run ended
    state = models.SmallIntegerField(choices=State, default=State.NEW)
    child_run = models.CharField(
        max_length=80, blank=True, db_index=True
    )  # the run it led to; the chain upwards
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "tb_dependency_event"
        constraints = [models.UniqueConstraint(fields=["task_id", "run_id"], name="uk_dependency_event")]
        indexes = [
            # What is still to be handled: few rows, whatever the table's size.
            models.Index(fields=["state", "task_id"], name="idx_dependency_open", condition=Q(state__lt=2))
        ]


class Replay(models.Model):
    """A task is run for every time of a past window. Written by executions_app.replays."""

    class Status(models.IntegerChoices):
        RUNNING = 1, _("Running")
        DONE = 2, _("Done")
        CANCELLED = 3, _("Cancelled")

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="replays")
    begin = models.DateTimeField()
    end = models.DateTimeField()
    cursor = models.DateTimeField()  # the last time that was handled
    parallel = models.IntegerField()
    status = models.SmallIntegerField(choices=Status, default=Status.RUNNING)
    total = models.IntegerField()
    fired = models.IntegerField(default=0)
    existing = models.IntegerField(default=0)
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "tb_replay"
        ordering = ["-id"]


class MissedFiring(models.Model):
    """Times of a task that passed without any execution: an event to be alerted on."""

    task_id = models.BigIntegerField()
    task_name = models.CharField(max_length=128, blank=True)
    first_time = models.DateTimeField()
    last_time = models.DateTimeField()
    count = models.IntegerField()
    detected_at = models.DateTimeField(auto_now_add=True, db_index=True)  # newest first; what is unresolved
    resolved_at = models.DateTimeField(null=True)  # they came after all

    class Meta:
        db_table = "tb_missed_firing"
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["task_id", "first_time"], name="uk_missed_firing")]


class Watermark(models.Model):
    """How far a periodic look at the tables has come."""

    name = models.CharField(primary_key=True, max_length=64)
    until = models.DateTimeField()
    checked_at = models.DateTimeField()

    class Meta:
        db_table = "tb_watermark"


class DailyStats(models.Model):
    """Counts of one task on one host on one day (UTC), recomputed from executions and from what is gone of them."""

    task_id = models.BigIntegerField()
    task_name = models.CharField(max_length=128, blank=True)
    client_id = models.CharField(max_length=64)
    day = models.DateField()
    success_count = models.IntegerField(default=0)
    failure_count = models.IntegerField(default=0)
    timeout_count = models.IntegerField(default=0)
    cancelled_count = models.IntegerField(default=0)
    total_duration_ms = models.BigIntegerField(default=0)
    max_duration_ms = models.IntegerField(default=0)
    min_duration_ms = models.IntegerField(default=0)
    # What of these is no longer among the executions: taken away by retention, or too old to be entered.
    removed_success = models.IntegerField(default=0)
    removed_failure = models.IntegerField(default=0)
    removed_timeout = models.IntegerField(default=0)
    removed_cancelled = models.IntegerField(default=0)
    removed_total_ms = models.BigIntegerField(default=0)
    removed_max_ms = models.IntegerField(default=0)
    removed_min_ms = models.IntegerField(default=0)
    # What the agent counted differently when it last reported this day; null: the same.
    agent_counts = models.JSONField(null=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "tb_daily_stats"
        constraints = [models.UniqueConstraint(fields=["task_id", "client_id", "day"], name="uk_daily_stats")]
        indexes = [models.Index(fields=["day"], name="idx_daily_stats_day")]  # reports by time range


class RemovedExecution(models.Model):
    """The name of an execution that a host made by itself and that is gone: should the host tell of it again, it is
    neither entered nor counted a second time. Hosts made few, and told of most only once."""

    execution_id = models.CharField(primary_key=True, max_length=160)
    removed_at = models.DateTimeField(db_index=True)  # forgetting

    class Meta:
        db_table = "tb_removed_execution"

    def __str__(self) -> str:
        return self.execution_id
