"""The settings `nice` and `limits` of Shell tasks."""

import json
import resource

import pytest
from quartzflow_agent.executors import ProcessRunner

NAMES = {
    "cpu_seconds": "Max cpu time",
    "memory_mb": "Max address space",
    "open_files": "Max open files",
    "processes": "Max processes",
    "file_mb": "Max file size",
}


@pytest.mark.parametrize("interpreter", ["sh", "bash", "python3"])
async def test_niceness_and_limits_are_settings(bench, interpreter):
    look = "cat /proc/self/limits; nice" if interpreter != "python3" else (
        "import os; print(open('/proc/self/limits').read()); print(os.nice(0))"
    )  # fmt: skip
    limits = {"cpu_seconds": 30, "memory_mb": 2000, "open_files": 200, "processes": 1500, "file_mb": 3}
    await bench.run(look, interpreter=interpreter, nice="7", limits=json.dumps(limits))
    lines = bench.output.splitlines()
    found = {
        name: next(line for line in lines if line.startswith(title)).split()[-3:-1]
        for name, title in NAMES.items()
    }
    assert found == {
        "cpu_seconds": ["30", "31"],
        "memory_mb": [str(2000 * 2**20)] * 2,
        "open_files": ["200"] * 2,
        "processes": ["1500"] * 2,
        "file_mb": [str(3 * 2**20)] * 2,
    }
    assert lines[-1] == "7"


async def test_a_limit_holds_and_says_so(bench):
    outcome = await bench.run("while :; do :; done", limits='{"cpu_seconds": 1}')
    assert (outcome.exit_code, outcome.error) == (152, "limits, cpu_seconds: 1 s are used up")
    outcome = await bench.run(
        "head -c 3000000 /dev/zero > big", limits='{"file_mb": 1}', work_dir=str(bench.path)
    )
    assert outcome.exit_code != 0
    assert (bench.path / "big").stat().st_size == 2**20


async def test_a_task_cannot_ask_for_more_than_the_host_gives(bench, tmp_path):
    bench.runner = ProcessRunner(tmp_path, cpu_seconds=20)
    await bench.run("ulimit -t", limits='{"cpu_seconds": 3600}')
    assert bench.output == "20\n"
    await bench.run("ulimit -t", limits='{"cpu_seconds": 10}')
    assert bench.output == "10\n"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    await bench.run("ulimit -Hn", limits=json.dumps({"open_files": hard + 1000}))
    assert bench.output == f"{hard}\n"


async def test_niceness_does_not_need_the_tasks_path(bench):
    outcome = await bench.run("echo here", nice="3", env='{"PATH": "/nowhere"}')
    assert (outcome.exit_code, bench.output) == (0, "here\n")
