import itertools
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from executions_app.models import Execution
from executions_app.reports.choices import Dimension
from executions_app.reports.models import Report
from executions_app.reports.periods import Period
from quartzflow.execution_status import ExecutionStatus
from tests import people

_numbers = itertools.count(1)
ZONE = "Asia/Shanghai"


@pytest.fixture(autouse=True)
def _own_directory(settings, tmp_path: Path) -> None:
    """Files of reports go where nothing else is."""
    settings.QF_DATA_DIR = tmp_path


@pytest.fixture(autouse=True)
def _no_kicks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are not asked: the tests do what they would."""
    monkeypatch.setattr("executions_app.reports.actions.kick", lambda: None)


def ended(
    status: ExecutionStatus,
    at: datetime,
    *,
    task=None,
    host: str = "web-1",
    duration: int | None = 1000,
    **fields,
) -> Execution:
    """An execution as it is when all is over; of a task that is gone without saying otherwise."""
    number = next(_numbers)
    return Execution.objects.create(
        execution_id=f"exec_{number}",
        run_id=f"run_{number}",
        task_id=task.pk if task else 999,
        task_name=task.name if task else "gone",
        client_id=host,
        status=status,
        scheduled_time=at,
        start_time=at,
        duration=duration,
        **fields,
    )


def ok(at: datetime, **fields) -> Execution:
    return ended(ExecutionStatus.SUCCESS, at, **fields)


def bad(at: datetime, reason: str = "exit_code", **fields) -> Execution:
    return ended(ExecutionStatus.FAILURE, at, failure_reason=reason, **fields)


def report(owner: User | None = None, **fields) -> Report:
    """One that was asked for, of the days 1 to 3 March 2026."""
    usual = {
        "days": "custom", "first": DAYS.first, "last": DAYS.last, "zone": ZONE, "language": "zh-hans",
        "dimensions": list(Dimension.values), "format": "xlsx",
    }  # fmt: skip
    return Report.objects.create(owner=owner or people.admin(), **{**usual, **fields})


DAYS = Period(people.at(2026, 3, 1).date(), people.at(2026, 3, 3).date(), ZONE)
NOON = people.at(2026, 3, 2, 4)  # in Shanghai
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
