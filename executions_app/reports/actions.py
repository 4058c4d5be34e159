"""All that people do with reports and their schedules. Everything is audited."""

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from quartzflow.audit import difference, record
from quartzflow.errors import Code, Conflict, InvalidInput, NotAllowed, NotFound
from quartzflow.permissions import User, check, check_create

from ..kick import Kicker
from ..locks import lock
from .checks import check_report, check_schedule
from .choices import OPEN, ReportState
from .declared import AT_ONCE
from .models import Report, ReportMail, ReportSchedule
from .schedules import begin, next_due
from .selectors import file_of, has_file, may_download, reports_for

MOST_KEPT = 200  # reports of one person
BUILD = "executions_app.reports.build"
kick = Kicker(BUILD)


class ReportGone(NotFound):
    """It is not built, or has been removed."""

    code = Code.REPORT_GONE
    default_message = _lazy("The file is not there (any more). Build the report again.")


def do_request_report(user: User, data: dict[str, Any]) -> Report:
    """Ask for a report; a worker builds it. Raises InvalidInput, and Conflict where the user has too many open."""
    cleaned, period = check_report(user, data)
    with transaction.atomic():
        report = _new(user, first=period.first, last=period.last, **cleaned)
        changes = {**cleaned, "from": str(period.first), "to": str(period.last)}
        record(user, "report.request", report, changes)
        transaction.on_commit(kick)
    return report


def do_build_again(user: User, report: Report) -> Report:
    """The same days and parts once more, as a new report. Raises Conflict, NotFound."""
    _check_mine(user, report)
    names = (
        "days", "dimensions", "format", "language", "zone", "task_id", "group_id", "client_id", "first", "last",
    )  # fmt: skip
    with transaction.atomic():
        again = _new(user, **{name: getattr(report, name) for name in names})
        record(user, "report.request", again, {"again": report.pk})
        transaction.on_commit(kick)
    return again


def _new(user: User, **fields: Any) -> Report:
    lock("reports", user.pk)  # or two requests at once would both find room
    mine = Report.objects.filter(owner=user)
    if mine.filter(state__in=OPEN).count() >= AT_ONCE.value:
        raise Conflict(
            _("You have %(count)s reports that are being built. Wait for one of them, or cancel it.")
            % {"count": AT_ONCE.value}
        )
    if mine.count() >= MOST_KEPT:
        raise Conflict(
            _("You have %(count)s reports. Delete some that are not needed any more.") % {"count": MOST_KEPT}
        )
    return Report.objects.create(owner=user, **fields)


def do_cancel_report(user: User, report: Report) -> None:
    """The worker that builds it stops at its next step. Raises Conflict, NotFound."""
    _check_mine(user, report)
    with transaction.atomic():
        ours = Report.objects.filter(pk=report.pk, state__in=OPEN)
        if not ours.update(state=ReportState.CANCELLED, done_at=timezone.now(), lease=None):
            raise Conflict(_("The report is over already."))
        record(user, "report.cancel", report)


def do_delete_report(user: User, report: Report) -> None:
    """With its file. Raises Conflict while it is built, NotFound."""
    _check_mine(user, report)
    with transaction.atomic():
        gone, _rows = Report.objects.filter(pk=report.pk).exclude(state__in=OPEN).delete()
        if not gone:
            raise Conflict(_("The report is being built. Cancel it first."))
        record(user, "report.delete", report)
        path = file_of(report)
        transaction.on_commit(lambda: path.unlink(missing_ok=True))


def do_download_report(user: User, report: Report) -> Any:
    """The file, open for reading. Raises NotAllowed where its tasks are not to be seen any more, NotFound."""
    _check_mine(user, report)
    if not may_download(user, report):
        raise NotAllowed(_("It holds tasks that you may not see any more. Build the report again."))
    if not has_file(report):
        raise ReportGone
    try:
        file = file_of(report).open("rb")
    except FileNotFoundError:
        raise ReportGone from None
    record(user, "report.download", report, {"format": report.format})
    return file


def _check_mine(user: User, report: Report) -> None:
    if not reports_for(user).filter(pk=report.pk).exists():
        raise NotFound


# --- schedules ---


def do_save_schedule(user: User, schedule: ReportSchedule | None, data: dict[str, Any]) -> ReportSchedule:
    """Make or change a schedule; what is left out stays. It becomes the user's: its reports hold what they may see.

    Raises InvalidInput, NotAllowed, NotFound.
    """
    if schedule is None:
        check_create(user, ReportSchedule)
    else:
        check(user, schedule, "change")
    before = schedule_data(schedule) if schedule else {}
    cleaned = check_schedule(user, {**before, **data})
    row = schedule or ReportSchedule()
    for name, value in cleaned.items():
        setattr(row, name, value)
    now = timezone.now()
    row.owner, row.updated_at = user, now
    row.next_at = next_due(row, now) if row.is_enabled else None
    with transaction.atomic():
        try:
            with transaction.atomic():
                row.save()
        except IntegrityError:
            raise InvalidInput({"name": [_("This name is taken.")]}) from None
        if schedule is None:
            record(user, "report_schedule.create", row, schedule_data(row))
        else:
            changes = difference(before, schedule_data(row))
            record(user, "report_schedule.update", row, {**changes, "owner": user.get_username()})
    return row


def do_delete_schedule(user: User, schedule: ReportSchedule) -> None:
    """With what was sent of it; built reports stay. Raises NotAllowed, NotFound."""
    check(user, schedule, "delete")
    with transaction.atomic():
        record(user, "report_schedule.delete", schedule)
        schedule.delete()


def do_send_now(user: User, schedule: ReportSchedule) -> ReportMail:
    """Build and send it now, besides its times. Raises Conflict, NotAllowed, NotFound."""
    check(user, schedule, "change")
    now = timezone.now()
    with transaction.atomic():
        lock("report_schedule", schedule.pk)
        if schedule.mails.filter(by_hand=True, report__state__in=OPEN).exists():
            raise Conflict(_("It is being built already."))
        mail = ReportMail.objects.create(
            schedule=schedule, due_at=now, by_hand=True, recipients=schedule.recipients, next_at=now
        )
        begin(schedule, mail, now)
        record(user, "report_schedule.send", schedule, {"recipients": schedule.recipients})
        transaction.on_commit(kick)
    return mail


def schedule_data(schedule: ReportSchedule) -> dict[str, Any]:
    """A schedule as a body has it."""
    names = (
        "name", "is_enabled", "days", "dimensions", "format", "language", "zone", "task_id", "group_id", "client_id",
        "recipients", "every", "weekday", "month_day", "hour",
    )  # fmt: skip
    return {name: getattr(schedule, name) for name in names}
