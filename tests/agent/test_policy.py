"""The policy of a host's owner."""

import asyncio
import json
import os
import pwd

import pytest
from quartzflow_agent import policy as policy_module
from quartzflow_agent.config import ConfigError
from quartzflow_agent.executors import Job, Output, ProcessRunner, Rejected, executors
from quartzflow_agent.lanes import Room
from quartzflow_agent.policy import Guarded, Policy, load_policy
from quartzflow_agent.protocol import task_pb2

from tests.agent.engine_rig import Rig
from tests.agent.support import START, instruction

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(autouse=True)
def system_policy(tmp_path, monkeypatch):
    path = tmp_path / "etc-policy.toml"
    monkeypatch.setattr(policy_module, "SYSTEM_POLICY", path)
    return path


@pytest.fixture
def job(tmp_path):
    made = []

    async def on_process(pid):
        pass

    def make(kind=task_pb2.SHELL, params=None, **config):
        order = instruction(executor_type=kind, config=config, params=params or {})
        made.append(Job(order, Output(tmp_path / "x.log", 100_000), tmp_path, on_process))
        return made[-1]

    yield make
    for item in made:
        item.output.close()


PLAIN = {"commands": ["backup", "/usr/bin/env"]}
HTTP, PLUGIN = task_pb2.HTTP, task_pb2.PLUGIN


@pytest.mark.parametrize(
    ("rules", "kind", "config"),
    [
        ({}, task_pb2.SHELL, {"command": "anything | goes"}),
        ({"executors": ["http"]}, HTTP, {"url": "https://a.example/"}),
        (PLAIN, task_pb2.SHELL, {"command": "backup --to '/a b' $QF_PARAM_DAY ${QF_PARAM_X}"}),
        (PLAIN, task_pb2.SHELL, {"command": "  'back'up\n", "interpreter": "sh"}),
        ({**PLAIN, "environment": ["APP_*"]}, task_pb2.SHELL, {"command": "backup", "env": '{"APP_A": "1"}'}),
        ({"users": [ME]}, task_pb2.SHELL, {"command": "x"}),
        ({"directories": ["/tmp"]}, task_pb2.SHELL, {"command": "x", "work_dir": "/tmp/a/../b"}),
        ({"directories": []}, task_pb2.SHELL, {"command": "x"}),
        ({"plugins": ["disk_*"]}, PLUGIN, {"plugin": "disk_check"}),
        ({"http_hosts": ["*.example"]}, HTTP, {"url": "https://u:p@A.example:8443/x"}),
    ],
)
async def test_what_the_policy_allows_is_run(job, rules, kind, config):
    Policy(**rules).check(job(kind, **config))


@pytest.mark.parametrize(
    ("rules", "kind", "config", "rule"),
    [
        ({"executors": ["http", "plugin"]}, task_pb2.SHELL, {"command": "x"}, "executors: shell"),
        ({"executors": []}, HTTP, {"url": "https://a/"}, "executors: http"),
        *(
            (PLAIN, task_pb2.SHELL, {"command": command}, "commands")
            for command in (
                "rm -rf /", "backup; rm x", "backup\nrm x", "backup && rm x", "backup `rm x`", "backup $(rm x)",
                "backup > /etc/passwd", "backup ${X:-$(rm)}", "backup \"$(rm)\"", "LD_PRELOAD=x backup", "$X",
                "/bin/backup", "#!/bin/sh\nrm x", "backup a#; rm x", "backup 'open", "!", "", "backup $'x'",
                "backup\rrm", "backup <(rm)",
            )
        ),
        (PLAIN, task_pb2.SHELL, {"command": "backup", "interpreter": "python3"}, "commands"),
        (PLAIN, task_pb2.SHELL, {"command": "backup", "env": '{"PATH": "/tmp"}'}, "environment: 'PATH'"),
        ({"environment": ["A"]}, task_pb2.SHELL, {"command": "x", "env": '{"B": "1"}'}, "environment"),
        ({"users": ["nobody"]}, task_pb2.SHELL, {"command": "x"}, f"users: {ME!r}"),
        ({"users": ["nobody"]}, task_pb2.SHELL, {"command": "x", "run_as": "daemon"}, "users: 'daemon'"),
        ({"directories": ["/tmp"]}, task_pb2.SHELL, {"command": "x", "work_dir": "/tmp/../etc"}, "directories"),
        ({"directories": ["/tmp"]}, task_pb2.SHELL, {"command": "x", "work_dir": "/tmpx"}, "directories"),
        ({"plugins": ["disk_check"]}, PLUGIN, {"plugin": "log_cleanup"}, "plugins: 'log_cleanup'"),
        ({"http_hosts": ["a.example"]}, HTTP, {"url": "https://a.example@b.example/"}, "http_hosts: 'b.example'"),
        ({"http_hosts": ["a.example"]}, HTTP, {"url": "https://[a.example/"}, "http_hosts: ''"),
    ],
)  # fmt: skip
async def test_what_it_does_not_allow_is_rejected_with_the_rule(job, rules, kind, config, rule):
    with pytest.raises(Rejected, match=f"policy, {rule}"):
        Policy(**rules).check(job(kind, **config))


async def test_a_link_does_not_lead_out_of_the_directories(job, tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(Rejected, match="directories"):
        Policy(directories=[str(tmp_path)]).check(job(command="x", work_dir=str(tmp_path / "link")))


def test_without_a_file_anything_is_allowed(home):
    assert load_policy(home) == Policy()


def test_the_policy_of_the_system_stands_in_place_of_that_of_the_home(home, system_policy):
    home.policy.write_text('executors = ["http"]\nmax_concurrent = 4\n')
    assert load_policy(home) == Policy(executors=["http"], max_concurrent=4)
    system_policy.write_text("cpu_seconds = 60\n")
    assert load_policy(home) == Policy(cpu_seconds=60)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("executers = []", "unknown rule: executers"),
        ('executors = ["ftp"]', "executors: ftp is none of shell, http, plugin"),
        ('commands = "backup"', "commands must be a list of texts"),
        ("commands = [1]", "commands must be a list of texts"),
        ("cpu_seconds = -1", "cpu_seconds must be a whole number"),
        ("max_concurrent = true", "max_concurrent must be a whole number"),
        ("max_concurrent = ", "Invalid"),
    ],
)
def test_a_damaged_policy_keeps_the_agent_from_running(home, text, problem):
    home.policy.write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        load_policy(home)
    assert str(home.policy) in str(caught.value)


def test_a_policy_that_cannot_be_read_is_not_taken_for_none(home):
    home.policy.symlink_to("/no/such/policy.toml")
    with pytest.raises(ConfigError, match="No such file"):
        load_policy(home)


async def test_a_guarded_executor_asks_first(job, home):
    guarded = Guarded(executors(ProcessRunner(home.root))[task_pb2.SHELL], Policy(commands=["echo"]))
    allowed = job(command="echo $QF_PARAM_WORD", params={"word": "a; b"})
    assert (await guarded.run(allowed)).exit_code == 0
    assert allowed.output.head == "a; b\n"
    with pytest.raises(Rejected, match="commands"):
        await guarded.run(job(command="printf x"))


async def test_cpu_time_runs_out(job, home):
    runner = ProcessRunner(home.root, cpu_seconds=1)
    spinning = job(command="while :; do :; done")
    outcome = await asyncio.wait_for(executors(runner)[task_pb2.SHELL].run(spinning), 60)
    assert (outcome.exit_code, outcome.error) == (152, "this host's policy, cpu_seconds: 1 s are used up")
    quiet = job(command='printf "%s" "$0"; exit 3', env=json.dumps({"A": "b c"}))
    assert (await executors(runner)[task_pb2.SHELL].run(quiet)).exit_code == 3


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (task_pb2.SHELL, {"command": "true"}),
        (HTTP, {"url": "http://127.0.0.1:1/"}),
        (PLUGIN, {"plugin": "disk_check"}),
    ],
)
async def test_nul_and_too_much_in_parameters_are_refused_by_all(job, home, kind, config):
    executor = executors(ProcessRunner(home.root))[kind]
    with pytest.raises(Rejected, match="contains NUL"):
        await executor.run(job(kind, {"a": "x\0y"}, **config))
    with pytest.raises(Rejected, match="longer than"):
        await executor.run(job(kind, {"a": "x" * 200_000}, **config))
    with pytest.raises(Rejected, match="a name has"):
        await executor.run(job(kind, {"a b": "x"}, **config))


# --- room ---


def test_a_room_without_a_limit_has_place_for_all():
    room = Room(0)
    assert all(room.enter(str(number)) for number in range(100))
    assert room.leave("5") == []


def test_who_finds_the_room_full_waits_in_order():
    room = Room(2)
    assert [room.enter(name) for name in "abcdea"] == [True, True, False, False, False, True]
    assert room.leave("d") == []  # gone while it waited
    assert room.leave("a") == ["c"]
    assert room.enter("c")
    assert room.leave("c") == ["e"]
    assert room.leave("b") == []
    assert room.leave("e") == []


async def test_the_engine_runs_only_so_many_at_once(home, store):
    rig = Rig(home, store, most=2)
    await rig.accept(*(instruction(n, task_id=str(n), scheduled_time=START) for n in range(1, 5)))
    await rig.running("exec_1", "exec_2")
    rig.engine.cancel(["exec_3"], "")
    await rig.ended(1)
    rig.executor.end("exec_1")
    await rig.running("exec_2", "exec_4")
    rig.executor.end("exec_2")
    rig.executor.end("exec_4")
    assert sorted(await rig.ended(4)) == [
        ("exec_1", "SUCCESS", ""),
        ("exec_2", "SUCCESS", ""),
        ("exec_3", "CANCELLED", "cancelled_by_user"),
        ("exec_4", "SUCCESS", ""),
    ]
    await rig.close()
