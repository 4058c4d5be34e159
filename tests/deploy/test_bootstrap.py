"""The bootstrap of a fresh clone, with a fake system around it."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.services import ROOT

MISSING = "a-library"


class System:
    """What the machine has, and the commands that were run on it."""

    def __init__(self) -> None:
        self.programs = {"apt-get"}
        self.uid = 0
        self.failing: set[str] = set()  # words that make a command fail
        self.commands: list[list[str]] = []

    def run(self, command: list[Any], check: bool = False, **options: Any) -> subprocess.CompletedProcess:
        words = list(map(str, command))
        self.commands.append(words)
        code = int(not self.failing.isdisjoint(words))
        if check and code:
            raise subprocess.CalledProcessError(code, words)
        return subprocess.CompletedProcess(words, code, stdout="")

    def ran(self, *words: str) -> list[list[str]]:
        return [command for command in self.commands if set(words) <= set(command)]


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: System) -> ModuleType:
    """The script, on a copy of the files that it reads."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "deploy" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "bootstrap", module)
    spec.loader.exec_module(module)
    for name in ("requirements/base.txt", "requirements/dev.txt", "agent/pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "agent" / "quartzflow_agent").mkdir()
    (tmp_path / "agent" / "quartzflow_agent" / "__init__.py").touch()
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").touch()
    for name, value in {"ROOT": tmp_path, "VENV": venv, "PYTHON": venv / "bin" / "python"}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "STAMP", venv / "quartzflow.json")
    monkeypatch.setattr(module, "RUN_PACKAGES", ())
    monkeypatch.setattr(module, "TEST_PACKAGES", ())
    monkeypatch.setattr(module.subprocess, "run", system.run)
    monkeypatch.setattr(module.shutil, "which", lambda name: name if name in system.programs else None)
    monkeypatch.setattr(module.os, "geteuid", lambda: system.uid)
    return module


def test_the_first_time_installs_with_hashes_and_the_second_does_nothing(
    bootstrap: ModuleType, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(["run"]) == 0
    assert len(system.ran("--require-hashes", "requirements/base.txt")) == 1
    assert len(system.ran("--no-deps", "--no-build-isolation", "./agent")) == 1
    assert "installing" in capsys.readouterr().out
    system.commands.clear()
    assert bootstrap.main(["run"]) == 0
    assert system.ran("pip") == []
    assert capsys.readouterr().out == ""


def test_what_tests_need_holds_what_a_run_needs(bootstrap: ModuleType, system: System) -> None:
    assert bootstrap.main(["test"]) == 0
    assert len(system.ran("--require-hashes", "requirements/dev.txt")) == 1
    assert bootstrap.main(["run"]) == 0
    assert system.ran("requirements/base.txt") == []


def test_a_changed_lock_is_installed(bootstrap: ModuleType, system: System, tmp_path: Path) -> None:
    bootstrap.main(["run"])
    (tmp_path / "requirements" / "base.txt").write_text("other")
    bootstrap.main(["run"])
    assert len(system.ran("requirements/base.txt")) == 2
    assert len(system.ran("./agent")) == 1


def test_an_installation_that_failed_is_told_and_tried_again(
    bootstrap: ModuleType, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    system.failing = {"requirements/base.txt"}
    assert bootstrap.main(["run"]) == 1
    assert "this command failed (1)" in capsys.readouterr().out
    system.failing = set()
    assert bootstrap.main(["run"]) == 0
    assert len(system.ran("requirements/base.txt")) == 2


def test_an_old_python_is_told_how_to_name_another(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "OLDEST", (9, 9))
    assert bootstrap.main(["run"]) == 1
    assert "9.9 or newer is needed (make PYTHON=" in capsys.readouterr().out


def test_a_broken_environment_is_made_anew(bootstrap: ModuleType, system: System) -> None:
    bootstrap.PYTHON.unlink()
    assert bootstrap.main(["run"]) == 0
    assert len(system.ran("venv", "--clear")) == 1


@pytest.mark.parametrize("works", [True, False])
def test_a_python_without_venv_gets_the_package(
    bootstrap: ModuleType,
    system: System,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    works: bool,
) -> None:
    bootstrap.PYTHON.unlink()
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)
    system.failing = set() if works else {"install"}
    assert bootstrap.main(["run"]) == (0 if works else 1)
    name = f"python3.{bootstrap.sys.version_info[1]}-venv"
    assert system.ran("apt-get", "install", name)
    assert (f"sudo apt-get install {name}" in capsys.readouterr().out) is not works


@pytest.mark.parametrize(
    ("uid", "programs", "failing", "prefix"),
    [
        (0, {"apt-get"}, set(), []),
        (1000, {"apt-get", "sudo"}, set(), ["sudo", "-n"]),
        (1000, {"apt-get", "sudo"}, {"sudo"}, None),
        (1000, {"apt-get"}, set(), None),
        (0, {"dnf"}, set(), None),
    ],
)
def test_apt_is_called_only_where_nobody_must_be_asked(
    bootstrap: ModuleType,
    system: System,
    uid: int,
    programs: set[str],
    failing: set[str],
    prefix: list[str] | None,
) -> None:
    system.uid, system.programs, system.failing = uid, programs, failing
    assert bootstrap.apt_prefix() == prefix


def packages(bootstrap: ModuleType) -> None:
    bootstrap.install_packages((bootstrap.Package(MISSING, lambda: False, "reports"),))


def test_a_missing_package_is_installed_without_questions(bootstrap: ModuleType, system: System) -> None:
    packages(bootstrap)
    (install,) = system.ran("apt-get", "install", MISSING)
    assert {"DEBIAN_FRONTEND=noninteractive", "--no-install-recommends"} <= set(install)


def test_what_is_there_is_not_installed(bootstrap: ModuleType, system: System) -> None:
    bootstrap.install_packages((bootstrap.Package(MISSING, lambda: True, "reports"),))
    assert system.commands == []


def test_what_apt_cannot_install_is_named_and_not_tried_again(
    bootstrap: ModuleType, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    system.failing = {"install"}
    packages(bootstrap)
    packages(bootstrap)
    assert len(system.ran("apt-get", "install")) == 1
    said = capsys.readouterr().out.splitlines()[-1]
    assert (
        said
        == f"bootstrap: missing for reports; the rest works without. To install: sudo apt-get install {MISSING}"
    )


def test_without_apt_the_debian_names_are_told(
    bootstrap: ModuleType, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    system.programs = set()
    packages(bootstrap)
    assert f"what your system calls these Debian packages: {MISSING}" in capsys.readouterr().out
    assert system.commands == []


def test_anything_else_shows_how_it_is_used(
    bootstrap: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main([]) == 2
    assert "deploy/bootstrap.py run" in capsys.readouterr().out
