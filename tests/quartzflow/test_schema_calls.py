"""The API called by its own description: whatever is sent, it answers as described and never breaks."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from knox.models import AuthToken

from executions_app.control import do_trigger_task
from groups_app.actions import do_create_enrollment_token
from quartzflow import system_settings
from tasks_app.actions import do_update_task
from tasks_app.calendars import do_save_calendar
from tests import people

CONFIG = Path(__file__).with_name("schemathesis.toml")
SECONDS = 60


@pytest.fixture
def token(transactional_db: None) -> str:
    """Somebody who may do everything, in a world with one of each."""
    system_settings.do_change_settings(people.admin(), {"api_rate": 0})
    people.online_client()
    calendar = do_save_calendar(people.admin(), {"name": "busy", "rules": {"dates": ["2026-01-01"]}})
    task = people.task(calendar_id=calendar.pk)
    do_update_task(people.admin(), task, {"timeout": 20})
    do_trigger_task(people.admin(), task)
    do_create_enrollment_token(people.admin(), people.group())
    return AuthToken.objects.create(user=people.admin())[1]


@pytest.mark.timeout(SECONDS * 4)
def test_every_operation_answers_as_described(token: str, live_server: Any, tmp_path: Path) -> None:
    command = [
        Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG, "--no-color",
        "run", f"{live_server.url}/api/schema/",
        "--header", f"Authorization: Token {token}",
        "--seed", "1", "--generation-deterministic", "--max-examples", "8",
        "--max-time", str(SECONDS), "--continue-on-failure", "--warnings", "off", "--output-truncate", "true",
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stdout[-200_000:] + ran.stderr[-5_000:]
