"""What an execution prints."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
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


def test_the_log_is_cut_at_its_limit_and_says_so(tmp_path):
    output = Output(tmp_path / "x.log", 1024)
    for _ in range(100):
        output.feed(STDOUT, "日志\n".encode() * 5)
    output.close()
    content = text(tmp_path / "x.log")
    assert content.startswith("日志\n" * 146)
    assert content.endswith("\n[the log ends here: 1024 bytes]\n")
    assert content.count("ends here") == 1
    assert output.size == len(content.encode())
    assert output.truncated


def test_increments_carry_the_head_only_unless_somebody_watches(output):
    output.feed(STDOUT, b"hello")
    assert output.increment(False) == (0, "hello")
    assert output.increment(False) is None
    output.feed(STDOUT, b"x" * 20_000)
    assert output.increment(False) == (5, "x" * (OUTPUT_LIMIT - 5))
    assert output.increment(False) is None
    assert output.increment(True) == (OUTPUT_LIMIT, "x" * (20_005 - OUTPUT_LIMIT))
    assert output.increment(True) is None


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
    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            pass

    output._file.close()
    output._file = Full()
    output.feed(STDOUT, b"lost")
    assert "No space left" in output.write_error
    output.feed(STDOUT, b"more")
    assert output.size == 0


def test_a_saved_log_is_read_back(tmp_path):
    (tmp_path / "x.log").write_text("日" * 5000)
    head, size, truncated = saved_output(tmp_path / "x.log")
    assert (head, size, truncated) == ("日" * (OUTPUT_LIMIT // 3), 15_000, True)
    assert saved_output(tmp_path / "none.log") == ("", 0, False)
