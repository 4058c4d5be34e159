"""The command `quicflow` (PRD FR-5.5), as its users see it."""

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from quartzflow_agent import cli
from quartzflow_agent.cli import output
from quartzflow_agent.config import AgentConfig, Endpoint, load, read_secret, save, write_secret
from quartzflow_agent.lock import Lock
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import executions, outbox, tasks
from quartzflow_agent.store.database import open_database
from quartzflow_agent.store.records import CANCELLED, FAILURE, SUCCESS, TIMEOUT, Ending

from tests.agent.support import START, instruction, task_config
from tests.services import free_port

DAY = "2025-01-09"
PROGRAM = [sys.executable, "-c", "from quartzflow_agent.cli import main; main()"]


@pytest.fixture
def quicflow(monkeypatch, capsys):
    """Run a command; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["quicflow", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def filled(home):
    """The store of PRD FR-5.5's example, in small."""
    db = open_database(home.store)
    log = f"{DAY}/1_exec_a.log"

    def ran(name, task_id, title, status, ms, at=START, reason=""):
        order = instruction(execution_id=name, task_id=task_id, task_name=title, scheduled_time=at)
        executions.add(db, order)
        executions.start(db, name, at, log)
        code = None if status == CANCELLED else int(status != SUCCESS)
        executions.finish(db, name, Ending(status, at + ms, exit_code=code, failure_reason=reason))

    ran("exec_a", "1", "日志清理", SUCCESS, 2300)
    ran("exec_b", "2", "数据备份", SUCCESS, 45_200)
    for number in range(285):
        ran(f"exec_h{number}", "3", "健康检查", SUCCESS, 500, START + number * 1000)
    for number, status in enumerate([FAILURE, TIMEOUT, CANCELLED]):
        ran(f"exec_f{number}", "3", "健康检查", status, 500, reason="exit_code")
    ran("exec_old", "1", "日志清理", FAILURE, 1000, START - 86_400_000, "exit_code")
    executions.add(db, instruction(execution_id="exec_never", task_id="4"))
    outbox.acknowledge(db, [("exec_a", 0)])
    found = [task_config("1", name="日志清理", cron_expr="0 2 * * *", timezone="Asia/Shanghai")]
    found += [
        task_config(
            "2", name="数据备份", schedule_type="fixed_rate", interval_seconds=60, local_firing=False
        ),
        task_config("3", name="健康检查", schedule_type="fixed_delay", interval_seconds=30, enabled=False),
        task_config("4", name="手动", schedule_type="none"),
    ]
    tasks.apply(db, task_pb2.TaskConfigPush(tasks=found, version=12), START)
    db.close()
    path = home.log_file(log)
    path.parent.mkdir()
    path.write_text("cleaned 3 files\n", encoding="utf-8")
    return home


# --- task ---


def test_statistics_of_a_day_are_a_table(filled, quicflow):
    code, out, _ = quicflow("task", "stats", "--date", DAY)
    assert code == 0
    assert out == (
        "┌──────────────────────────────────────────────────────────────────────────┐\n"
        "│ Task execution statistics - 2025-01-09                                   │\n"
        "├──────────┬───────┬─────────┬────────┬──────────────┬──────────────────┤\n"
    ).replace("─" * 74, "─" * 71).replace(" " * 35 + "│", " " * 32 + "│") + (
        "│ Task     │ Total │ Success │ Failed │ Success rate │ Average duration │\n"
        "├──────────┼───────┼─────────┼────────┼──────────────┼──────────────────┤\n"
        "│ 健康检查 │ 288   │ 285     │ 3      │ 99%          │ 0.5s             │\n"
        "│ 数据备份 │ 1     │ 1       │ 0      │ 100%         │ 45.2s            │\n"
        "│ 日志清理 │ 1     │ 1       │ 0      │ 100%         │ 2.3s             │\n"
        "└──────────┴───────┴─────────┴────────┴──────────────┴──────────────────┘\n"
    )


def run_in(locale, *arguments):
    env = {**os.environ, "LANG": locale, "LC_ALL": locale, "LANGUAGE": ""}
    done = subprocess.run([*PROGRAM, *arguments], env=env, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_chinese_locale_speaks_chinese(filled):
    code, out, _ = run_in("zh_CN.UTF-8", "task", "stats", "--date", DAY)
    assert code == 0
    lines = out.splitlines()
    assert lines[1].startswith("│ 任务执行统计 - 2025-01-09 ")
    assert [cell.strip() for cell in lines[3].strip("│").split("│")] == [
        "任务",
        "总次数",
        "成功",
        "失败",
        "成功率",
        "平均耗时",
    ]
    from rich.cells import cell_len

    assert len({cell_len(line) for line in lines}) == 1
    code, _, err = run_in("zh_CN.UTF-8", "task", "stats", "--date", "yesterday")
    assert (code, err) == (1, "“yesterday”不是有效日期：请写成 YYYY-MM-DD。\n")


def test_statistics_as_json_are_the_views(filled, quicflow):
    code, out, _ = quicflow("task", "stats", "--date", DAY, "--json")
    found = json.loads(out)
    assert (code, found["date"]) == (0, DAY)
    assert found["tasks"]["3"]["stats"]["total"] == 288
    assert found["tasks"]["3"]["hourly"]["02"] == 288


def test_today_is_the_day_unless_another_is_given(filled, quicflow):
    for arguments in ([], ["--today"]):
        code, out, _ = quicflow("task", "stats", *arguments)
        assert code == 0
        assert datetime.now(UTC).strftime("%Y-%m-%d") in out
        assert "Nothing has run on this day." in out
    code, _, err = quicflow("task", "stats", "--today", "--date", DAY)
    assert (code, err) == (1, "Give either --today or --date.\n")


def test_statistics_of_a_task_are_by_day(filled, quicflow):
    code, out, _ = quicflow(
        "task", "stats", "--task-id", "1", "--days", "7", "--date", "2025-01-10", "--json"
    )
    assert code == 0
    assert [(day["date"], day["stats"]["success"]) for day in json.loads(out)["days"]] == [
        ("2025-01-09", 1),
        ("2025-01-08", 0),
    ]
    _, out, _ = quicflow("task", "stats", "--task-id", "1", "--days", "2", "--date", "2025-01-10")
    assert "2025-01-09" in out
    assert "2025-01-08" not in out
    _, out, _ = quicflow("task", "stats", "--task-id", "99")
    assert "It has not run in this time." in out


def test_history_lists_the_executions_of_a_day(filled, quicflow):
    code, out, _ = quicflow("task", "history", "--date", DAY, "--task-id", "1")
    assert code == 0
    assert [cell.strip() for cell in out.splitlines()[5].strip("│").split("│")] == [
        "日志清理",
        "Success",
        datetime.fromtimestamp(START / 1000).strftime("%H:%M:%S"),
        "2.3s",
        "0",
        "-",
        "yes",
        "exec_a",
    ]
    _, out, _ = quicflow("task", "history", "--date", DAY, "--limit", "2", "--json")
    assert [item["execution_id"] for item in json.loads(out)["executions"]] == ["exec_f2", "exec_never"]


def test_the_last_log_of_a_task_is_printed(filled, quicflow):
    assert quicflow("task", "logs", "--task-id", "1", "--last")[:2] == (0, "cleaned 3 files\n")
    _, out, _ = quicflow("task", "logs", "--execution-id", "exec_a", "--json")
    assert json.loads(out)["output"] == "cleaned 3 files\n"
    assert json.loads(out)["status"] == "success"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give either --task-id and --last"),
        (["--task-id", "1", "--execution-id", "x"], "Give either --task-id and --last"),
        (["--task-id", "99", "--last"], "no such execution"),
        (["--execution-id", "exec_never"], "It never started"),
    ],
)
def test_logs_that_are_not_there(filled, quicflow, arguments, message):
    code, out, err = quicflow("task", "logs", *arguments)
    assert (code, out) == (1, "")
    assert message in err


def test_a_log_that_was_deleted_is_said_so(filled, quicflow):
    filled.log_file(f"{DAY}/1_exec_a.log").unlink()
    code, _, err = quicflow("task", "logs", "--task-id", "1", "--last")
    assert code == 1
    assert "No such file" in err


def test_tasks_are_listed_with_their_schedules(filled, quicflow):
    code, out, _ = quicflow("task", "list")
    assert code == 0
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines()[5:-1]]
    found = {row[0]: row for row in rows}
    assert found["1"][1:4] == ["日志清理", "yes", "0 2 * * * (Asia/Shanghai)"]
    assert found["1"][4].endswith("02:00:00+08:00")
    assert found["2"][3:] == ["every 60 s", found["2"][4], "no"]
    assert found["3"][2:5] == ["no", "30 s after the end", "-"]
    assert found["4"][3:5] == ["by hand", "-"]
    _, out, _ = quicflow("task", "list", "--json")
    assert {item["id"]: item["executor"] for item in json.loads(out)["tasks"]}["1"] == "shell"


def test_the_next_firings_are_shown_in_the_tasks_time_zone(filled, quicflow):
    code, out, _ = quicflow("task", "next", "--task-id", "1", "--count", "3", "--json")
    assert code == 0
    (task,) = json.loads(out)["tasks"]
    moments = [datetime.fromisoformat(moment) for moment in task["next"]]
    assert [moment.hour for moment in moments] == [2, 2, 2]
    assert moments[1] - moments[0] == timedelta(days=1)
    code, out, _ = quicflow("task", "next")
    assert code == 0
    assert out.count("日志清理") == 5
    code, _, err = quicflow("task", "next", "--task-id", "99")
    assert (code, err) == (1, "This host has no task 99: see `quicflow task list`.\n")


def test_a_schedule_that_this_agent_does_not_know_is_shown_as_such(home, quicflow):
    db = open_database(home.store)
    tasks.apply(db, task_pb2.TaskConfigPush(tasks=[task_config(cron_expr="nonsense")], version=1), START)
    db.close()
    code, out, _ = quicflow("task", "list", "--json")
    assert code == 0
    assert "expression" in json.loads(out)["tasks"][0]["next"][0]


@pytest.mark.parametrize("command", ["stats", "history", "list", "next"])
def test_without_records_it_says_why(home, quicflow, command):
    code, out, err = quicflow("task", command)
    assert (code, out) == (1, "")
    assert "There are no records here" in err


def test_a_damaged_store_is_one_line(home, quicflow):
    home.store.write_bytes(b"garbage" * 1000)
    code, _, err = quicflow("task", "stats")
    assert code == 1
    assert "store.sqlite3" in err
    assert err.count("\n") == 1


def test_statistics_over_seven_full_days_take_less_than_100_ms(home, quicflow):
    from quartzflow_agent.store import statistics
    from quartzflow_agent.store.database import open_readonly

    db = open_database(home.store)
    db.execute("BEGIN")
    for day in range(7):
        for task in range(200):
            db.execute(
                "INSERT INTO daily_stats (day, task_id, task_name, success, timed, total_ms, hourly, updated_at)"
                " VALUES (?, ?, 'x', 100, 100, 1000, ?, 0)",
                (f"2025-01-0{day + 1}", str(task), json.dumps([4] * 24)),
            )
    db.execute("COMMIT")
    db.close()
    db = open_readonly(home.store)
    started = time.perf_counter()
    found = [statistics.of_day(db, f"2025-01-0{day + 1}") for day in range(7)]
    assert time.perf_counter() - started < 0.1
    db.close()
    assert sum(item.total for day in found for item in day) == 7 * 200 * 100


# --- tables ---


def test_a_table_fits_the_terminal():
    text = output.table("标题", ["名称", "x"], [["很长很长很长很长的名字", "1"], ["short", "2"]], width=20)
    from rich.cells import cell_len

    assert {cell_len(line) for line in text.splitlines()} == {20}
    assert "…" in text


def test_a_long_title_widens_the_table():
    lines = output.table("a title that is longer than all", ["a"], []).splitlines()
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "-"), (1, 1, "100%"), (285, 288, "99%"), (1, 3, "33.3%"), (1999, 2000, "99.9%"), (0, 5, "0%")],
)
def test_rates(part, whole, text):
    assert output.percent(part, whole) == text


# --- agent ---


def join_arguments(server, *more):
    return ["agent", "join", "--server", server.address, "--token", "the-token", *more]


@pytest.fixture
def quicflow_async(quicflow):
    """A command beside the event loop that serves it."""

    async def run(*arguments):
        return await asyncio.get_running_loop().run_in_executor(None, quicflow, *arguments)

    return run


async def test_join_registers_and_keeps_the_credential(server, certificates, home, quicflow_async):
    code, out, err = await quicflow_async(
        *join_arguments(
            server,
            "--ca-file",
            certificates.authority,
            "--client-id",
            "web-1",
            "--label",
            "dc=bj",
            "--label",
            "os=x=y",
        )
    )
    assert (code, err) == (0, "")
    assert f'Joined {server.address} as "web-1" in the group "default"' in out
    request = server.registrations[0]
    assert (request.client_id, request.enrollment_token, request.credential) == ("web-1", "the-token", "")
    assert dict(request.labels) == {"dc": "bj", "os": "x=y"}
    assert request.hostname
    config = load(home)
    assert (config.client_id, config.ca_file, config.labels) == (
        "web-1",
        certificates.authority,
        {"dc": "bj", "os": "x=y"},
    )
    assert read_secret(home.credential) == "credential of web-1"
    assert "the-token" not in home.config.read_text()


async def test_join_turns_to_the_next_server(server, certificates, home, quicflow_async):
    nobody = f"127.0.0.1:{free_port()}"
    code, out, _ = await quicflow_async(
        "agent", "join", "--server", f"{nobody},{server.address}", "--token", "t",
        "--ca-sha256", certificates.sha256.upper(), "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["server"] == server.address
    assert [str(endpoint) for endpoint in load(home).servers] == [nobody, server.address]


async def test_join_says_why_no_server_answers(certificates, home, quicflow_async):
    address = f"127.0.0.1:{free_port()}"
    code, _, err = await quicflow_async("agent", "join", "--server", address, "--token", "t")
    assert code == 1
    assert f"{address}: nobody listens on that UDP port" in err
    assert "--ca-file" in err
    assert not home.config.exists()
    assert not home.credential.exists()


async def test_join_says_the_way_out_when_it_is_refused(server, certificates, home, quicflow_async):
    for in_words in (True, False):
        server.refusal, server.refuses_in_words = ("bad_token", "used up"), in_words
        code, _, err = await quicflow_async(*join_arguments(server, "--ca-file", certificates.authority))
        assert code == 1
        assert "refuses this host" in err
        assert "used up" in err
    server.refuses_in_words = True
    code, _, err = await quicflow_async(*join_arguments(server, "--ca-file", certificates.authority))
    assert "new enrollment token" in err
    assert not home.credential.exists()


async def test_join_does_not_trust_a_stranger(server, home, quicflow_async):
    code, _, err = await quicflow_async(*join_arguments(server))
    assert code == 1
    assert "certificate" in err
    assert server.registrations == []


def test_join_later_writes_the_configuration_and_the_token(home, quicflow, certificates):
    arguments = ["agent", "join", "--server", "a:1", "--token", "t0k", "--client-id", "c1", "--later"]
    code, out, _ = quicflow(*arguments)
    assert code == 0
    assert str(home.config) in out
    assert read_secret(home.enrollment_token) == "t0k"
    assert home.enrollment_token.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", "a b", "--token", "t"], "no server address"),
        (["--server", "a", "--token", " "], ""),
        (["--server", "a", "--token", "t", "--label", "x"], "no label"),
        (["--server", "a", "--token", "t", "--client-id", "a b"], "cannot name a client"),
        (["--server", "a", "--token", "t", "--ca-file", "/no/ca.pem"], "no CA file"),
        (["--server", ",", "--token", "t"], "No server is configured"),
    ],
)
def test_join_refuses_what_cannot_work(home, quicflow, arguments, message):
    code, _, err = quicflow("agent", "join", *arguments)
    assert code == 1
    assert message in err
    assert not home.config.exists()


def test_join_takes_the_token_from_stdin(home):
    done = subprocess.run(
        [*PROGRAM, "agent", "join", "--server", "a:1", "--token", "-", "--client-id", "c", "--later"],
        input=b"from stdin\n",
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert read_secret(home.enrollment_token) == "from stdin"


def test_join_does_not_touch_a_host_that_has_joined_or_runs(home, quicflow):
    write_secret(home.credential, "old")
    arguments = ["agent", "join", "--server", "a:1", "--token", "t", "--later"]
    code, _, err = quicflow(*arguments)
    assert code == 1
    assert "--force" in err
    assert read_secret(home.credential) == "old"
    lock = Lock(home.lock)
    code, _, err = quicflow(*arguments, "--force")
    assert code == 1
    assert f"pid {os.getpid()}" in err
    lock.release()
    assert quicflow(*arguments, "--force")[0] == 0
    assert read_secret(home.credential) == ""


def test_status_of_an_agent_that_does_not_run(filled, quicflow):
    save(filled, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    code, out, _ = quicflow("agent", "status")
    assert code == 3
    assert "Agent: not running" in out
    assert "Tasks: 4" in out
    assert "Not yet on the server: 290" in out
    code, out, _ = quicflow("agent", "status", "--json")
    found = json.loads(out)
    assert code == 3
    assert (found["running"], found["joined"], found["config_version"], found["agent"]) == (
        False,
        False,
        12,
        None,
    )


@pytest.mark.parametrize(("connected", "code"), [(True, 0), (False, 1)])
def test_status_of_an_agent_that_runs(home, quicflow, connected, code):
    save(home, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    write_secret(home.credential, "x")
    lock = Lock(home.lock)
    home.status.write_text(
        json.dumps(
            {
                "connected": connected,
                "server": "a.example:8474",
                "problem": "nobody listens",
                "group": "default",
                "local_firing": not connected,
                "clock_offset_ms": 7,
            }
        )
    )
    found, out, _ = quicflow("agent", "status")
    assert found == code
    assert f"Agent: running, pid {os.getpid()}" in out
    assert ("Connection: a.example:8474" if connected else "Connection: nobody listens") in out
    assert ("Fired by: the server" if connected else "Fired by: this agent") in out
    lock.release()


def test_status_and_run_before_joining_say_what_to_do(home, quicflow):
    for command in ("status", "run"):
        code, _, err = quicflow("agent", command)
        assert code == 1
        assert "quicflow agent join" in err


def test_run_refuses_a_second_agent_and_a_wrong_level(home, quicflow):
    save(home, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    write_secret(home.credential, "x")
    lock = Lock(home.lock)
    done = subprocess.run([*PROGRAM, "agent", "run"], capture_output=True, check=False)
    assert done.returncode == 1
    assert f"pid {os.getpid()}" in done.stderr.decode()
    lock.release()
    code, _, err = quicflow("agent", "run", "--log-level", "loud")
    assert (code, err) == (1, "The log level is one of DEBUG, INFO, WARNING and ERROR.\n")


def test_run_says_when_its_records_cannot_be_opened(home):
    save(home, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    write_secret(home.credential, "x")
    home.store.write_bytes(b"garbage" * 1000)
    done = subprocess.run([*PROGRAM, "agent", "run"], capture_output=True, check=False)
    assert done.returncode == 1
    assert "The record of executions cannot be opened" in done.stderr.decode()


def test_version_and_help(quicflow):
    code, out, _ = quicflow("--version")
    assert (code, out) == (0, "quicflow 0.1.0\n")
    for arguments in (["--help"], ["agent", "--help"], ["task", "--help"], ["agent", "join", "--help"]):
        code, out, _ = quicflow(*arguments)
        assert code == 0
        assert "Usage" in out
