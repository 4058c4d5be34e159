"""Plugins: their parameters, those that are built in, and how they run."""

import json
import os
import textwrap
import time
from pathlib import Path

import pytest
from quartzflow_agent.executors import Job, Output, ProcessRunner, Rejected
from quartzflow_agent.executors.plugin import PluginExecutor
from quartzflow_agent.plugins import Param, ParamError, Plugin, PluginFailed, find, log_cleanup, names
from quartzflow_agent.plugins.base import BUILT_IN

from tests.agent.support import instruction


class Example(Plugin):
    params = (
        Param("text", str, "", required=True),
        Param("count", int, "", default=3, low=1, high=9),
        Param("ratio", float, "", default=0.5),
        Param("flag", bool, "", default=False),
        Param("items", list, "", default=[]),
    )


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"text": "a"}, {"text": "a", "count": 3, "ratio": 0.5, "flag": False, "items": []}),
        (
            {"text": "a", "count": "7", "ratio": 2, "flag": "true", "items": "one"},
            {"text": "a", "count": 7, "ratio": 2.0, "flag": True, "items": ["one"]},
        ),
        (
            {"text": "", "count": 9, "flag": False, "items": ["a", "b"]},
            {"text": "", "count": 9, "ratio": 0.5, "flag": False, "items": ["a", "b"]},
        ),
    ],
)
def test_parameters_are_read_by_their_types(given, found):
    assert Example().parse(given) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "text is missing"),
        ({"text": 5}, "text: 5 is no str"),
        ({"text": "a", "count": "many"}, "count: 'many' is no int"),
        ({"text": "a", "count": True}, "count: True is no int"),
        ({"text": "a", "count": 0}, "count: 0 is less than 1"),
        ({"text": "a", "count": 10}, "count: 10 is more than 9"),
        ({"text": "a", "count": 3.7}, "count: 3.7 is no int"),
        ({"text": "a", "count": float("inf")}, "count: inf is no int"),
        ({"text": "a", "ratio": "nan"}, "ratio: 'nan' is no float"),
        ({"text": "a", "flag": "perhaps"}, "flag: 'perhaps' is no bool"),
        ({"text": "a", "items": [1]}, "items"),
        ({"text": "a", "colour": "red"}, "unknown parameter: colour"),
    ],
)
def test_parameters_that_do_not_fit_are_named(given, message):
    with pytest.raises(ParamError, match=message):
        Example().parse(given)


def test_the_built_in_plugins_are_there_and_describe_themselves():
    built_in = {
        "directory_backup",
        "disk_check",
        "file_checksum",
        "http_check",
        "log_cleanup",
        "service_check",
        "tcp_check",
    }
    assert built_in <= set(names())
    for name in built_in:
        plugin = find(name)
        assert plugin.description.endswith(".")
        assert all(param.help for param in plugin.params)


def test_the_documentation_lists_them_with_their_parameters():
    text = (Path(__file__).parents[2] / "docs/plugins.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    for entry in BUILT_IN:
        (line,) = [line for line in lines if line.startswith(f"| `{entry.name}` |")]
        assert [param.name for param in find(entry.name).params if f"`{param.name}`" not in line] == []


def test_a_plugin_that_is_not_installed_is_said_so():
    with pytest.raises(LookupError, match="no plugin 'nonsense' on this host"):
        find("nonsense")


# --- log_cleanup ---


@pytest.fixture
def logs(tmp_path):
    old = time.time() - 10 * 86400
    for name in ("old.log", "old.txt", "old.log.1", "sub/old.log", "new.log"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        if "new" not in name:
            os.utime(path, (old, old))
    (tmp_path / "link.log").symlink_to(tmp_path / "old.txt")
    return tmp_path


def left(directory):
    found = [path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir()]
    return {str(path.relative_to(directory)) for path in found}


def clean(directory, **params):
    plugin = find("log_cleanup")
    plugin.run(**plugin.parse({"directory": str(directory), **params}))


def test_old_files_are_deleted(logs, capsys):
    clean(logs)
    assert left(logs) == {"old.txt", "sub/old.log", "new.log", "link.log"}
    assert "2 files deleted" in capsys.readouterr().out


def test_subdirectories_only_when_asked_and_links_never(logs, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "old.log").write_text("x")
    os.utime(outside / "old.log", (0, 0))
    (logs / "there").symlink_to(outside)
    clean(logs, recursive=True)
    assert left(logs) == {"old.txt", "new.log", "link.log", "there"}
    assert (outside / "old.log").exists()


def test_a_directory_that_goes_while_it_looks_is_no_crash(logs, monkeypatch):
    def walk(top, onerror):
        yield str(top), ["sub", "gone"], ["old.log"]

    monkeypatch.setattr(log_cleanup.os, "walk", walk)
    clean(logs, recursive=True)
    assert "old.log" not in left(logs)


def test_a_dry_run_only_tells(logs, capsys):
    before = left(logs)
    clean(logs, dry_run=True, patterns=["*"])
    assert left(logs) == before
    assert "3 files would be deleted" in capsys.readouterr().out


@pytest.mark.parametrize("directory", ["/", "relative", "/tmp/.."])
def test_some_directories_are_never_cleaned(directory):
    with pytest.raises(ParamError, match="directory"):
        clean(directory)


def test_a_directory_that_is_missing_is_a_failure(tmp_path):
    with pytest.raises(PluginFailed, match="no directory"):
        clean(tmp_path / "none")


# --- disk_check ---


def check(**params):
    plugin = find("disk_check")
    plugin.run(**plugin.parse(params))


def test_a_disk_with_room_is_fine(tmp_path, capsys):
    check(paths=[str(tmp_path)], max_percent=100)
    assert "% used" in capsys.readouterr().out


def test_a_full_disk_and_a_missing_path_are_failures(tmp_path):
    with pytest.raises(PluginFailed) as caught:
        check(paths=[str(tmp_path), "/no/such/path"], max_percent=100, min_free_mb=10**9)
    assert "MiB wanted" in str(caught.value)
    assert "/no/such/path: No such file" in str(caught.value)


# --- as executions ---


@pytest.fixture
def job(tmp_path):
    made = []

    async def on_process(pid):
        pass

    def make(given=None, **config):
        order = instruction(config=config, params=given or {})
        made.append(Job(order, Output(tmp_path / "x.log", 100_000), tmp_path, on_process))
        return made[-1]

    yield make
    for item in made:
        item.output.close()


async def test_a_plugin_runs_in_a_process_of_its_own(job, logs, home):
    wanted = job({"older_than_days": "1"}, plugin="log_cleanup", params=f'{{"directory": "{logs}"}}')
    outcome = await PluginExecutor(ProcessRunner(home.root)).run(wanted)
    assert outcome.exit_code == 0
    assert "2 files deleted" in wanted.output.head


async def test_what_it_finds_wrong_is_a_failure(job, home):
    wanted = job(plugin="log_cleanup", params='{"directory": "/no/such/place"}')
    outcome = await PluginExecutor(ProcessRunner(home.root)).run(wanted)
    assert (outcome.reason, wanted.output.errors) == ("exit_code", "/no/such/place is no directory\n")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "plugin is missing"),
        ({"plugin": "nonsense"}, "no plugin 'nonsense'"),
        ({"plugin": "disk_check", "params": "[]"}, "params must be a JSON object"),
        ({"plugin": "disk_check", "params": '{"max_percent": 101}'}, "max_percent: 101.0 is more than 100"),
        ({"plugin": "log_cleanup", "params": '{"directory": "/"}'}, "directory"),
        ({"plugin": "disk_check", "colour": "red"}, "unknown setting"),
    ],
)
async def test_what_cannot_be_run_is_rejected(job, config, message, home):
    with pytest.raises(Rejected, match=message):
        await PluginExecutor(ProcessRunner(home.root)).run(job(**config))


@pytest.fixture
def broken_plugin(tmp_path, monkeypatch):
    """A distribution that brings a plugin whose run crashes."""
    (tmp_path / "broken_plugin.py").write_text(
        textwrap.dedent("""
            from quartzflow_agent.plugins import Plugin

            class Broken(Plugin):
                def run(self):
                    raise KeyError("inside the plugin")
        """)
    )
    information = tmp_path / "broken_plugin-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[quartzflow_agent.plugins]\nbroken = broken_plugin:Broken\ndisk_check = broken_plugin:Broken\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


async def test_a_crash_is_a_failure_with_its_traceback(job, broken_plugin, home):
    wanted = job(plugin="broken")
    outcome = await PluginExecutor(ProcessRunner(home.root)).run(wanted)
    assert (outcome.exit_code, outcome.reason) == (1, "executor_error")
    assert "Traceback" in wanted.output.errors
    assert "KeyError: 'inside the plugin'" in wanted.output.errors


async def test_nobody_replaces_a_built_in_plugin(job, broken_plugin, home):
    wanted = job(plugin="disk_check", params='{"max_percent": 100}')
    assert (await PluginExecutor(ProcessRunner(home.root)).run(wanted)).exit_code == 0


async def test_placeholders_in_a_plugins_parameters_are_filled_in(job, tmp_path, home):
    (tmp_path / "web").mkdir()
    params = json.dumps({"directory": f"{tmp_path}/{{{{ params.app }}}}", "patterns": ["{{ params.kind }}"]})
    wanted = job(
        {"app": "web", "dry_run": "true"}, plugin="log_cleanup", params=params, parameters='{"kind": "*.log"}'
    )
    outcome = await PluginExecutor(ProcessRunner(home.root)).run(wanted)
    assert (outcome.exit_code, wanted.output.head) == (0, "0 files would be deleted, 0.0 MiB\n")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ('{"directory": "{{ params.app }}"}', "the parameter 'app' is not given"),
        ('{"directory": ["{{ params.app"]}', "a placeholder is written"),
    ],
)
async def test_placeholders_that_a_plugin_cannot_have_are_rejected(job, params, message, home):
    with pytest.raises(Rejected, match=message):
        await PluginExecutor(ProcessRunner(home.root)).run(job(plugin="log_cleanup", params=params))
