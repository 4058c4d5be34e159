"""Makes a fresh clone ready: the virtual environment, the locked requirements, the system packages.

    python3 deploy/bootstrap.py run     what `make run` needs
    python3 deploy/bootstrap.py test    that, and what the tests, linters and benchmarks need

Needs nothing but Python 3.11 and its standard library. What is already there is left alone: a second run does
nothing and takes no time. Packages of the system are installed where apt is there and may be used (root, or
sudo without a password); where not, one message names them and the command, and what can go on goes on.
"""

from __future__ import annotations  # so that an older Python gets as far as saying that it is too old

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "quartzflow.json"  # what is installed: the digests of the files it was installed from
OLDEST = (3, 11)
LDCONFIG = Path("/sbin/ldconfig")
POSTGRES = Path("/usr/lib/postgresql")


class BootstrapError(Exception):
    """Something that only the user can put right; the message says what."""


def _library(name: str) -> bool:
    """Whether the dynamic linker knows the shared library."""
    if not LDCONFIG.exists():
        return True  # another kind of system: there is no telling, and nothing we could install
    listing = subprocess.run([LDCONFIG, "-p"], capture_output=True, text=True, check=False).stdout
    return name in listing


def _font() -> bool:
    return any(Path("/usr/share/fonts").rglob("wqy-*")) or any(Path("/usr/share/fonts").rglob("*CJK*"))


def _fixed(name: str) -> Callable[[], bool]:
    return lambda: _library(name)


def _command(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


@dataclass(frozen=True)
class Package:
    """One package of the system: how to see that it is there, and what is missing without it."""

    name: str
    present: Callable[[], bool]
    purpose: str


RUN_PACKAGES = (
    Package("libpango-1.0-0", _fixed("libpango-1.0.so.0"), "PDF reports"),
    Package("libpangoft2-1.0-0", _fixed("libpangoft2-1.0.so.0"), "PDF reports"),
    Package("libharfbuzz-subset0", _fixed("libharfbuzz-subset.so.0"), "PDF reports"),
    Package("fonts-wqy-microhei", _font, "Chinese text in PDF reports"),
)
TEST_PACKAGES = (
    Package("chromium", lambda: any(map(shutil.which, ("chromium", "chromium-browser"))), "browser tests"),
    Package("postgresql", lambda: any(POSTGRES.glob("*/bin/initdb")), "tests on PostgreSQL"),
    Package("gettext", _command("msgfmt"), "translations"),
)


def say(text: str) -> None:
    print(f"bootstrap: {text}", flush=True)


def main(argv: list[str]) -> int:
    """1. Python is new enough. 2. Virtual environment. 3. System packages. 4. Requirements. 5. The agent."""
    if argv not in (["run"], ["test"]):
        print(__doc__)
        return 2
    testing = argv == ["test"]
    try:
        if sys.version_info < OLDEST:
            raise BootstrapError(
                f"Python {sys.version.split()[0]} is too old, {OLDEST[0]}.{OLDEST[1]} or newer is needed"
                " (make PYTHON=/path/to/python3 … takes another one)"
            )
        make_venv()
        install_packages(RUN_PACKAGES + (TEST_PACKAGES if testing else ()))
        install_requirements("dev" if testing else "base")
        install_agent()
    except BootstrapError as error:
        say(str(error))
        return 1
    except subprocess.CalledProcessError as error:
        say(f"this command failed ({error.returncode}): {' '.join(map(str, error.cmd))}")
        return 1
    return 0


# --- Packages of the system ---


def install_packages(packages: tuple[Package, ...]) -> None:
    """Install what is missing, or say what would and go on: each package is needed by a part only.

    What apt could not install once is not tried again, so that a machine without network starts quickly."""
    missing = [package for package in packages if not package.present()]
    names = " ".join(package.name for package in missing)
    if not missing:
        return
    stamp = read_stamp()
    if stamp.get("apt failed") != names and apt_prefix() is not None:
        if apt_install(names.split()):
            return
        write_stamp({**stamp, "apt failed": names})
    purposes = ", ".join(dict.fromkeys(package.purpose for package in missing))
    say(f"missing for {purposes}; the rest works without. {install_hint(names)}")


def install_hint(names: str) -> str:
    if shutil.which("apt-get"):
        return f"To install: sudo apt-get install {names}"
    return f"Install what your system calls these Debian packages: {names}"


def apt_prefix() -> list[str] | None:
    """How apt-get may be called without asking anybody, or None."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and not subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode:
        return ["sudo", "-n"]
    return None


def apt_install(names: list[str]) -> bool:
    """Whether the packages are installed now. A failure of apt is told and not raised."""
    prefix = apt_prefix()
    if prefix is None:
        return False
    say(f"installing packages of the system: {' '.join(names)}")
    apt = [
        *prefix,
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-qq",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]
    # A fresh container has no package lists; elsewhere old ones may name versions that are gone.
    for step in (["update"], ["install", "--no-install-recommends", *names]):
        done = subprocess.run([*apt, *step], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    return done.returncode == 0


# --- Python ---


def make_venv() -> None:
    """Make .venv; make it anew where its Python is gone, too old, or it has no pip."""
    if venv_works():
        return
    if importlib.util.find_spec("ensurepip") is None:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        if not any(apt_install([name]) for name in (package, "python3-venv")):
            raise BootstrapError(f"Python cannot make virtual environments here. {install_hint(package)}")
    say("making the virtual environment .venv")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)


def venv_works() -> bool:
    if not PYTHON.exists():
        return False
    check = f"import sys, pip; sys.exit(sys.version_info < {OLDEST!r})"
    return subprocess.run([PYTHON, "-c", check], capture_output=True).returncode == 0


def read_stamp() -> dict[str, str]:
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return stamp


def write_stamp(stamp: dict[str, str]) -> None:
    temporary = STAMP.with_suffix(".new")
    temporary.write_text(json.dumps(stamp))
    temporary.replace(STAMP)


def digest(*paths: Path) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def pip(*arguments: str) -> None:
    subprocess.run(
        [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
    )


def install_requirements(name: str) -> None:
    """Install requirements/NAME.txt, unless it is. dev.txt holds all of base.txt, in the same versions."""
    stamp = read_stamp()
    wanted = digest(ROOT / "requirements" / f"{name}.txt")
    if stamp.get(name) == wanted:
        return
    say(f"installing requirements/{name}.txt (the first time this takes a minute or two)")
    pip("--require-hashes", "-r", f"requirements/{name}.txt")
    stamp[name] = wanted
    if name == "dev":
        stamp["base"] = digest(ROOT / "requirements" / "base.txt")
    write_stamp(stamp)


def install_agent() -> None:
    """Install ./agent in place, so that its source is what runs; again when its description has changed."""
    stamp = read_stamp()
    wanted = digest(ROOT / "agent" / "pyproject.toml", ROOT / "agent" / "quartzflow_agent" / "__init__.py")
    if stamp.get("agent") == wanted:
        return
    say("installing the agent (./agent)")
    # Its dependencies and its build backend are in requirements/base.txt, with hashes.
    pip("--no-deps", "--no-build-isolation", "-e", "./agent")
    write_stamp({**stamp, "agent": wanted})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
