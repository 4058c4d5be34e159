"""The repository keeps its own rules: who imports whom, sizes, commands, tables made from code, no foreign paths."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from quartzflow import env
from tests.services import ROOT

MAX_LINES = 400
# From the inside out: a package may import those before it.
LAYERS = ("quartzflow_agent", "quartzflow", "groups_app", "tasks_app", "executions_app", "quic_bridge")
# The outer ring of every package calls all, and nothing calls it.
OUTER = re.compile(
    r"\.(admin|console|api|tasks|consumers|management|migrations|urls|asgi|health|run|templatetags|tests)(\.|$)"
)


@cache
def tracked(*patterns: str) -> list[Path]:
    """The repository's files, also new ones that are not committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def written_modules() -> list[Path]:
    return [path for path in tracked("*.py") if not re.search(r"_pb2\.py$|/migrations/", str(path))]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "agent" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) for everything the file imports, wherever in it; names that may be modules included."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def is_outer(module: str) -> bool:
    return OUTER.search(module) is not None


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    """An inner module imports its own layer and the ones before it, and never a module of the outer ring."""
    later = LAYERS[LAYERS.index(layer) + 1 :]
    wrong = []
    for path in written_modules():
        name = module_name(path)
        if name.partition(".")[0] != layer or is_outer(f"{name}."):
            continue
        for line, module in imported(path):
            top = module.partition(".")[0]
            if top in later or (top in LAYERS and top != "quartzflow_agent" and is_outer(module)):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert wrong == []


def test_the_agent_knows_no_django() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in written_modules()
        if module_name(path).startswith("quartzflow_agent")
        for line, module in imported(path)
        if module.partition(".")[0] in ("django", "celery", "channels", "rest_framework", *LAYERS[1:])
    ]
    assert wrong == []


def test_modules_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in written_modules()
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


def test_every_command_has_a_test() -> None:
    commands = {path.stem for path in tracked("*/management/commands/*.py") if path.name != "__init__.py"}
    assert commands, "there are commands"
    texts = [path.read_text() for path in tracked("tests/*.py") if path != Path(__file__)]
    called = r"(call_command\(|manage\(|manage\.py[\"', ]+)\s*[\"']?{name}\b"
    untested = {
        name for name in commands if not any(re.search(called.format(name=name), text) for text in texts)
    }
    assert untested == set()


def test_the_table_of_settings_is_the_one_the_code_has() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert env.markdown_table() in text, (
        "put what `python -m quartzflow.env` prints into docs/configuration.md"
    )


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in tracked("*.md")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []


def test_nothing_names_the_machine_it_was_written_on() -> None:
    places = "|".join(re.escape(str(path)) for path in (ROOT, Path.home()))
    home = re.compile(rf"({places}|/work)/".encode())
    found = []
    for path in tracked():
        if path == Path(__file__) or "vendor" in path.parts or path.suffix in (".woff2", ".png", ".mo"):
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if home.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line[:120].decode(errors='replace')}")
    assert found == []


def test_locks_are_made_from_what_they_lock() -> None:
    """Every requirement named in *.in is pinned, with hashes, in *.txt."""
    for name in ("base", "dev"):
        wanted = {
            re.split(r"[\[<>=; ]", line)[0].lower()
            for line in (ROOT / "requirements" / f"{name}.in").read_text().splitlines()
            if line and line[0].isalpha()
        }
        lock = (ROOT / "requirements" / f"{name}.txt").read_text()
        pinned = {match.lower() for match in re.findall(r"^([\w.-]+)==\S+.* \\$", lock, re.MULTILINE)}
        assert wanted <= pinned
        assert "--hash=sha256:" in lock
