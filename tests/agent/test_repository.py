"""What the agent's sources promise: it stands alone and runs on Python 3.9."""

import ast
import subprocess
import sys
from pathlib import Path

import quartzflow_agent

PACKAGE = Path(quartzflow_agent.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if not path.name.endswith("_pb2.py"))


def test_the_sources_are_python_3_9():
    for path in SOURCES:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_it_does_not_need_the_server():
    code = (
        "import sys, pkgutil, importlib, quartzflow_agent as a\n"
        "for m in pkgutil.walk_packages(a.__path__, 'quartzflow_agent.'):\n"
        "    if not m.name.endswith(('__main__', 'protocol.generate')): importlib.import_module(m.name)\n"
        "assert 'django' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_only_some_tasks_need_is_loaded_with_them():
    code = "import sys, quartzflow_agent.cli.app; assert not {'httpx', 'django'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_starts_quickly():
    """The command's imports, with everything that it takes to run."""
    code = (
        "import time; start = time.perf_counter(); import quartzflow_agent.cli.app\n"
        "assert time.perf_counter() - start < 3, time.perf_counter() - start"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
