"""All reads of reports that pages and API share."""

from pathlib import Path

from django.conf import settings
from django.db.models import QuerySet

from quartzflow.permissions import User, visible
from tasks_app.models import Task

from .choices import ReportState
from .figures import Chosen
from .models import Asked, Report, ReportMail, ReportSchedule
from .periods import Period


def may_have_figures(user: User) -> bool:
    """Whether there can be executions that the user may see."""
    return user.has_perm("executions_app.view_execution") or visible(user, Task.objects.all()).exists()


def reports_for(user: User) -> QuerySet[Report]:
    """One's own; a superuser sees everybody's."""
    if not user.is_active:
        return Report.objects.none()
    return Report.objects.all() if user.is_superuser else Report.objects.filter(owner=user)


def may_download(user: User, report: Report) -> bool:
    """Whether what is in it is still for the user to see. Tasks that are gone hide nothing."""
    if report.seen is None:
        return user.has_perm("executions_app.view_execution")
    if user.has_perm("executions_app.view_execution"):
        return True
    there = Task.objects.filter(pk__in=report.seen)
    return not there.exclude(pk__in=visible(user, Task.objects.all()).values("pk")).exists()


def file_of(report: Report) -> Path:
    """Where it lies; every attempt has its own."""
    return directory() / f"{report.pk}-{report.attempts}.{report.format}"


def directory() -> Path:
    return Path(settings.QF_DATA_DIR) / "reports"


def has_file(report: Report) -> bool:
    return report.state == ReportState.DONE and file_of(report).is_file()


def period_of_report(report: Report) -> Period:
    return Period(report.first, report.last, report.zone)


def chosen_of(asked: Asked) -> Chosen:
    return Chosen(asked.task_id, asked.group_id, asked.client_id)


def schedules_for(user: User) -> QuerySet[ReportSchedule]:
    return visible(user, ReportSchedule.objects.all())


def mails_of(schedule: ReportSchedule) -> QuerySet[ReportMail]:
    return schedule.mails.select_related("report")
