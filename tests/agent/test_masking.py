"""Secrets do not show in what executions print, however it arrives."""

import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quartzflow_agent.clock import ServerClock
from quartzflow_agent.executors import ProcessRunner, executors
from quartzflow_agent.executors.output import STDERR, STDOUT, Output
from quartzflow_agent.masking import MASK, Mask, secrets_of
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.runner import Run

SECRET = 'p@ss "word"/1'


def cut(text: str, places: "list[int]") -> "list[str]":
    ends = sorted({min(place, len(text)) for place in places} | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(ends)]


@given(
    st.lists(st.sampled_from(["abcabd", "abc", "bcab", "x", " ", "ab", "\n"]), max_size=12).map("".join),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_in_whatever_pieces_it_comes_the_result_is_the_same(text: str, places: "list[int]") -> None:
    mask = Mask(["abcabd", "abc"])
    stream = mask.stream()
    pieces = [stream.feed(piece) for piece in cut(text, places)]
    assert "".join([*pieces, stream.feed("", final=True)]) == mask.whole(text)


@pytest.mark.parametrize(
    "form", [SECRET, json.dumps(SECRET), "p%40ss%20%22word%22%2F1", "p%40ss+%22word%22%2F1"]
)
def test_other_ways_to_write_it_are_hidden_too(form: str) -> None:
    shown = Mask([SECRET]).whole(f"a {form} b")
    assert MASK in shown and "word" not in shown


def test_nothing_is_held_back_that_cannot_be_one() -> None:
    stream = Mask(["secret"]).stream()
    assert stream.feed("hello\n") == "hello\n"
    assert stream.feed("my sec") == "my "
    assert stream.feed("tion\n") == "section\n"


def test_without_secrets_text_passes() -> None:
    assert Mask([]).stream().feed("anything") == "anything"


def test_what_cannot_be_read_holds_no_secrets() -> None:
    for text in ("", "no json", "[1]", '{"a": 1}'):
        assert secrets_of(task_pb2.TaskExecution(executor_config={"secrets": text})) == []


def test_log_head_and_errors_are_masked(tmp_path: Path) -> None:
    output = Output(tmp_path / "log", 10_000, ["hunter2-hunter2"])
    data = b"out hunter2-hunter2 \xe4\xb8\xad end\n" * 3
    for piece in cut(data.decode("latin-1"), random.Random(1).sample(range(len(data)), 9)):
        output.feed(STDOUT, piece.encode("latin-1"))
    output.feed(STDERR, b"err hunter2-hunt")
    output.feed(STDERR, b"er2")
    output.note("note hunter2-hunter2")
    output.close()
    log = (tmp_path / "log").read_text()
    for text in (log, output.head, output.errors):
        assert "hunter2" not in text and MASK in text
    assert log.count(f"out {MASK} 中 end") == 3


async def _run(tmp_path: Path, config: "dict[str, str]"):
    instruction = task_pb2.TaskExecution(
        task_id="1", execution_id="e1", executor_type=task_pb2.SHELL, executor_config=config, timeout=20
    )

    async def ignore(pid: int) -> None:
        return None

    runner = executors(ProcessRunner(tmp_path))[int(task_pb2.SHELL)]
    run = Run(instruction, ServerClock(), lambda progress: None, ignore)
    return await run.execute(runner, tmp_path / "logs" / "log", 10_000, tmp_path)


async def test_a_command_gets_it_in_its_environment_and_cannot_print_it(tmp_path: Path) -> None:
    ending = await _run(
        tmp_path,
        {
            "command": 'echo "it is $TOKEN"; echo "$TOKEN" >&2; echo ${#TOKEN}; exit 3',
            "env": json.dumps({"TOKEN": "{{ secrets.TOKEN }}"}),
            "secrets": json.dumps({"TOKEN": "hunter2-hunter2"}),
        },
    )
    assert sorted(ending.output.splitlines()) == sorted([f"it is {MASK}", MASK, "15"])
    assert ending.error == MASK
    assert "hunter2" not in (tmp_path / "logs" / "log").read_text()


async def test_one_that_did_not_come_is_named(tmp_path: Path) -> None:
    config = {"command": "date", "env": json.dumps({"T": "{{ secrets.TOKEN }}"}), "secrets": "{}"}
    ending = await _run(tmp_path, config)
    assert ending.failure_reason == "rejected"
    assert "{{ secrets.TOKEN }}: the server has no such secret" in ending.error
