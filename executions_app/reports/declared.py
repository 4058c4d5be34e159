"""The system settings of reports."""

from django.utils.translation import gettext_lazy as _lazy

from quartzflow.system_settings import Setting, register

KEPT_DAYS: Setting[int] = register(
    Setting(
        name="report_days",
        section="reports",
        kind=int,
        default=30,
        minimum=1,
        maximum=365,
        label=_lazy("Built reports"),
        unit=_lazy("days"),
        help=_lazy("Files of reports are removed after this time."),
    )
)
AT_ONCE: Setting[int] = register(
    Setting(
        name="reports_at_once",
        section="reports",
        kind=int,
        default=3,
        minimum=1,
        maximum=20,
        label=_lazy("Reports of one person at once"),
        help=_lazy("So many may wait or be built; another is refused until one of them is done."),
    )
)
