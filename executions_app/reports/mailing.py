"""Sending built reports: each by one worker, and again after failures."""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from quartzflow.audit import record

from . import words
from .choices import MEDIA_TYPES, Format, MailState, ReportState
from .figures import Figures
from .models import ReportMail
from .selectors import file_of, has_file

log = structlog.get_logger(__name__)

ATTEMPTS = 6
FIRST_WAIT = timedelta(seconds=30)  # before the second attempt; each one waits twice as long
IN_HAND = timedelta(seconds=120)  # a worker that has not finished by then has died with it
MOST_BYTES = 20 * 1024 * 1024  # of an attachment; more is refused by most servers
KEPT = timedelta(days=90)


def deliver(now: datetime | None = None) -> int:
    """Send what is built and due. Returns how many attempts there were."""
    now = now or timezone.now()
    _take_up(now)
    due = ReportMail.objects.filter(state=MailState.PENDING, next_at__lte=now).values_list("pk", "attempts")
    return sum(_attempt(pk, attempts, now) for pk, attempts in list(due))


def _take_up(now: datetime) -> None:
    """Mails whose report is over go on, one way or the other."""
    waiting = ReportMail.objects.filter(state=MailState.WAITING).exclude(
        report__state__in=[ReportState.WAITING, ReportState.BUILDING]
    )
    for mail in waiting.select_related("report", "schedule"):
        with override(mail.schedule.language):
            report = mail.report
            if report is not None and report.state == ReportState.DONE:
                changes = {"state": MailState.PENDING, "next_at": now}
            else:
                why = report.error if report is not None else _("The report was deleted.")
                changes = {"state": MailState.FAILED, "error": why or _("The report was cancelled.")}
        ReportMail.objects.filter(pk=mail.pk, state=MailState.WAITING).update(**changes)


def _attempt(pk: int, attempts: int, now: datetime) -> bool:
    """Claim the mail, send it, note how it ended; False: another worker was first."""
    ours = ReportMail.objects.filter(pk=pk, state=MailState.PENDING, attempts=attempts, next_at__lte=now)
    if not ours.update(attempts=F("attempts") + 1, next_at=now + IN_HAND):
        return False
    mail = ReportMail.objects.select_related("schedule__owner", "report").get(pk=pk)
    claimed = ReportMail.objects.filter(pk=pk, state=MailState.PENDING, attempts=attempts + 1)
    with override(mail.schedule.language), timezone.override(mail.schedule.zone):
        try:
            message = _message(mail)
        except _Hopeless as error:
            claimed.update(state=MailState.FAILED, error=str(error)[:300])
            log.warning("report not mailed", mail=pk, error=str(error))
            return True
        try:
            message.send()
        except OSError as error:  # SMTPException is one
            _failed(
                claimed,
                mail,
                _("The mail server did not take it: %(kind)s.") % {"kind": type(error).__name__},
                now,
            )
        else:
            with transaction.atomic():
                claimed.update(state=MailState.SENT, sent_at=timezone.now(), error="")
                record("system", "report_schedule.sent", mail.schedule, {"recipients": mail.recipients})
    return True


class _Hopeless(Exception):
    """Trying again would not help."""


def _message(mail: ReportMail) -> EmailMessage:
    report = mail.report
    if not settings.QF_MAIL:
        raise _Hopeless(_("No mail server is set up (QF_MAIL_URL)."))
    if report is None or not has_file(report):
        raise _Hopeless(_("The file is not there (any more). Build the report again."))
    if report.size > MOST_BYTES:
        raise _Hopeless(_("The file is too large for a mail; choose fewer parts or days."))
    figures = Figures.from_json(report.figures or {})
    title = " ".join(f"{mail.schedule.name} · {figures.period}".split())  # a header has one line
    message = EmailMessage(title, words.summary(figures), to=mail.recipients)
    message.attach(report.file_name, file_of(report).read_bytes(), MEDIA_TYPES[Format(report.format)])
    return message


def _failed(claimed: QuerySet[ReportMail], mail: ReportMail, why: str, now: datetime) -> None:
    last = mail.attempts >= ATTEMPTS
    claimed.update(
        error=why[:300],
        state=MailState.FAILED if last else MailState.PENDING,
        next_at=now + FIRST_WAIT * 2 ** (mail.attempts - 1),
    )
    log.warning("report not mailed", mail=mail.pk, error=why, last=last)


def forget_old(now: datetime | None = None) -> None:
    over = Q(state__in=[MailState.SENT, MailState.FAILED])
    ReportMail.objects.filter(over, due_at__lt=(now or timezone.now()) - KEPT).delete()
