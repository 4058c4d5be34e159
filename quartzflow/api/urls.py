"""/api/v1/: every app's endpoints in one router."""

from django.urls import re_path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from executions_app.api.alerts import (
    AlertChannelViewSet,
    AlertRuleViewSet,
    AlertSilenceViewSet,
    AlertViewSet,
)
from executions_app.api.full_log import full_log
from executions_app.api.log_search import LogSearchView
from executions_app.api.replays import MissedFiringViewSet, ReplayViewSet
from executions_app.api.reports import ReportScheduleViewSet, ReportViewSet
from executions_app.api.runs import RunViewSet
from executions_app.api.views import ExecutionViewSet
from groups_app.api.hosts import ClientViewSet, EnrollmentTokenViewSet
from groups_app.api.rules import RuleViewSet
from groups_app.api.views import GroupViewSet
from quartzflow.errors import NotFound
from tasks_app.api.calendars import CalendarViewSet
from tasks_app.api.views import TaskViewSet

from .audit import AuditViewSet
from .observe import SchedulerView
from .routers import OptionalSlashRouter
from .secrets import SecretViewSet
from .settings import SettingsView
from .tokens import TokenViewSet

router = OptionalSlashRouter()
router.register("tasks", TaskViewSet, basename="task")
router.register("calendars", CalendarViewSet, basename="calendar")
router.register("groups", GroupViewSet, basename="group")
router.register("clients", ClientViewSet, basename="client")
router.register("enrollment-tokens", EnrollmentTokenViewSet, basename="enrollment-token")
router.register("assignment-rules", RuleViewSet, basename="assignment-rule")
router.register("replays", ReplayViewSet, basename="replay")
router.register("missed", MissedFiringViewSet, basename="missed")
router.register("alerts", AlertViewSet, basename="alert")
router.register("alert-rules", AlertRuleViewSet, basename="alert-rule")
router.register("alert-channels", AlertChannelViewSet, basename="alert-channel")
router.register("alert-silences", AlertSilenceViewSet, basename="alert-silence")
router.register("reports", ReportViewSet, basename="report")
router.register("report-schedules", ReportScheduleViewSet, basename="report-schedule")
router.register("runs", RunViewSet, basename="run")
router.register("audit", AuditViewSet, basename="audit")
router.register("tokens", TokenViewSet, basename="token")
router.register("secrets", SecretViewSet, basename="secret")
router.register("executions", ExecutionViewSet, basename="execution")


class UnknownPath(APIView):
    """Anything else under /api/v1/ answers 404 as JSON, to those who are signed in."""

    schema = None

    def _missing(self, request: Request, *args: object, **kwargs: object) -> Response:
        raise NotFound

    get = post = put = patch = delete = _missing


urlpatterns = [
    re_path(r"^executions/(?P<pk>[^/.]+)/logs/full/?$", full_log, name="execution-full-log"),
    re_path(r"^logs/search/?$", LogSearchView.as_view(), name="log-search"),
    re_path(r"^scheduler/?$", SchedulerView.as_view(), name="scheduler"),
    re_path(r"^settings/?$", SettingsView.as_view(), name="settings"),
    *router.urls,
    re_path(r"^.*$", UnknownPath.as_view()),
]
