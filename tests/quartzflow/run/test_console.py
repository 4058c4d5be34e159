"""What `manage.py run` prints."""

import io

import pytest

from quartzflow.run.console import LONGEST_LINE, Console, wants_colour


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_lines_are_printed_whole_behind_their_programs_name() -> None:
    stream = io.StringIO()
    console = Console(stream, ["web", "bridge"], colour=False)
    console.feed("web", b"first\nsec")
    console.feed("bridge", "其他\r\n".encode())
    console.feed("web", b"ond\n")
    assert stream.getvalue().splitlines() == ["web    | first", "bridge | 其他", "web    | second"]


def test_a_character_cut_between_two_reads_is_whole() -> None:
    stream = io.StringIO()
    console = Console(stream, ["web"], colour=False)
    for byte in "任务\n".encode():
        console.feed("web", bytes([byte]))
    assert stream.getvalue() == "web | 任务\n"


def test_what_ends_without_a_newline_is_a_line() -> None:
    stream = io.StringIO()
    console = Console(stream, ["web"], colour=False)
    console.feed("web", b"last words")
    assert stream.getvalue() == ""
    console.flush("web")
    console.flush("web")
    assert stream.getvalue() == "web | last words\n"


def test_a_line_without_end_is_cut() -> None:
    console = Console(io.StringIO(), ["web"], colour=False)
    console.feed("web", b"x" * (LONGEST_LINE + 1))
    assert [len(line) for line in console.last("web")] == [LONGEST_LINE + 1]


def test_the_last_lines_are_remembered_for_each_program() -> None:
    console = Console(io.StringIO(), ["web", "bridge"], colour=False, remember=2)
    console.feed("web", b"1\n2\n3\n")
    assert (console.last("web"), console.last("bridge")) == (["2", "3"], [])


def test_names_are_coloured_and_lines_are_not() -> None:
    stream = io.StringIO()
    Console(stream, ["web"], colour=True).feed("web", b"text\n")
    assert stream.getvalue() == "\x1b[36mweb |\x1b[0m text\n"


def test_it_notices_that_nobody_reads() -> None:
    console = Console(Broken(), ["web"], colour=False)
    console.say("hello")
    assert console.gone


@pytest.mark.parametrize(
    ("stream", "environ", "colour"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    stream: io.StringIO, environ: dict[str, str], colour: bool
) -> None:
    assert wants_colour(stream, environ) is colour
