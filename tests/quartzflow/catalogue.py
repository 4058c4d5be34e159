"""Reading of gettext catalogues, and of the texts that sources mark, without the gettext tools."""

import ast
import gettext
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "quartzflow" / "locale" / "zh_Hans" / "LC_MESSAGES"
AGENT = ROOT / "agent" / "quartzflow_agent"
AGENT_CATALOGUE = AGENT / "locale" / "zh_CN" / "LC_MESSAGES" / "quartzflow_agent.po"
SHARED = {
    "calendars.py", "cron.py", "request_text.py", "schedule.py", "script_text.py", "substitution.py", "wallclock.py",
    "zones.py",
}  # fmt: skip
MARKS = {"_", "_lazy", "gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy"}
APPS = ("quartzflow", "groups_app", "tasks_app", "executions_app", "quic_bridge")


@dataclass
class Entry:
    """One text of a .po file."""

    msgid: str = ""
    plural: str | None = None
    flags: set[str] = field(default_factory=set)
    strings: dict[int, str] = field(default_factory=dict)


def entries(path: Path) -> list[Entry]:
    """The entries of a .po file, its header first."""
    found, entry, write = [], Entry(), None
    for line in [*path.read_text().splitlines(), ""]:
        if not line:
            found.append(entry)
            entry = Entry()
        elif line.startswith("#,"):
            entry.flags |= {flag.strip() for flag in line[2:].split(",")}
        elif not line.startswith("#"):
            match = re.match(r"(msgid|msgid_plural|msgstr)(?:\[(\d+)\])? (?=\")", line)
            if match:
                write = (match[1], int(match[2] or 0))
                line = line[match.end() :]
            _add(entry, *write, ast.literal_eval(line))
    return [e for e in found if e.strings]


def _add(entry: Entry, key: str, index: int, text: str) -> None:
    if key == "msgid":
        entry.msgid += text
    elif key == "msgid_plural":
        entry.plural = (entry.plural or "") + text
    else:
        entry.strings[index] = entry.strings.get(index, "") + text


def compiled(path: Path) -> dict:
    """What a .mo file holds: msgid → text, (msgid, plural index) → text."""
    with path.open("rb") as file:
        return gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]


def python_texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in MARKS and isinstance(node.args[0].value, str):
                yield node.args[0].value


def template_texts(path: Path) -> Iterator[str]:
    for quoted in re.findall(
        r"gettext\(u?(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')", templatize(path.read_text())
    ):
        yield ast.literal_eval(quoted)
    for quoted in re.findall(
        r"\b_\((\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')\)", templatize(path.read_text())
    ):
        yield ast.literal_eval(quoted)


def script_texts(path: Path) -> Iterator[str]:
    for quoted in re.findall(r"\b_\((\"(?:[^\"\\]|\\.)*\")", path.read_text()):
        yield ast.literal_eval(quoted)


def server_texts() -> set[str]:
    """Every text that the server's sources mark."""
    sources = [path for app in APPS for path in (ROOT / app).rglob("*.py")]
    sources += [AGENT / name for name in SHARED]
    found = {text for path in sources for text in python_texts(path)}
    return found | {text for path in (ROOT / "templates").rglob("*.html") for text in template_texts(path)}


def agent_texts() -> set[str]:
    return {
        text
        for path in AGENT.rglob("*.py")
        if not path.name.endswith("_pb2.py")
        for text in python_texts(path)
    }


def browser_texts() -> set[str]:
    return {text for path in (ROOT / "static" / "js").glob("*.js") for text in script_texts(path)}
