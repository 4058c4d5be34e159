"""The whole product by one command: it starts, survives the death of each process, stops, and starts again."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import services
from tests.services import ROOT, SUCCESS, Stack, executions, shell_task, wait_until

SECOND = timedelta(seconds=1)
EVERY_SECOND = "* * * * * *"


def run_command(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *(arguments or ("run",))]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def test_a_wrong_value_is_one_line_that_names_the_variable(tmp_path: Path) -> None:
    done = run_command(services.stack_environment(tmp_path / "data", QF_HTTP_PORT="http"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "quartzflow: QF_HTTP_PORT must be a port number from 1 to 65535\n"
    assert not (tmp_path / "data").exists()


def test_a_task_runs_on_time_and_its_output_is_kept(stack: Stack) -> None:
    with stack.api() as api:
        task = shell_task(api, "on time", EVERY_SECOND, "echo hello; hostname; echo $QF_EXECUTION_ID")
        ended = lambda: [row for row in executions(api, task) if row["status"] == SUCCESS]  # noqa: E731
        wait_until(lambda: len(ended()) >= 5, 20, "five executions")
        api.post(f"/tasks/{task}/disable")
        late = sorted(
            datetime.fromisoformat(row["start_time"]) - datetime.fromisoformat(row["scheduled_time"])
            for row in ended()
        )
        # Other tests run at the same time: one firing may suffer, most may not.
        assert late[0] >= timedelta(0)
        assert late[len(late) // 2] < timedelta(milliseconds=200), late
        row = ended()[-1]
        output = api.get(f"/executions/{row['id']}/logs").json()["data"]["output"]
        assert output.splitlines() == ["hello", os.uname().nodename, row["execution_id"]]


def test_the_same_data_directory_is_not_run_twice(stack: Stack) -> None:
    done = run_command(stack.env)
    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: QF_DATA_DIR is in use by another `manage.py run` (process ")
    assert len(done.stderr.splitlines()) == 1
    assert stack.ready()


def test_a_port_in_use_is_one_line_that_names_the_variable(stack: Stack, tmp_path: Path) -> None:
    port = stack.env["QF_HTTP_PORT"]
    done = run_command({**stack.env, "QF_DATA_DIR": str(tmp_path / "data")})
    assert done.stderr == f"CommandError: QF_HTTP_PORT {port} is in use on 127.0.0.1; choose another\n"


def test_the_tasks_environment_holds_no_secret_of_the_server(tmp_path: Path) -> None:
    """And a second start keeps everything and is quick: ten seconds on a machine with nothing else to do."""
    secret = "sesame-" * 8
    given = {"QF_SECRET_KEY": secret, "QF_ADMIN_PASSWORD": "correct horse battery"}
    with services.running_stack(tmp_path, **given) as stack, stack.api() as api:
        task = shell_task(api, "environment", EVERY_SECOND, "env")
        done = lambda: [row for row in executions(api, task) if row["status"] == SUCCESS]  # noqa: E731
        wait_until(done, 20, "an execution")
        output = api.get(f"/executions/{done()[0]['id']}/logs").json()["data"]["output"]
        assert "QF_EXECUTION_ID=" in output
        assert "sesame" not in output
        assert "correct horse battery" not in output + stack.log.read_text()
        api.post(f"/tasks/{task}/disable")
        before = len(done())
    started = time.monotonic()
    with services.running_stack(tmp_path, **given) as stack:
        assert time.monotonic() - started < 25
        with stack.api() as api:
            assert len(done_again := executions(api, task)) >= before, done_again
        wait_until(lambda: "agent" in stack.programs(), 10, "the agent")


def _gaps(rows: list[dict[str, Any]]) -> list[str]:
    """The seconds between the first and the last of these executions that have none."""
    times = {datetime.fromisoformat(row["scheduled_time"]) for row in rows}
    first, last = min(times), max(times)
    expected = {first + n * SECOND for n in range((last - first) // SECOND + 1)}
    return sorted(moment.isoformat() for moment in expected - times)


@pytest.mark.timeout(240)
def test_no_firing_is_lost_or_doubled_when_processes_are_killed(stack: Stack) -> None:
    with stack.api() as api:
        task = shell_task(api, "steady", EVERY_SECOND, "true")
        wait_until(lambda: executions(api, task), 20, "the first execution")
        for name in ("bridge", "worker", "beat", "daphne", "agent", "redis"):
            wait_until(lambda name=name: name in stack.programs(), 20, name)
            victim = stack.programs()[name]
            victim.send_signal(signal.SIGKILL)
            wait_until(
                lambda name=name, pid=victim.pid: getattr(stack.programs().get(name), "pid", pid) != pid,
                30,
                f"{name} again",
            )
            wait_until(stack.ready, 30, f"all parts after {name}")
            time.sleep(3)
            assert f"{name} ended unexpectedly" in stack.log.read_text()
        # What a worker had taken when it was killed comes again to another.
        wait_until(lambda: not _gaps(executions(api, task)), 60, "a firing for every second")
        wait_until(lambda: api.post(f"/tasks/{task}/disable").status_code == 200, 10, "the end")
        settled = lambda: all(row["status"] > 2 for row in executions(api, task))  # noqa: E731
        wait_until(settled, 60, "an end of every execution")
        rows = executions(api, task)
    assert len({row["execution_id"] for row in rows}) == len(rows)
    ran = [row for row in rows if row["status"] == SUCCESS]
    assert len({row["scheduled_time"] for row in ran}) == len(ran)
    assert _gaps(ran) == [], json.dumps([row for row in rows if row["status"] != SUCCESS], indent=1)
