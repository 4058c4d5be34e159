"""What a report may be: its days, its parts, its format, and what becomes of it."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Days(models.TextChoices):
    """Which days a report is about, seen from the day that it is built on."""

    TODAY = "today", _("Today")
    YESTERDAY = "yesterday", _("Yesterday")
    LAST_7 = "7_days", _("Last 7 days")
    LAST_30 = "30_days", _("Last 30 days")
    LAST_WEEK = "last_week", _("Last week")  # Monday to Sunday
    LAST_MONTH = "last_month", _("Last month")
    CUSTOM = "custom", _("From a day to a day")


class Dimension(models.TextChoices):
    """What the executions are counted by."""

    DAY = "day", _("By day")
    TASK = "task", _("By task")
    GROUP = "group", _("By group")
    HOST = "host", _("By host")
    REASON = "reason", _("Reasons of failures")


class Format(models.TextChoices):
    XLSX = "xlsx", _("Excel workbook")
    PDF = "pdf", "PDF"


class ReportState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    BUILDING = "building", _("Being built")
    DONE = "done", _("Done")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


OPEN = (ReportState.WAITING, ReportState.BUILDING)


class Every(models.TextChoices):
    """How often a scheduled report is sent."""

    DAY = "daily", _("Every day")
    WEEK = "weekly", _("Every week")
    MONTH = "monthly", _("Every month")


class MailState(models.TextChoices):
    WAITING = "waiting", _("Being built")
    PENDING = "pending", _("To be sent")
    SENT = "sent", _("Sent")
    FAILED = "failed", _("Failed")


MEDIA_TYPES = {
    Format.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    Format.PDF: "application/pdf",
}
