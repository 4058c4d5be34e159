"""The command `quicflow task` (PRD FR-5.5), as its users see it."""

import json
import os
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
import typer.main
from quartzflow_agent.cli import output
from quartzflow_agent.cli.app import app
from quartzflow_agent.config import AgentConfig, Endpoint, save
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import tasks
from quartzflow_agent.store.database import open_database

from tests.agent.records import DAY, PROGRAM
from tests.agent.support import START, task_config

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
    assert code == 1
    assert err.startswith("“yesterday”不是")


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


@pytest.fixture
def far_from_utc(monkeypatch):
    """The host's time zone is fourteen hours ahead."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_history_lists_the_executions_of_a_day(filled, quicflow, far_from_utc):
    code, out, _ = quicflow("task", "history", "--date", DAY, "--task-id", "1")
    assert code == 0
    assert out.splitlines()[1].startswith(f"│ Executions - {DAY} (UTC) ")
    assert [cell.strip() for cell in out.splitlines()[5].strip("│").split("│")] == [
        "日志清理",
        "Success",
        datetime.fromtimestamp(START / 1000, UTC).strftime("%H:%M:%S"),
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


@pytest.mark.parametrize("command", [("task", "stats"), ("task", "history"), ("agent", "status")])
def test_damaged_records_are_one_line_that_says_where_to_look(filled, quicflow, command):
    save(filled, AgentConfig([Endpoint("a.example", 8474)], "c1"))
    data = bytearray(filled.store.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 200] = b"\xff" * 200
    filled.store.write_bytes(data)
    code, out, err = quicflow(*command)
    assert (code, out) == (1, "")
    assert re.fullmatch(
        r"The records of this host cannot be read \(.+\): quicflow agent doctor says .+\n", err
    )


@pytest.mark.parametrize("arguments", [("--days", "7"), ("--today", "--task-id", "1", "--days", "7")])
def test_days_that_would_not_count_are_not_ignored(filled, quicflow, arguments):
    code, out, err = quicflow("task", "stats", *arguments)
    assert (code, out, err) == (1, "", "--days goes with --task-id, and not with --today.\n")


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
    took = []
    for _ in range(5):
        started = time.process_time()  # whatever else the machine has to do
        found = [statistics.of_day(db, f"2025-01-0{day + 1}") for day in range(7)]
        took.append(time.process_time() - started)
    assert min(took) < 0.1
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


# --- help ---


def commands():
    """Every command, as words."""
    root = typer.main.get_command(app)
    return [
        (group, name) for group, found in sorted(root.commands.items()) for name in sorted(found.commands)
    ]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_ends_with_an_example_of_the_command(quicflow, words):
    code, out, _ = quicflow(*words, "--help")
    assert code == 0
    example = " ".join(out.split()).rpartition("Example: ")[2]
    assert re.fullmatch(rf"(\S+ )*quicflow {' '.join(words)}( .*)?", example), out


def test_the_frame_of_help_and_errors_is_chinese_too():
    env = {**os.environ, "LANG": "zh_CN.UTF-8", "COLUMNS": "100"}
    env = {name: value for name, value in env.items() if name not in ("LANGUAGE", "LC_ALL", "LC_MESSAGES")}
    done = subprocess.run([*PROGRAM, "task", "stats", "--help"], env=env, capture_output=True, text=True)
    assert "─ 选项 ─" in done.stdout
    assert "示例：quicflow task stats" in done.stdout
    done = subprocess.run([*PROGRAM, "task", "strange"], env=env, capture_output=True, text=True)
    assert (done.returncode, "没有这个命令：'strange'。" in done.stderr) == (2, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell):
    env = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run([*PROGRAM, "--show-completion", shell], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "COMPLETE" in done.stdout
