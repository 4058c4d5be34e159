"""What an execution prints."""

import errno
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quartzflow_agent.executors import logfile
from quartzflow_agent.executors.output import (
    STDERR,
    STDOUT,
    WATCHED_BACKLOG,
    WATCHED_INCREMENT,
    Output,
    saved_output,
)
from quartzflow_agent.protocol.constants import ERROR_LIMIT, OUTPUT_LIMIT


@pytest.fixture
def output(tmp_path):
    made = Output(tmp_path / "day" / "1_exec_1.log", 1_000_000)
    yield made
    made.close()


def text(path):
    return path.read_bytes().decode()


def test_streams_are_merged_in_order_of_arrival_and_errors_are_kept_apart(output, tmp_path):
    output.feed(STDOUT, b"one\n")
    output.feed(STDERR, b"two\n")
    output.feed(STDOUT, b"three\n")
    output.close()
    assert text(tmp_path / "day/1_exec_1.log") == output.head == "one\ntwo\nthree\n"
    assert output.errors == "two\n"
    assert (output.size, output.truncated) == (14, False)


def test_only_its_owner_can_read_the_log(output, tmp_path):
    assert (tmp_path / "day/1_exec_1.log").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "day").stat().st_mode & 0o777 == 0o700


def test_characters_may_arrive_in_pieces_and_between_streams(output):
    data = "日志".encode()
    output.feed(STDOUT, data[:2])
    output.feed(STDERR, b"!")
    output.feed(STDOUT, data[2:])
    assert output.head == "!日志"


def test_what_is_not_utf8_is_replaced(output):
    output.feed(STDOUT, b"a\xffb\x00c")
    output.feed(STDOUT, b"\xe6\x97")
    output.close()
    assert output.head == "a\ufffdb\ufffdc\ufffd"


def test_the_head_is_cut_at_a_character(output):
    output.feed(STDOUT, b"x")
    for _ in range(5000):
        output.feed(STDOUT, "日".encode())
    assert output.head == "x" + "日" * ((OUTPUT_LIMIT - 1) // 3)
    output.feed(STDOUT, b"y")
    assert "y" not in output.head
    assert output.truncated
    assert output.size == 15_002


def test_the_end_of_the_errors_is_kept(output):
    for number in range(1000):
        output.feed(STDERR, f"error {number}\n".encode())
    assert output.errors.endswith("error 999\n")
    assert len(output.errors) <= ERROR_LIMIT


@pytest.mark.parametrize("unit", ["x", "日志", "é\n", "🚀"])
def test_of_a_long_log_beginning_and_end_are_kept(tmp_path, unit):
    output = Output(tmp_path / "x.log", 4096)
    wanted = "".join(f"{number} {unit}\n" for number in range(3000))
    for line in wanted.splitlines(keepends=True):
        output.feed(STDOUT, line.encode())
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4096
    output.close()
    found = (tmp_path / "x.log").read_text(encoding="utf-8")
    head, note, tail = re.split(r"\n\[(\d+) bytes are left out here\]\n", found)
    assert wanted.startswith(head) and wanted.endswith(tail)
    assert (2040 <= len(head.encode()) <= 2048) and (1020 <= len(tail.encode()) <= 2048)
    assert (
        0 <= len(wanted.encode()) - len((head + tail).encode()) - int(note) <= 6
    )  # of characters cut in two
    assert output.size == len(wanted.encode())
    assert output.truncated
    assert [path.name for path in tmp_path.iterdir()] == ["x.log"]


def test_what_just_fits_is_kept_whole(tmp_path):
    for size in (2048, 2049, 3072, 4096):
        output = Output(tmp_path / "x.log", 4096)
        output.feed(STDOUT, b"0123456789" * 410)
        output.close()
        output = Output(tmp_path / "x.log", 4096)
        text = ("0123456789" * 410)[:size]
        output.feed(STDOUT, text.encode())
        output.close()
        assert (tmp_path / "x.log").read_text() == text


def test_a_reader_follows_beyond_the_beginning(tmp_path):
    output = Output(tmp_path / "x.log", 40_000)
    wanted, got = "", ""
    for number in range(4000):
        line = f"line {number} 日志\n"
        output.feed(STDOUT, line.encode())
        wanted += line
        if number % 50 == 0:
            while found := output.increment(True):
                assert found[0] == len(got.encode())
                got += found[1]
    while found := output.increment(True):
        got += found[1]
    assert got == wanted
    output.rewind()  # most of it is not kept any more
    told = []
    while found := output.increment(True):
        told.append(found)
    assert [wanted.encode()[offset:].startswith(text.encode()) for offset, text in told] == [True] * len(told)
    assert wanted.endswith(told[-1][1])
    output.close()


def test_increments_carry_the_head_only_unless_somebody_watches(output):
    output.feed(STDOUT, b"hello")
    assert output.increment(False) == (0, "hello")
    assert output.increment(False) is None
    output.feed(STDOUT, b"x" * 20_000)
    assert output.increment(False) == (5, "x" * (OUTPUT_LIMIT - 5))
    assert output.increment(False) is None
    assert output.increment(True) == (OUTPUT_LIMIT, "x" * (20_005 - OUTPUT_LIMIT))
    assert output.increment(True) is None


def test_a_character_at_the_edge_of_the_head_is_not_swallowed(output):
    output.feed(STDOUT, "日".encode() * 4000)
    offset, head = output.increment(False)
    assert output.increment(False) is None
    offset, more = output.increment(True)
    assert offset == len(head.encode()) == OUTPUT_LIMIT - 1
    assert head + more == "日" * 4000


def test_a_viewer_that_is_far_behind_gets_the_newest(output):
    output.feed(STDOUT, "日".encode() * ((WATCHED_BACKLOG + 5000) // 3))
    offset, piece = output.increment(True)
    assert set(piece) == {"日"}
    assert output.size - offset <= WATCHED_INCREMENT
    assert offset + len(piece.encode()) == output.size


@given(st.lists(st.tuples(st.text(max_size=30), st.booleans()), max_size=30))
def test_increments_put_together_are_the_output(tmp_path_factory, pieces):
    output = Output(tmp_path_factory.mktemp("o") / "x.log", 1_000_000)
    wanted, got = "", ""
    for piece, report in pieces:
        piece = piece.replace("\0", "")
        output.feed(STDOUT, piece.encode())
        wanted += piece
        if report and (found := output.increment(True)):
            offset, more = found
            assert offset == len(got.encode())
            got += more
    if found := output.increment(True):
        got += found[1]
    assert got == wanted
    output.close()


def test_a_full_disk_does_not_end_the_run(output, monkeypatch):
    output.feed(STDOUT, b"before")

    def full(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(output._log, "write", full)
    output.feed(STDOUT, b"lost")
    assert "No space left" in output.write_error
    output.feed(STDOUT, b"more")
    assert (output.size, output.head, output.truncated) == (6, "before", True)


def test_a_disk_that_is_full_at_the_end_is_named(tmp_path, monkeypatch):
    output = Output(tmp_path / "x.log", 1024)
    output.feed(STDOUT, b"x" * 5000)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(logfile.shutil, "copyfileobj", full)
    output.close()
    assert "No space left" in output.write_error
    assert (tmp_path / "x.log").read_bytes().startswith(b"x" * 512)


def test_a_saved_log_is_read_back(tmp_path):
    (tmp_path / "x.log").write_text("日" * 5000)
    head, size, truncated = saved_output(tmp_path / "x.log")
    assert (head, size, truncated) == ("日" * (OUTPUT_LIMIT // 3), 15_000, True)
    assert saved_output(tmp_path / "none.log") == ("", 0, False)
