"""What a server loads before it takes requests."""

import os
import subprocess
import sys
from pathlib import Path

from quartzflow.warm import warm
from tests import services

# Which of our modules, and which templates, the first page has still to load in a process of its own.
FIRST_PAGE = """
import sys
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
import quartzflow.asgi
from django.template import engines
from django.test import Client
loader = engines["django"].engine.template_loaders[0]
modules, templates = set(sys.modules), set(loader.get_template_cache)
answer = Client().get("/console/login/")
assert answer.status_code == 200, answer.status_code
ours = ("quartzflow", "groups_app", "tasks_app", "executions_app")
print("modules", sorted(name for name in set(sys.modules) - modules if name.split(".")[0] in ours))
print("templates", sorted(str(name) for name in set(loader.get_template_cache) - templates))
"""


def test_the_first_page_finds_everything_loaded() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FIRST_PAGE]
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(command, cwd=services.ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("modules", "templates"))]
    assert lines == ["modules []", "templates []"]


def test_a_template_that_is_broken_keeps_no_server_from_starting(tmp_path: Path, settings) -> None:
    (tmp_path / "broken.html").write_text("{% nonsense %}")
    (tmp_path / "whole.html").write_text("fine")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    assert warm() == 1
