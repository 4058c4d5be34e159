"""file_checksum: are these files what they were?"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, List

from quartzflow_agent.files import write_atomic
from quartzflow_agent.plugins.base import Param, ParamError, Plugin, PluginFailed

ALGORITHMS = ("sha256", "sha512", "sha1", "md5")
PIECE = 1024 * 1024  # bytes
MOST_FILES = 100_000


class FileChecksum(Plugin):
    """Compares files with the checksums of a list, or with those of the first run."""

    description = (
        "Fails when files have changed, are missing or are new, against a baseline or a checksum list."
    )
    params = (
        Param("paths", list, "Absolute paths of files and directories.", required=True),
        Param(
            "baseline",
            str,
            "Absolute path: a JSON file that the first run writes, or a list as sha256sum has it.",
            required=True,
        ),
        Param("algorithm", str, f"One of {', '.join(ALGORITHMS)}.", default="sha256"),
        Param("update", bool, "Take what is found as the new baseline.", default=False),
    )

    def run(self, **params: Any) -> None:
        """Raises PluginFailed naming every file that differs, ParamError."""
        if params["algorithm"] not in ALGORITHMS:
            raise ParamError(f"algorithm: must be one of {', '.join(ALGORITHMS)}")
        baseline = Path(params["baseline"])
        paths = [Path(path) for path in params["paths"]]
        if not paths or not all(path.is_absolute() for path in [*paths, baseline]):
            raise ParamError("paths, baseline: must be absolute")
        absent = [f"{path}: missing" for path in paths if not path.exists()]
        found = {str(path): _checksum(path, params["algorithm"]) for path in _files(paths, baseline)}
        if params["update"] or not baseline.exists():
            if absent:
                raise PluginFailed("\n".join(absent))
            _write(baseline, params["algorithm"], found)
            print(f"{baseline}: written, {len(found)} files")  # noqa: T201
            return
        known = _read(baseline, params["algorithm"])
        problems = sorted({*absent, *(f"{path}: missing" for path in known.keys() - found.keys())})
        problems += [f"{path}: new" for path in sorted(found.keys() - known.keys())]
        problems += [
            f"{path}: changed" for path in sorted(found) if known.get(path, found[path]) != found[path]
        ]
        print(f"{len(found)} files, {len(problems)} differences")  # noqa: T201
        if problems:
            raise PluginFailed("\n".join(problems))


def _files(paths: List[Path], baseline: Path) -> List[Path]:
    """Regular files, without following links. Raises PluginFailed for a directory that cannot be read."""

    def refuse(error: OSError) -> None:
        raise PluginFailed(f"{error.filename}: {error.strerror}")

    found: List[Path] = []
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            walk = os.walk(path, onerror=refuse)
            inside = [Path(root, name) for root, _directories, names in walk for name in names]
        else:
            inside = [path]
        found += [item for item in inside if item.is_file() and not item.is_symlink() and item != baseline]
    if len(found) > MOST_FILES:
        raise PluginFailed(f"{len(found)} files; at most {MOST_FILES} are compared in one run")
    return found


def _checksum(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while True:
                piece = file.read(PIECE)
                if not piece:
                    return digest.hexdigest()
                digest.update(piece)
    except OSError as error:
        raise PluginFailed(f"{path}: {error.strerror}") from error


def _write(path: Path, algorithm: str, found: Dict[str, str]) -> None:
    text = json.dumps({"algorithm": algorithm, "files": found}, indent=1)
    try:
        write_atomic(path, f"{text}\n".encode())
    except OSError as error:
        raise PluginFailed(f"{path}: {error.strerror}") from error


def _read(path: Path, algorithm: str) -> Dict[str, str]:
    """Path → checksum, of our own JSON or of lines `CHECKSUM  PATH`. Raises PluginFailed."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PluginFailed(f"{path}: {error}") from error
    if not text.lstrip().startswith("{"):
        return _read_list(path, text)
    try:
        data = json.loads(text)
        used, files = data["algorithm"], {str(name): str(value) for name, value in data["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PluginFailed(f"{path}: damaged: {error}") from error
    if used != algorithm:
        raise PluginFailed(f"{path}: made with {used}, not {algorithm}")
    return files


def _read_list(path: Path, text: str) -> Dict[str, str]:
    known: Dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        checksum, _space, name = line.partition(" ")
        if not name or name[0] not in " *":
            raise PluginFailed(f"{path}, line {number}: not CHECKSUM, two spaces, PATH")
        known[name[1:]] = checksum.lower()
    return known
