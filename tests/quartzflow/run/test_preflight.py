"""What must hold before anything starts."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from quartzflow import env
from quartzflow.run import preflight


def loaded(**values: str) -> env.Env:
    return env.load(values)


def test_a_data_directory_is_run_once(tmp_path: Path) -> None:
    with preflight.data_dir_lock(tmp_path):
        second = preflight.data_dir_lock(tmp_path)
        with pytest.raises(env.EnvError, match=rf"^QF_DATA_DIR .*process {os.getpid()}\)"):
            second.__enter__()
    with preflight.data_dir_lock(tmp_path):
        pass


def test_the_lock_does_not_outlive_its_process(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from quartzflow.run import preflight;"
        f"preflight.data_dir_lock(Path({str(tmp_path)!r})).__enter__(); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=env.ROOT, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 9
    with preflight.data_dir_lock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("kind", "name"), [(socket.SOCK_STREAM, "QF_HTTP_PORT"), (socket.SOCK_DGRAM, "QF_QUIC_PORT")]
)
def test_a_port_in_use_is_named(kind: socket.SocketKind, name: str) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            sock.listen()
        with pytest.raises(env.EnvError) as caught:
            preflight.check_ports(loaded(**{name: str(port)}))
    assert str(caught.value) == f"{name} {port} is in use on 127.0.0.1; choose another"


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(env.EnvError, match=r"^QF_QUIC_HOST 192\.0\.2\.1 is no address of this machine"):
        preflight.check_ports(loaded(QF_QUIC_HOST="192.0.2.1", QF_HTTP_PORT="18999", QF_QUIC_PORT="18999"))


def test_a_redis_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(env.EnvError, match=r"^REDIS_URL "):
        preflight.check_redis(loaded(REDIS_URL=f"unix://{tmp_path}/nobody.sock"))


def test_a_redis_that_answers_is_fine(redis_url: str) -> None:
    preflight.check_redis(loaded(REDIS_URL=redis_url))


def test_a_socket_in_the_temporary_directory_gets_a_directory_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env.tempfile, "gettempdir", lambda: str(tmp_path))
    long = loaded(QF_DATA_DIR=str(tmp_path / ("d" * 120)))
    assert long.redis_socket is not None
    preflight.check_redis(long)
    preflight.check_redis(long)
    assert long.redis_socket.parent.stat().st_mode & 0o777 == 0o700
    long.redis_socket.parent.chmod(0o755)
    with pytest.raises(env.EnvError, match="belongs to somebody else"):
        preflight.check_redis(long)
