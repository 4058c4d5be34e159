"""What must hold before anything starts: the data directory is ours alone, ports are free, Redis answers."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from quartzflow.env import Env, EnvError


@contextmanager
def data_dir_lock(data_dir: Path) -> Iterator[None]:
    """Hold the data directory, so that it is run once. Raises EnvError where another process holds it."""
    path = data_dir / "run.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise EnvError(
                f"QF_DATA_DIR is in use by another `manage.py run` (process {file.read().strip()}): {data_dir}; name"
                " another directory for a second installation"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def check_ports(env: Env) -> None:
    """Raise EnvError, naming the variable, for an address or port that cannot be listened on."""
    _check_port("QF_HTTP", env.http_host, env.http_port, socket.SOCK_STREAM)
    _check_port("QF_QUIC", env.quic_host, env.quic_port, socket.SOCK_DGRAM)


def _check_port(prefix: str, host: str, port: int, kind: socket.SocketKind) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise EnvError(f"{prefix}_HOST {host}: {error.strerror}") from None
    family, _, _, _, address = found[0]
    with socket.socket(family, kind) as sock:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError as error:
            reason = {
                errno.EADDRINUSE: f"{prefix}_PORT {port} is in use on {host}; choose another",
                errno.EACCES: f"{prefix}_PORT {port} may not be used by this user; choose one from 1024 on",
                errno.EADDRNOTAVAIL: f"{prefix}_HOST {host} is no address of this machine",
            }.get(error.errno or 0, f"{prefix}_HOST {host}, {prefix}_PORT {port}: {error.strerror}")
            raise EnvError(reason) from None


def check_redis(env: Env) -> None:
    """Raise EnvError where REDIS_URL names a Redis that does not answer; make the directory of our own one's socket."""
    if env.redis_socket is not None:
        _make_socket_directory(env.redis_socket.parent, env.data_dir)
        return
    try:
        with redis.Redis.from_url(env.redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise EnvError(f"REDIS_URL cannot be used: {error}") from None


def _make_socket_directory(path: Path, data_dir: Path) -> None:
    if path == data_dir:
        return
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    # In a directory that everybody may write to, somebody else may have been there first.
    if status.st_uid != os.getuid() or path.is_symlink() or status.st_mode & 0o077:
        raise EnvError(f"QF_DATA_DIR has too long a path for sockets, and {path} belongs to somebody else")
