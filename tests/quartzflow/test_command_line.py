"""manage.py as a program among others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import services

ENV = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "QF_SECRET_KEY": "x" * 50}


def start(*arguments: str, stdout: int, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *arguments]
    env = {**ENV, "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **env}
    return subprocess.run(
        command, cwd=services.ROOT, env=env, stdout=stdout, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["version"],  # a line, which is written at the end
        ["sqlmigrate", "executions_app", "0001"],  # more than a pipe or a buffer holds
        ["executions", "archive", "--help"],
        ["no_such_command"],  # says so on stderr and ends with 1: nothing was printed
    ],
)
def test_whoever_reads_may_stop(arguments: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = start(*arguments, stdout=writing, QF_DATA_DIR=str(tmp_path))
    finally:
        os.close(writing)
    expected = 1 if arguments == ["no_such_command"] else 141
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_another_broken_pipe_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise BrokenPipeError('of another')\n")
    env = {"DJANGO_SETTINGS_MODULE": "broken", "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}"}
    done = start("check", stdout=subprocess.PIPE, **env)
    assert done.returncode == 1
    assert "of another" in done.stderr
