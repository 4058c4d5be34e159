"""The supervisor: order, restarts, giving up, stopping; with real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.services import ROOT, wait_until

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP


class Supervised:
    """A supervisor that runs, and what it has printed."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process = process
        self.log = log

    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, pattern: str, count: int = 1) -> None:
        wait_until(
            lambda: len(re.findall(pattern, self.text())) >= count, 10, lambda: f"{pattern} in {self.text()}"
        )

    def end(self) -> tuple[int, float]:
        """Wait for its end: the exit code, and the seconds it took."""
        started = time.monotonic()
        return self.process.wait(15), time.monotonic() - started


def program(name: str, code: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "command": [sys.executable, "-c", code], "start_seconds": 0, **more}


@contextmanager
def supervised(directory: Path, *programs: dict[str, Any], stop_seconds: float = 8.0) -> Iterator[Supervised]:
    given = json.dumps({"directory": str(directory), "programs": programs, "stop_seconds": stop_seconds})
    log = directory / "printed"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.quartzflow.run.supervised", given],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield Supervised(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def pids(run: Supervised) -> dict[str, int]:
    """The process of each program that has been reported to run, the last one if there were several."""
    return {name: int(pid) for name, pid in re.findall(r"(\w+) runs \(process (\d+)\)", run.text())}


def test_programs_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    slow = f"import pathlib, time; time.sleep(0.5); pathlib.Path({str(ready)!r}).touch(); {SLEEP}"
    with supervised(tmp_path, program("first", slow, ready_file=str(ready)), program("second", SLEEP)) as run:
        run.wait_for(r"\| up", 2)
        run.process.terminate()
        code, seconds = run.end()
    lines = run.text().splitlines()
    assert code == 0
    assert seconds < 3
    assert [line for line in lines if line.endswith("| up")] == ["first  | up", "second | up"]
    assert [line for line in lines if "stopped" in line] == [
        "run    | second stopped",
        "run    | first stopped",
    ]
    assert (tmp_path / "second.log").read_text() == "up\n"


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    with supervised(tmp_path, program("steady", SLEEP)) as run:
        run.wait_for(r"steady runs")
        os.kill(pids(run)["steady"], signal.SIGKILL)
        run.wait_for(r"steady runs", 2)
        run.process.send_signal(signal.SIGINT)
        assert run.end()[0] == 0
    assert "steady ended unexpectedly (terminated by SIGKILL); starting it again" in run.text()


def test_the_way_a_program_ended_is_told(tmp_path: Path) -> None:
    ends = "import os, time; time.sleep(0.3); os._exit(7)"
    with supervised(
        tmp_path, program("fickle", ends), program("hasty", "raise SystemExit(3)", start_seconds=1)
    ) as run:
        run.wait_for(r"fickle ended unexpectedly \(exit status 7\)")
        run.wait_for(r"hasty ended unexpectedly \(exit status 3\)")


def test_what_cannot_start_ends_everything_and_says_why(tmp_path: Path) -> None:
    broken = program("broken", "raise SystemExit('no such table')", start_seconds=1)
    with supervised(tmp_path, program("steady", SLEEP), broken) as run:
        code, _ = run.end()
    assert code == 1
    assert "broken keeps dying, so everything stops. The last it said:\n    no such table" in run.text()
    assert "steady stopped" in run.text()


def test_what_keeps_dying_ends_everything(tmp_path: Path) -> None:
    with supervised(tmp_path, program("fickle", "import time; time.sleep(0.3); print('I go')")) as run:
        code, _ = run.end()
    assert code == 1
    assert run.text().count("fickle ended unexpectedly") == 6
    assert "The last it said:\n    I go\n" in run.text()


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    missing = {"name": "missing", "command": ["/nonexistent/program"], "start_seconds": 1}
    with supervised(tmp_path, missing) as run:
        code, _ = run.end()
    assert code == 1
    assert "can't find command '/nonexistent/program'" in run.text()


def test_who_ignores_the_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); {STUBBORN}"
    with supervised(tmp_path, program("stubborn", parent, stop_seconds=1)) as run:
        run.wait_for(r"\| up", 2)
        wait_until(lambda: "stubborn" in pids(run), 5, "its process id")
        family = psutil.Process(pids(run)["stubborn"]).children(recursive=True)
        run.process.terminate()
        code, seconds = run.end()
    assert (code, len(family)) == (0, 1)
    assert 0.8 < seconds < 4
    wait_until(lambda: not family[0].is_running(), 2, "the child's end")


def test_all_is_over_within_the_time_allowed(tmp_path: Path) -> None:
    programs = [program(f"stubborn{n}", STUBBORN, stop_seconds=30) for n in range(3)]
    with supervised(tmp_path, *programs, stop_seconds=1.5) as run:
        run.wait_for(r"\| up", 3)
        run.process.terminate()
        code, seconds = run.end()
    assert code == 0
    assert 1.3 < seconds < 4


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with supervised(tmp_path, program("stubborn", STUBBORN, stop_seconds=30), stop_seconds=30) as run:
        run.wait_for(r"\| up")
        run.process.send_signal(signal.SIGINT)
        run.wait_for(r"\| stopping")
        run.process.send_signal(signal.SIGINT)
        code, seconds = run.end()
    assert code == 0
    assert seconds < 3


def test_programs_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path, program("steady", SLEEP)) as run:
        run.wait_for(r"steady runs")
        process = psutil.Process(pids(run)["steady"])
        run.process.kill()
        run.end()
        wait_until(lambda: not process.is_running(), 5, "the program's end")


def test_nobody_reading_ends_it(tmp_path: Path) -> None:
    chatter = "import time\nwhile True: print('word', flush=True); time.sleep(0.1)"
    given = json.dumps(
        {"directory": str(tmp_path), "programs": [program("chatter", chatter)], "stop_seconds": 8}
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.quartzflow.run.supervised", given], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(10)  # raises where it goes on
