"""`manage.py messages`: collect the texts to translate into the catalogues and compile them. Needs GNU gettext."""

import fcntl
import os
import subprocess
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, call_command
from django.core.management.commands import makemessages

LOCALE = "zh_Hans"
AGENT = Path("agent") / "quartzflow_agent"
# The agent is a distribution of its own and has its own catalogue, by the name that LANG has for the language.
AGENT_CATALOGUE = AGENT / "locale" / "zh_CN" / "LC_MESSAGES" / "quartzflow_agent.po"
# The server shows what these say too.
SHARED = {
    "calendars.py", "cron.py", "request_text.py", "schedule.py", "script_text.py", "substitution.py", "wallclock.py",
    "zones.py",
}  # fmt: skip
IGNORED = [".venv/*", "data/*", "tests/*", "static/vendor/*", "staticfiles/*", "docs/*", f"{AGENT}/locale/*"]
XGETTEXT = ["xgettext", "--from-code=UTF-8", "--language=Python", "--keyword=gettext_noop", "--no-wrap"]


class Collect(makemessages.Command):
    """Django's own, which knows `_lazy` too and does not guess."""

    xgettext_options = [*makemessages.Command.xgettext_options, "--keyword=_lazy"]
    msgmerge_options = [*makemessages.Command.msgmerge_options, "--no-fuzzy-matching"]


class Command(BaseCommand):
    help = "Collect the texts to translate (Python, templates, scripts) and compile the catalogues."

    def handle(self, *args: Any, **options: Any) -> None:
        before = Path.cwd()
        os.chdir(settings.BASE_DIR)  # makemessages walks the working directory
        # Two at once would take each other's half-written catalogues for the whole.
        lock = os.open("quartzflow", os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (Path("quartzflow") / "locale").mkdir(exist_ok=True)
            for domain in ("django", "djangojs"):
                self._server(domain, options["verbosity"])
            self._agent()
            for catalogue in (AGENT_CATALOGUE, *sorted(Path("quartzflow/locale").glob("*/LC_MESSAGES/*.po"))):
                self._run("msgfmt", "--check-format", "-o", catalogue.with_suffix(".mo"), catalogue)
        finally:
            os.close(lock)
            os.chdir(before)

    def _server(self, domain: str, verbosity: int) -> None:
        own = [str(path) for path in AGENT.rglob("*.py") if path.parent != AGENT or path.name not in SHARED]
        call_command(
            Collect(),
            locale=[LOCALE],
            domain=domain,
            ignore_patterns=[*IGNORED, *own],
            add_location="file",
            no_wrap=True,
            no_obsolete=True,
            verbosity=verbosity,
        )

    def _agent(self) -> None:
        sources = sorted(path for path in AGENT.rglob("*.py") if not path.name.endswith("_pb2.py"))
        template = AGENT_CATALOGUE.with_suffix(".pot")
        AGENT_CATALOGUE.parent.mkdir(parents=True, exist_ok=True)
        self._run(*XGETTEXT, "--add-location=file", "-o", template, *sources)
        if AGENT_CATALOGUE.exists():
            self._run(
                "msgmerge",
                "--quiet",
                "--no-wrap",
                "--no-fuzzy-matching",
                "-U",
                "--backup=none",
                AGENT_CATALOGUE,
                template,
            )
            self._run("msgattrib", "--no-obsolete", "--no-wrap", "-o", AGENT_CATALOGUE, AGENT_CATALOGUE)
            template.unlink()
        else:
            template.rename(AGENT_CATALOGUE)

    @staticmethod
    def _run(*command: Any) -> None:
        subprocess.run([str(part) for part in command], check=True)
