"""directory_backup: a compressed archive of a directory, and not too many of them."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any, List, Optional

from quartzflow_agent.files import PRIVATE_FILE, sync_directory
from quartzflow_agent.plugins.base import Param, ParamError, Plugin, PluginFailed

SUFFIX = ".tar.gz"
PIECE = 1024 * 1024  # bytes


class DirectoryBackup(Plugin):
    """Writes NAME-DATE.tar.gz; it has its name only once it is whole, read back and on the disk."""

    description = "Packs a directory into a dated archive, verifies it and deletes the oldest archives."
    params = (
        Param("source", str, "Absolute path of the directory to save.", required=True),
        Param(
            "target",
            str,
            "Absolute path of the directory for archives; not inside the source.",
            required=True,
        ),
        Param("name", str, "Start of the archives' names; the source's unless given.", default=""),
        Param("keep", int, "So many archives stay; 0: all.", default=7, low=0),
        Param("exclude", list, "Names to leave out, with * and ?.", default=[]),
        Param("min_free_mb", int, "Do not begin with less space at the target, MiB.", default=100, low=0),
    )

    def run(self, **params: Any) -> None:
        """Raises PluginFailed, ParamError."""
        source, target = Path(params["source"]), Path(params["target"])
        name = params["name"] or source.name
        _check(source, target, name)
        try:
            target.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(target).free // 2**20
            if free < params["min_free_mb"]:
                raise PluginFailed(f"{target}: {free} MiB free, {params['min_free_mb']} MiB wanted")
            final = target / f"{name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{SUFFIX}"
            count = _pack(source, final, params["exclude"])
            print(f"{final}: {count} entries, {final.stat().st_size} bytes, sha256 {_sha256(final)}")  # noqa: T201
            # Only now that there is a new one.
            _prune(target, name, params["keep"])
        except (OSError, tarfile.TarError, EOFError) as error:
            raise PluginFailed(str(error)) from error


def _check(source: Path, target: Path, name: str) -> None:
    if not source.is_absolute() or not target.is_absolute():
        raise ParamError("source, target: must be absolute paths")
    if not source.is_dir():
        raise PluginFailed(f"{source} is no directory")
    inside = target.resolve()
    if inside == source.resolve() or source.resolve() in inside.parents:
        raise ParamError("target: must not lie inside the source")
    if not name or "/" in name or name.startswith(".") or "\0" in name:
        raise ParamError("name: must be the start of a file's name")


class _Archive(tarfile.TarFile):
    """Leaves out what is gone by the time it is its turn: directories that are in use change."""

    def gettarinfo(self, name: Any = None, arcname: Any = None, fileobj: Any = None) -> Any:
        try:
            return super().gettarinfo(name, arcname, fileobj)
        except FileNotFoundError:
            print(f"{name}: gone before it could be saved")  # noqa: T201
            return None  # as for a socket


def _pack(source: Path, final: Path, exclude: List[str]) -> int:
    """Write, verify and name the archive; returns its number of entries."""
    # A name that no archive has: what is left of a crash is neither counted nor taken for one.
    part = final.with_name(f".{final.name}.part")
    written = 0

    def wanted(info: tarfile.TarInfo) -> Optional[tarfile.TarInfo]:
        nonlocal written
        base = os.path.basename(info.name)  # noqa: PTH119  a name in the archive
        if any(fnmatch.fnmatch(base, pattern) for pattern in exclude):
            return None
        written += 1
        return info

    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        with os.fdopen(descriptor, "w+b") as file:
            with _Archive.open(fileobj=file, mode="w:gz") as archive:
                archive.add(source, arcname=source.name or "root", filter=wanted)
            file.flush()
            os.fsync(file.fileno())
        with tarfile.open(part, "r:gz") as whole:
            found = sum(1 for _entry in whole)
        if found != written:
            raise PluginFailed(f"{part}: {found} of {written} entries can be read back")
        part.replace(final)
        sync_directory(final.parent)
    finally:
        part.unlink(missing_ok=True)
    return written


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while True:
            piece = file.read(PIECE)
            if not piece:
                return digest.hexdigest()
            digest.update(piece)


def _prune(target: Path, name: str, keep: int) -> None:
    """Delete the oldest archives of this name. Their dates sort as text."""
    stamp = "[0-9]" * 8 + "T" + "[0-9]" * 6 + "Z"
    found = sorted(
        path for path in target.iterdir() if fnmatch.fnmatch(path.name, f"{_literal(name)}-{stamp}{SUFFIX}")
    )
    for path in found[:-keep] if keep else []:
        path.unlink()
        print(f"{path}: deleted")  # noqa: T201


def _literal(text: str) -> str:
    """A pattern that matches just this text."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
