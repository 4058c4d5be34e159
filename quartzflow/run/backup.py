"""Backups: database, keys, certificates and files of an installation in one encrypted file.

The file is a tar of `manifest.json`, `identity.age` and `data.tar.age`. The data is encrypted to a key made for this
backup alone, and that key with the passphrase: both in the format of age (age-encryption.org), so that its own program
opens a backup where this one is not at hand:

    tar xf FILE && age -d identity.age > key && age -d -i key data.tar.age | tar x
"""

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pyrage
from django.conf import settings
from django.db import connection
from django.utils import timezone
from quartzflow_agent.files import write_atomic

from groups_app.selectors import live_bridges
from quartzflow.secrets import KEY_FILE, key_file

from . import dumps

FORMAT = 1
MIN_PASSPHRASE = 12  # characters
DIRECTORIES = ("pki", "media")


class BackupError(Exception):
    """It cannot be done; the message is one line for the operator."""


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself without its passphrase."""

    format: int
    created_at: str  # ISO 8601
    database: str  # sqlite | postgresql
    files: int  # beside the database


def do_backup(path: Path, passphrase: str) -> Manifest:
    """Write a backup while everything runs. Raises BackupError; what there is at `path` then stays as it is.

    1. Copy the database, as it is at one moment, into a private directory.
    2. Encrypt the copy, the keys and the files in one stream.
    3. Put the result in its place, readable for its owner alone.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise BackupError(f"the passphrase must have {MIN_PASSPHRASE} characters or more")
    data_dir: Path = settings.QF_DATA_DIR
    path = path.absolute()
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".backup-", dir=data_dir) as private,
            tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside,
        ):
            database = dumps.dump(Path(private))
            members = [(database.name, database), *_files(data_dir)]
            keys = _keys()
            manifest = Manifest(
                FORMAT,
                timezone.now().isoformat(timespec="seconds"),
                connection.vendor,
                len(members) - 1 + len(keys),
            )
            identity = pyrage.x25519.Identity.generate()
            data = Path(beside, "data.tar.age")
            _encrypt(members, keys, identity.to_public(), data)
            whole = Path(beside, "whole")
            with tarfile.open(whole, "w") as tar:
                _add(tar, "manifest.json", json.dumps(asdict(manifest)).encode())
                _add(tar, "identity.age", pyrage.passphrase.encrypt(str(identity).encode(), passphrase))
                tar.add(data, "data.tar.age")
            with whole.open("rb") as file:
                os.fsync(file.fileno())
            whole.chmod(0o600)
            whole.replace(path)
    except (dumps.DumpError, OSError) as error:
        raise BackupError(str(error)) from error
    return manifest


def do_restore(path: Path, passphrase: str, *, force: bool = False, say: Callable[[str], None]) -> Manifest:
    """Put an installation back. Nothing of it may run. Raises BackupError; nothing is changed then.

    1. Refuse what is no backup for this kind of database, and a target that holds something, unless `force`.
    2. Decrypt and check all of it before anything is touched.
    3. Replace the database, in one step; then keys, certificates and files.
    """
    data_dir: Path = settings.QF_DATA_DIR
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=".restore-", dir=data_dir) as private,
            tarfile.open(path) as outer,
        ):
            manifest = _manifest(outer)
            if not dumps.is_empty():
                if not force:
                    raise BackupError("the database is not empty: --force replaces it")
                if "tb_bridge" in connection.introspection.table_names() and live_bridges():
                    raise BackupError("something of this installation runs: stop it on all machines")
            staged = Path(private, "data")
            staged.mkdir()
            _decrypt(_member(outer, "data.tar.age"), _identity(outer, passphrase), staged)
            database = staged / dumps.NAMES[manifest.database]
            dumps.check(database)
            if before := dumps.load(database, timezone.now()):
                say(f"the database before is {before}")
            _put_files(staged, data_dir)
    except tarfile.TarError as error:
        raise BackupError(f"{path} is no backup of Quartz-Flow: {error}") from error
    except (dumps.DumpError, OSError) as error:
        raise BackupError(str(error)) from error
    return manifest


# --- What is in it ---


def _files(data_dir: Path) -> Iterator[tuple[str, Path]]:
    for name in DIRECTORIES:
        for found in sorted(Path(data_dir, name).rglob("*")):
            if found.is_file() and not found.is_symlink():
                yield str(found.relative_to(data_dir)), found


def _keys() -> dict[str, bytes]:
    """The keys in use, wherever they come from: without them sessions end and stored secrets cannot be read."""
    keys = {"secret_key": f"{settings.SECRET_KEY}\n".encode()}
    if settings.ENV.secrets_keys:
        keys[KEY_FILE] = "".join(f"{key}\n" for key in settings.ENV.secrets_keys).encode()
    elif key_file().exists():
        keys[KEY_FILE] = key_file().read_bytes()
    return keys


def _put_files(staged: Path, data_dir: Path) -> None:
    for found in sorted(staged.rglob("*")):
        if found.is_file():
            target = data_dir / found.relative_to(staged)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(target, found.read_bytes())


# --- The format ---


def _encrypt(members: Any, keys: dict[str, bytes], recipient: Any, target: Path) -> None:
    """A tar of these, encrypted as it is made: nothing of it lies around in the clear."""
    reading, writing = os.pipe()

    def pack() -> None:
        with os.fdopen(writing, "wb") as pipe, tarfile.open(fileobj=pipe, mode="w|") as tar:
            for name, content in keys.items():
                _add(tar, name, content)
            for name, path in members:
                tar.add(path, name, recursive=False)

    with ThreadPoolExecutor(1) as pool, os.fdopen(reading, "rb") as pipe, target.open("wb") as out:
        packing = pool.submit(pack)
        pyrage.encrypt_io(pipe, out, [recipient])
        packing.result()


def _decrypt(source: IO[bytes], identity: Any, directory: Path) -> None:
    """Raises BackupError for what was changed or cut off."""
    reading, writing = os.pipe()

    def unpack() -> None:
        with os.fdopen(reading, "rb") as pipe:
            try:
                with tarfile.open(fileobj=pipe, mode="r|") as tar:
                    tar.extractall(directory, filter="data")
            finally:
                while pipe.read(1 << 20):  # whoever decrypts must come to its end, or to its error
                    pass

    with ThreadPoolExecutor(1) as pool:
        unpacking = pool.submit(unpack)
        with os.fdopen(writing, "wb") as pipe:
            try:
                pyrage.decrypt_io(source, pipe, [identity])
            except (pyrage.DecryptError, OSError) as error:
                raise BackupError(f"the backup is damaged: {error}") from error
        unpacking.result()


def _identity(outer: tarfile.TarFile, passphrase: str) -> Any:
    try:
        text = pyrage.passphrase.decrypt(_member(outer, "identity.age").read(), passphrase)
        return pyrage.x25519.Identity.from_str(text.decode())
    except pyrage.DecryptError:
        raise BackupError("the passphrase is wrong, or the backup is damaged") from None


def _manifest(outer: tarfile.TarFile) -> Manifest:
    try:
        manifest = Manifest(**json.loads(_member(outer, "manifest.json").read()))
    except (ValueError, TypeError) as error:
        raise BackupError(f"this is no backup of Quartz-Flow: {error}") from error
    if manifest.format != FORMAT:
        raise BackupError(f"the backup has format {manifest.format}, this version reads {FORMAT}")
    if manifest.database != connection.vendor:
        raise BackupError(f"the backup is of {manifest.database}, DATABASE_URL names {connection.vendor}")
    return manifest


def _member(outer: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        found = outer.extractfile(name)
    except KeyError:
        found = None
    if found is None:
        raise BackupError(f"this is no backup of Quartz-Flow: it has no {name}")
    return found


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o600, int(datetime.now().timestamp())
    tar.addfile(info, io.BytesIO(content))
