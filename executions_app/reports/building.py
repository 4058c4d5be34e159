"""Building reports: each by one worker at a time, and by another one when that has died.

A worker claims a report by a conditional update, and renews its lease at every step. Whatever it writes is tied to its
attempt: one that was cancelled, or taken over, changes nothing any more. So the message that asks for it may come
twice, and a report that takes longer than the broker waits is not built twice.
"""

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from django.db import DatabaseError
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from quartzflow.permissions import User

from . import excel, pdf
from .choices import OPEN, Format, ReportState
from .declared import KEPT_DAYS
from .figures import Figures, count
from .models import Report
from .selectors import chosen_of, directory, file_of, period_of_report

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=60)  # from one step to the next; the longest is drawing a PDF: some seconds
ATTEMPTS = 3
SYSTEM_WIDE = 2  # reports that are built at once: dispatch shares the workers
COUNTED = 80  # percent of the way when all days are counted
STEP = 0.5  # seconds between two writes of the progress
KEPT_ROWS = 200  # of a kind, for the page of the report
WRITERS: dict[str, Callable[[Figures, Report, Path], None]] = {
    Format.XLSX: excel.write,
    Format.PDF: pdf.write,
}


class Stopped(Exception):
    """It was cancelled, or another worker has it."""


def build_waiting() -> int:
    """Build what waits, and what a dead worker left. Returns how many were built."""
    built = 0
    while (report := claim()) is not None:
        built += build(report)
    return built


def claim(now: datetime | None = None) -> Report | None:
    """The oldest report that nobody builds; None: there is none, or enough are being built."""
    now = now or timezone.now()
    if Report.objects.filter(state=ReportState.BUILDING, lease__gt=now).count() >= SYSTEM_WIDE:
        return None
    left = Q(state=ReportState.WAITING) | Q(state=ReportState.BUILDING, lease__lte=now)
    # state__in says it again: the index of open reports is found by it.
    oldest = Report.objects.filter(left, state__in=OPEN).order_by("pk")
    for pk, attempts, language in oldest.values_list("pk", "attempts", "language")[:10]:
        ours = Report.objects.filter(left, pk=pk, attempts=attempts)
        if attempts >= ATTEMPTS:
            with override(language):
                words = _("The workers that built it have died. Try again.")
            ours.update(state=ReportState.FAILED, done_at=now, lease=None, error=words)
            log.error("report given up", report=pk, attempts=attempts)
            continue
        taken = {"state": ReportState.BUILDING, "attempts": F("attempts") + 1, "lease": now + LEASE}
        if ours.update(**taken, percent=0, error=""):
            if attempts:
                log.warning("report taken over", report=pk, attempt=attempts + 1)
            return Report.objects.select_related("owner").get(pk=pk)
    return None


def build(report: Report) -> bool:
    """Build a report that was claimed. False: it was stopped, or failed; why is in its row."""
    began = time.monotonic()
    with override(report.language), timezone.override(report.zone):
        try:
            _build(report)
        except Stopped:
            file_of(report).unlink(missing_ok=True)
            log.info("report stopped", report=report.pk, attempt=report.attempts)
            return False
        except Exception as error:
            # Whatever it was: its owner is to know that it is over, and the log why.
            log.exception("report failed", report=report.pk, attempt=report.attempts)
            file_of(report).unlink(missing_ok=True)
            _ours(report).update(
                state=ReportState.FAILED, done_at=timezone.now(), lease=None, error=_words(error)
            )
            return False
    log.info("report built", report=report.pk, seconds=round(time.monotonic() - began, 1), size=report.size)
    return True


def _build(report: Report) -> None:
    """1. Count, day by day. 2. Write the file under a name of the attempt's own. 3. Say that it is done."""
    owner = User.objects.get(pk=report.owner_id)
    sees_all = owner.has_perm("executions_app.view_execution")
    figures = count(owner, period_of_report(report), chosen_of(report), Progress(report))
    step(report, COUNTED)
    path = file_of(report)
    directory().mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.touch(
        mode=0o600
    )  # readable for the server's account alone, whatever its umask and the directory's mode are
    try:
        WRITERS[report.format](figures, report, fresh)
        report.size = fresh.stat().st_size
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    done = _ours(report).update(
        state=ReportState.DONE,
        percent=100,
        done_at=timezone.now(),
        lease=None,
        size=report.size,
        figures=figures.to_json(KEPT_ROWS),
        seen=None if sees_all else sorted({int(row.key) for row in figures.tasks}),
    )
    if not done:
        raise Stopped


class Progress:
    """Renews the lease while days are counted, a few times a second at most."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last = float("-inf")

    def __call__(self, part: float) -> None:
        if time.monotonic() - self._last >= STEP:
            step(self._report, round(COUNTED * part))
            self._last = time.monotonic()


def step(report: Report, percent: int) -> None:
    """Note the progress and renew the lease. Raises Stopped when the report is not this attempt's any more."""
    if not _ours(report).update(percent=percent, lease=timezone.now() + LEASE):
        raise Stopped


def _ours(report: Report) -> QuerySet[Report]:
    return Report.objects.filter(pk=report.pk, state=ReportState.BUILDING, attempts=report.attempts)


def _words(error: Exception) -> str:
    """Why, for the owner; without what a traceback would tell."""
    if isinstance(error, pdf.Unavailable):
        return str(error)
    if isinstance(error, DatabaseError):
        return _("The database did not answer. Try again.")
    if isinstance(error, OSError):
        return _("The file could not be written: %(why)s.") % {"why": error.strerror or type(error).__name__}
    return _("Something went wrong; the server's log says what.")


def forget_old(now: datetime | None = None) -> int:
    """Drop reports that have been kept for long enough, and files that no report has. Returns how many files went."""
    now = now or timezone.now()
    Report.objects.filter(created_at__lt=now - timedelta(days=KEPT_DAYS.value)).exclude(
        state__in=OPEN
    ).delete()
    if not directory().is_dir():
        return 0
    known = {file_of(report).name for report in Report.objects.only("pk", "attempts", "format")}
    hour_ago = (now - timedelta(hours=1)).timestamp()
    gone = 0
    for path in directory().iterdir():
        # One that is an hour old and unknown was left by a worker that died, or by an account that is gone.
        if path.is_file() and path.name not in known and path.stat().st_mtime < hour_ago:
            path.unlink(missing_ok=True)
            gone += 1
    return gone
