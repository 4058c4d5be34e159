"""Tables of reports. Written by executions_app.reports only: actions, building and mailing."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .choices import OPEN, Days, Every, Format, MailState, ReportState


class Asked(models.Model):
    """What a report is to hold; a schedule says the same of each of its reports."""

    days = models.CharField(_("days"), max_length=16, choices=Days, default=Days.LAST_7)
    dimensions = models.JSONField(_("parts"), default=list)  # of Dimension, in its order
    format = models.CharField(_("format"), max_length=8, choices=Format, default=Format.XLSX)
    language = models.CharField(_("language"), max_length=16, default="zh-hans")
    zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    # What is counted; null and "": all that the owner may see. No constraints: a report outlives what it is about.
    task_id = models.BigIntegerField(_("task"), null=True, blank=True)
    group_id = models.BigIntegerField(_("group"), null=True, blank=True)
    client_id = models.CharField(_("host"), max_length=64, blank=True)

    class Meta:
        abstract = True


class ReportSchedule(Asked):
    """A report that is built and mailed again and again, with what its owner may see."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    # Who saved it last: whoever changes the recipients sends what they may see themselves. Null: that account is gone.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    recipients = models.JSONField(_("recipients"), default=list)  # e-mail addresses
    every = models.CharField(_("how often"), max_length=8, choices=Every, default=Every.DAY)
    weekday = models.SmallIntegerField(_("weekday"), default=0, help_text="0 is Monday")
    month_day = models.SmallIntegerField(_("day of the month"), default=1, help_text="1 to 28")
    hour = models.SmallIntegerField(_("hour"), default=8, help_text="of the zone")
    next_at = models.DateTimeField(_("next"), null=True)  # null: not enabled
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    updated_at = models.DateTimeField(_("changed at"), default=timezone.now)

    class Meta:
        db_table = "tb_report_schedule"
        verbose_name = _("scheduled report")
        verbose_name_plural = _("scheduled reports")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Report(Asked):
    """One report: asked for, built by a worker, kept as a file for some days."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("owner"), on_delete=models.CASCADE, related_name="reports"
    )
    first = models.DateField(_("first day"))
    last = models.DateField(_("last day"))
    state = models.CharField(_("state"), max_length=12, choices=ReportState, default=ReportState.WAITING)
    percent = models.SmallIntegerField(_("progress"), default=0)
    error = models.CharField(_("error"), max_length=300, blank=True)
    # A worker builds while `lease` is ahead; later it is taken for dead, and another one takes the next attempt.
    attempts = models.SmallIntegerField(default=0)
    lease = models.DateTimeField(null=True)
    figures = models.JSONField(null=True)  # what the page shows, cut to KEPT_ROWS
    # Ids of the tasks in it; null: it holds everybody's. Whoever may no longer see them may not have it.
    seen = models.JSONField(null=True)
    size = models.BigIntegerField(_("size"), default=0, help_text="bytes of the file")
    created_at = models.DateTimeField(_("asked for"), default=timezone.now)
    done_at = models.DateTimeField(_("done"), null=True)

    class Meta:
        db_table = "tb_report"
        verbose_name = _("report")
        verbose_name_plural = _("reports")
        ordering = ["-id"]
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["owner", "-id"], name="idx_report_owner"),  # one's own list
            # What is to be built, or was left: few rows.
            models.Index(fields=["id"], name="idx_report_open", condition=Q(state__in=OPEN)),
            models.Index(fields=["created_at"], name="idx_report_created"),  # forgetting
        ]

    def __str__(self) -> str:
        return f"{self.first} – {self.last}" if self.first != self.last else str(self.first)

    @property
    def file_name(self) -> str:
        """As it is offered for download."""
        days = (
            f"{self.first:%Y%m%d}-{self.last:%Y%m%d}" if self.first != self.last else f"{self.first:%Y%m%d}"
        )
        return f"quartz-flow-{days}.{self.format}"


class ReportMail(models.Model):
    """One report of a schedule on its way to the recipients. One row a due time makes it happen once."""

    schedule = models.ForeignKey(ReportSchedule, on_delete=models.CASCADE, related_name="mails")
    due_at = models.DateTimeField(_("due"))
    by_hand = models.BooleanField(default=False)  # sent now, besides its times
    report = models.ForeignKey(Report, null=True, on_delete=models.SET_NULL, related_name="mails")
    recipients = models.JSONField(default=list)  # as they were then
    state = models.CharField(_("state"), max_length=8, choices=MailState, default=MailState.WAITING)
    attempts = models.SmallIntegerField(_("tries"), default=0)
    error = models.CharField(_("error"), max_length=300, blank=True)
    next_at = models.DateTimeField(default=timezone.now)  # not before; while it is being sent: given up then
    sent_at = models.DateTimeField(_("sent"), null=True)

    class Meta:
        db_table = "tb_report_mail"
        verbose_name = _("report by mail")
        verbose_name_plural = _("reports by mail")
        ordering = ["-id"]
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["schedule", "due_at"], name="uk_report_mail")]
        indexes = [
            # What is not over: few rows.
            models.Index(
                fields=["next_at"], name="idx_report_mail_open",
                condition=Q(state__in=[MailState.WAITING, MailState.PENDING]),
            )
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.due_at}"
