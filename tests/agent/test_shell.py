"""The Shell executor: real processes."""

import asyncio
import json
import os
import pwd
import time

import psutil
import pytest
from quartzflow_agent.executors import Rejected, StartFailed
from quartzflow_agent.executors import process as process_module
from quartzflow_agent.executors.shell import ShellExecutor

from tests.agent.support import until


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch):
    monkeypatch.setattr(process_module, "TERM_GRACE", 0.5)


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_runs_a_command(bench):
    outcome = await bench.run("echo hello; echo oops >&2")
    assert (outcome.exit_code, outcome.stopped, outcome.reason) == (0, False, "")
    assert sorted(bench.output.splitlines()) == ["hello", "oops"]
    assert bench.job.output.errors == "oops\n"
    assert len(bench.pids) == 1


async def test_output_keeps_its_order(bench):
    await bench.run("for i in 1 2 3; do echo out$i; sleep 0.05; echo err$i >&2; sleep 0.05; done")
    assert bench.output.split() == ["out1", "err1", "out2", "err2", "out3", "err3"]


async def test_reports_the_exit_code(bench):
    assert (await bench.run("exit 42")).exit_code == 42


async def test_a_signal_is_128_and_its_number(bench):
    assert (await bench.run("kill -9 $$")).exit_code == 137


async def test_has_nothing_on_stdin(bench):
    assert (await bench.run("read line || echo nothing")).exit_code == 0
    assert bench.output == "nothing\n"


async def test_says_what_it_is_about_in_the_environment(bench):
    await bench.run("env | grep ^QF_ | sort", params={"Name": "value; $(x)"})
    assert dict(line.split("=", 1) for line in bench.output.splitlines()) == {
        "QF_AGENT_HOME": str(bench.path),
        "QF_ATTEMPT": "0",
        "QF_EXECUTION_ID": "exec_1",
        "QF_PARAM_NAME": "value; $(x)",
        "QF_SCHEDULED_TIME": "2025-01-09T02:00:00Z",
        "QF_SHARD_INDEX": "0",
        "QF_SHARD_TOTAL": "0",
        "QF_TASK_ID": "1",
        "QF_TASK_NAME": "日志清理",
    }


async def test_the_agents_own_environment_stays_its_own(bench, monkeypatch):
    monkeypatch.setenv("QUICFLOW_TOKEN", "secret")
    monkeypatch.setenv("QF_PARAM_OLD", "of somebody else")
    await bench.run("env")
    assert "secret" not in bench.output
    assert "QF_PARAM_OLD" not in bench.output
    assert "PATH=" in bench.output


async def test_a_parameter_is_never_read_as_code(bench, tmp_path):
    evil = f"'; touch {tmp_path}/pwned; echo \"`touch {tmp_path}/pwned`$(touch {tmp_path}/pwned)"
    await bench.run('printf %s "$QF_PARAM_X"', params={"x": evil})
    assert bench.output == evil
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"a b": "x"}, "parameter 'a b'"),
        ({"1a": "x"}, "parameter '1a'"),
        ({"a=b": "x"}, "parameter 'a=b'"),
        ({"": "x"}, "parameter ''"),
        ({"a": "x\0y"}, "parameter .a. contains NUL"),
        ({"a": "x" * 200_000}, "longer than"),
    ],
)
async def test_parameters_that_cannot_be_passed_on_are_rejected(bench, params, message):
    with pytest.raises(Rejected, match=message):
        await bench.run("true", params=params)
    assert bench.pids == []


async def test_environment_directory_and_umask_are_settings(bench, tmp_path):
    await bench.run(
        "echo $COLOUR; pwd; umask",
        env=json.dumps({"COLOUR": "red", "N": 1}),
        work_dir=str(tmp_path),
        umask="027",
    )
    assert bench.output.split() == ["red", str(tmp_path), "0027"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"command": "  "}, "command is empty"),
        ({"command": "echo \0"}, "NUL"),
        ({"command": "true", "umask": "9"}, "umask"),
        ({"command": "true", "env": "[1]"}, "env must be a JSON object"),
        ({"command": "true", "env": "{"}, "env must be a JSON object"),
        ({"command": "true", "env": '{"A=B": "c"}'}, "environment variable"),
        ({"command": "true", "run_as": "nobody-of-that-name"}, "no user"),
        ({"command": "true", "colour": "red"}, "unknown setting: colour"),
        ({"command": "true", "nice": "-5"}, "nice must be a whole number from 0 to 19"),
        ({"command": "true", "nice": "20"}, "nice must be a whole number from 0 to 19"),
        ({"command": "true", "limits": '{"threads": 1}'}, "limits: threads is none of cpu_seconds"),
        ({"command": "true", "limits": '{"memory_mb": 0}'}, "limits: memory_mb must be a whole number"),
        ({"command": "true", "limits": '{"memory_mb": "1; id"}'}, "limits: memory_mb must be a whole number"),
    ],
)
async def test_settings_that_make_no_sense_are_rejected(bench, config, message):
    with pytest.raises(Rejected, match=message):
        await bench.run(config.pop("command"), **config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"interpreter": "no-such-shell"}, "not installed"),
        ({"work_dir": "/no/such/place"}, "no directory"),
    ],
)
async def test_what_is_missing_on_the_host_is_a_failed_start(bench, config, message):
    with pytest.raises(StartFailed, match=message):
        await bench.run("true", **config)


async def test_a_script_may_name_its_interpreter(bench, tmp_path):
    outcome = await bench.run("#!/usr/bin/env python3\nimport sys\nprint(sys.version_info.major)\n")
    assert (outcome.exit_code, bench.output) == (0, "3\n")
    assert list((tmp_path / "run").iterdir()) == []


async def test_a_shebang_that_leads_nowhere_is_a_failed_start(bench, tmp_path):
    with pytest.raises(StartFailed):
        await bench.run("#!/no/such/interpreter\n")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("interpreter", "command"), [("bash", "echo ${BASH_VERSION:+yes}"), ("python3", "print('yes')")]
)
async def test_the_interpreter_is_a_setting(bench, interpreter, command):
    await bench.run(command, interpreter=interpreter)
    assert bench.output == "yes\n"


async def test_an_interpreter_without_an_option_for_it_gets_a_file(bench, tmp_path):
    await bench.run("read this\n", interpreter="cat")
    assert bench.output == "read this\n"
    assert list((tmp_path / "run").iterdir()) == []


async def test_a_long_script_works_too(bench):
    await bench.run("# " + "x" * 200_000 + "\necho long")
    assert bench.output == "long\n"


async def test_only_root_runs_it_as_somebody_else(bench):
    if os.geteuid() == 0:
        await bench.run("id -un; echo $HOME; pwd", run_as="nobody")
        assert bench.output.split() == ["nobody", pwd.getpwnam("nobody").pw_dir, "/"]
    else:
        with pytest.raises(Rejected, match="not as root"):
            await bench.run("true", run_as="nobody")


async def test_without_root_nobody_else_can_be_run_as(bench, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    with pytest.raises(Rejected, match="not as root"):
        await bench.run("true", run_as="root")
    # As oneself it is no change.
    assert (await bench.run("true", run_as="nobody")).exit_code == 0


# --- the end ---


async def start(bench, command, **config):
    """Start it, and wait until it has printed something."""
    job = bench.prepare(command, **config)
    work = asyncio.ensure_future(ShellExecutor(bench.runner).run(job))
    await until(lambda: job.output.head, "for output")
    return job, work


async def test_the_whole_group_is_ended(bench):
    job, work = await start(bench, "sleep 60 & sleep 60 & echo $! ; wait")
    grandchild = int(job.output.head)
    assert alive(grandchild)
    job.stop.request("timeout")
    outcome = await work
    assert outcome.stopped
    assert outcome.exit_code == 143
    assert not alive(grandchild)
    assert not alive(bench.pids[0])


async def test_what_does_not_listen_is_killed(bench):
    job, work = await start(
        bench, "trap '' TERM; (trap '' TERM; sleep 60; sleep 60) & echo $!; while :; do sleep 0.1; done"
    )
    grandchild = int(job.output.head)
    started = time.monotonic()
    job.stop.request("timeout")
    outcome = await work
    assert outcome.exit_code == 137
    assert 0.4 < time.monotonic() - started < 5
    await until(lambda: not alive(grandchild))


async def test_it_may_tidy_up_when_it_is_told_to_end(bench):
    job, work = await start(bench, "trap 'echo bye; exit 0' TERM; echo go; while :; do sleep 0.05; done")
    job.stop.request("cancelled_by_user")
    outcome = await work
    assert (outcome.stopped, outcome.exit_code) == (True, 0)
    assert job.output.head.endswith("bye\n")


async def test_who_has_left_the_group_is_found_by_its_mark(bench):
    stray = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(60)"
    job, work = await start(bench, f"python3 -c '{stray}' & wait")
    await until(lambda: job.output.head.strip())
    stray = int(job.output.head)
    await until(lambda: os.getpgid(stray) == stray)
    job.stop.request("timeout")
    await work
    await until(lambda: not alive(stray))


@pytest.mark.parametrize("ending", ["", 'trap "" TERM; '])
async def test_who_has_cleared_its_environment_and_left_is_found_as_a_child(bench, ending):
    job, work = await start(bench, f"env -i setsid sh -c '{ending}echo $$; sleep 60; :' & wait")
    stray = psutil.Process(int(job.output.head))
    assert "QF_EXECUTION_ID" not in stray.environ()
    await until(lambda: os.getpgid(stray.pid) == stray.pid and stray.children())
    (child,) = stray.children()
    job.stop.request("timeout")
    await work
    await until(lambda: not alive(stray.pid) and not alive(child.pid))


async def test_a_daemon_that_was_meant_to_stay_does_not_hold_up_the_end(bench):
    started = time.monotonic()
    outcome = await bench.run("sleep 30 & echo $!")
    try:
        assert outcome.exit_code == 0
        assert time.monotonic() - started < 5
        assert alive(int(bench.output))
    finally:
        psutil.Process(int(bench.output)).kill()


async def test_many_starts_do_not_stall_the_loop(bench):
    """Few of them in each turn of it, whatever the machine's load: the heartbeat has its turn in between."""
    jobs = [bench.prepare("true", number=number) for number in range(150)]
    works = [asyncio.ensure_future(ShellExecutor(bench.runner).run(job)) for job in jobs]
    most, before = 0, 0
    while len(bench.pids) < len(jobs):
        await asyncio.sleep(0)
        most, before = max(most, len(bench.pids) - before), len(bench.pids)
    outcomes = await asyncio.gather(*works)
    assert {outcome.exit_code for outcome in outcomes} == {0}
    assert most <= 2 * process_module.SPAWNS


async def test_one_look_at_the_processes_serves_many(bench, monkeypatch):
    looks = []
    real = process_module.survey
    monkeypatch.setattr(process_module, "survey", lambda home: looks.append(1) or real(home))
    jobs = [bench.prepare("echo; sleep 60", number=number) for number in range(20)]
    works = [asyncio.ensure_future(ShellExecutor(bench.runner).run(job)) for job in jobs]
    await until(lambda: all(job.output.head for job in jobs))
    for job in jobs:
        job.stop.request("agent_restarted")
    outcomes = await asyncio.gather(*works)
    assert {outcome.exit_code for outcome in outcomes} == {143}
    assert len(looks) <= 8
    assert not any(map(alive, bench.pids))


async def test_placeholders_become_the_parameters_or_their_defaults(bench):
    outcome = await bench.run(
        'printf "%s|" {{ params.Day }} "of {{ params.zone }}" "$GIVEN"',
        params={"day": "$(exit 3); mon day"},
        parameters='{"zone": "north", "day": "sunday"}',
        env='{"GIVEN": "in {{ params.zone }}"}',
    )
    assert (outcome.exit_code, bench.output) == (0, "$(exit 3); mon day|of north|in north|")


@pytest.mark.parametrize(
    ("command", "config", "message"),
    [
        (
            "echo {{ params.day }}",
            {},
            r"\{\{ params.day \}\}: the parameter 'day' is not given and has no default",
        ),
        ("echo '{{ params.x }}'", {}, "stands in single quotes"),
        ("echo {{ params.x }}", {"interpreter": "php"}, "not filled in for php"),
        ("true", {"env": '{"A": "{{ params.day }}"}'}, "the parameter 'day' is not given"),
        ("true", {"env": '{"A": "{{ params.day"}'}, "a placeholder is written"),
        ("true", {"env": '{"A": "{{ secrets.KEY }}"}'}, "the server has no such secret"),
        ("true", {"parameters": '{"X": "1", "x": "2"}'}, "'x' is there twice"),
    ],
)
async def test_placeholders_that_cannot_be_filled_in_are_rejected(bench, command, config, message):
    with pytest.raises(Rejected, match=message):
        await bench.run(command, params={"x": "1"}, **config)
