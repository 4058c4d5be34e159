"""When scheduled reports are due, and that each due time happens once."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import structlog
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from .choices import Every, MailState
from .models import Report, ReportMail, ReportSchedule
from .periods import period_of

log = structlog.get_logger(__name__)

LOOK_AHEAD = 62  # days: a month and a day of one are always within


def next_due(schedule: ReportSchedule, after: datetime) -> datetime:
    """The first due time after `after`, in UTC: the hour of the zone's clock, whatever daylight saving does."""
    zone = ZoneInfo(schedule.zone)
    today = after.astimezone(zone).date()
    for number in range(LOOK_AHEAD):
        day = today + timedelta(days=number)
        due = datetime.combine(day, time(schedule.hour), zone)
        fits = {
            Every.DAY: True,
            Every.WEEK: day.weekday() == schedule.weekday,
            Every.MONTH: day.day == schedule.month_day,
        }[Every(schedule.every)]
        # By instants: two times of one zone are compared by their clocks.
        if fits and due.timestamp() > after.timestamp():
            return due.astimezone(UTC)
    raise AssertionError("every month has a 28th")


def fire_due(now: datetime | None = None) -> int:
    """Begin what is due. Of times that passed while nobody looked, only the latest is made up for."""
    now = now or timezone.now()
    due = ReportSchedule.objects.filter(is_enabled=True, next_at__lte=now)
    return sum(_fire(schedule, now) for schedule in due)


def _fire(schedule: ReportSchedule, now: datetime) -> bool:
    """False: another process was first, or somebody changed the schedule meanwhile."""
    due_at = schedule.next_at
    if due_at is None:
        return False
    latest = due_at
    while (following := next_due(schedule, latest)) <= now:
        latest = following
    with transaction.atomic():
        ours = ReportSchedule.objects.filter(pk=schedule.pk, is_enabled=True, next_at=due_at)
        if not ours.update(next_at=following):
            return False
        # Twice only if somebody set the schedule back to a time that has been: the row is there then.
        mail, fresh = ReportMail.objects.get_or_create(
            schedule=schedule, due_at=latest, defaults={"recipients": schedule.recipients, "next_at": now}
        )
        if fresh:
            begin(schedule, mail, latest)
    return fresh


def begin(schedule: ReportSchedule, mail: ReportMail, at: datetime) -> None:
    """Ask for the mail's report, of the days that `at` sees; in the caller's transaction."""
    owner = schedule.owner
    if owner is None or not owner.is_active:
        mail.state = MailState.FAILED
        with override(schedule.language):
            mail.error = _("The account it is built for is gone: save the schedule to build it for yourself.")
        log.warning("scheduled report has no owner", schedule=schedule.pk)
    else:
        period = period_of(schedule.days, schedule.zone, now=at)
        asked = {
            name: getattr(schedule, name)
            for name in (
                "days", "dimensions", "format", "language", "zone", "task_id", "group_id", "client_id",
            )
        }  # fmt: skip
        mail.report = Report.objects.create(owner=owner, first=period.first, last=period.last, **asked)
    mail.save(update_fields=["state", "error", "report"])
