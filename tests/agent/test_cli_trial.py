"""quicflow task run: a task on the terminal."""

import signal
import subprocess
import time

import pytest
from quartzflow_agent import policy as policy_module
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import executions, tasks
from quartzflow_agent.store.database import open_database, open_readonly

from tests.agent.records import PROGRAM
from tests.agent.support import START, task_config


@pytest.fixture(autouse=True)
def _no_system_policy(tmp_path, monkeypatch):
    monkeypatch.setattr(policy_module, "SYSTEM_POLICY", tmp_path / "none.toml")


@pytest.fixture
def cached(home):
    """A home with tasks."""
    found = [
        task_config("1", config={"command": "echo out $QF_PARAM_DAY; echo err >&2"}),
        task_config("2", config={"command": "echo why >&2; exit 3"}),
        task_config("3", config={"command": "echo begun; sleep 60"}),
        task_config("4", config={"plugin": "disk_check"}, executor_type=task_pb2.PLUGIN),
        task_config("5", config={"command": "sleep 60"}, timeout=1),
    ]
    db = open_database(home.store)
    tasks.apply(db, task_pb2.TaskConfigPush(tasks=found, version=3), START)
    db.close()
    return home


def trial(*arguments):
    done = subprocess.run([*PROGRAM, "task", "run", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_output_comes_to_the_terminal_and_nothing_is_recorded(cached):
    assert trial("1", "--param", "day=mon=1") == (0, "out mon=1\nerr\n", "Success, exit code 0\n")
    db = open_readonly(cached.store)
    assert executions.days(db) == []
    db.close()
    assert list(cached.logs.iterdir()) == []


def test_a_failure_is_one(cached):
    assert trial("2") == (1, "why\n", "Failed, exit code 3, exit_code\nwhy\n")


def test_a_task_that_takes_too_long(cached):
    code, _, err = trial("5")
    assert (code, err.startswith("Timed out, exit code 143, timeout")) == (1, True)


def test_ctrl_c_ends_it(cached):
    with subprocess.Popen([*PROGRAM, "task", "run", "3"], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert "Cancelled" in process.communicate()[1]
    assert process.returncode == 1
    assert time.monotonic() - started < 30


def test_plugins_and_the_policy(cached):
    assert trial("4")[0] in (0, 1)
    cached.policy.write_text("plugins = []")
    code, out, err = trial("4")
    assert (code, out) == (1, "")
    assert "rejected\nthis host's policy, plugins: 'disk_check' is not allowed" in err


def test_what_cannot_be_run(cached, quicflow):
    code, _, err = quicflow("task", "run", "99")
    assert (code, "quicflow task list" in err) == (1, True)
    code, _, err = quicflow("task", "run", "1", "--param", "day")
    assert (code, "NAME=VALUE" in err) == (1, True)
