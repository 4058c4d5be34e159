"""manage.py messages, run on a copy of the sources: it finds what is committed, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.quartzflow import catalogue
from tests.services import ROOT


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files of the repository, without tests and third parties' assets."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if not name.startswith(("tests/", "static/vendor/")) and (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_command_changes_nothing_that_is_up_to_date(copy: Path) -> None:
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "QF_SECRET_KEY": "x" * 50}
    command = [sys.executable, "manage.py", "messages", "--verbosity", "0"]
    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for path in (catalogue.SERVER / "django.po", catalogue.SERVER / "djangojs.po", catalogue.AGENT_CATALOGUE):
        made = copy / path.relative_to(ROOT)
        texts = lambda entries: {entry.msgid: entry.strings for entry in entries[1:]}  # noqa: E731
        assert texts(catalogue.entries(made)) == texts(catalogue.entries(path)), "run `make messages`"
        assert (
            catalogue.compiled(made.with_suffix(".mo")).keys()
            == catalogue.compiled(path.with_suffix(".mo")).keys()
        )
