"""Lines of outputs with a text marked in them, whatever else is in them."""

from hypothesis import given
from hypothesis import strategies as st

from executions_app.log_snippets import ESCAPES, LINES, Finder, snippets

TEXT = st.text(st.sampled_from("abAB<>&\"'\n\r\x1b[31m 中İßſK\x00"), max_size=60)


@given(TEXT, TEXT, st.text(st.sampled_from("abAB<&中İß"), min_size=1, max_size=3))
def test_a_snippet_is_a_part_of_its_line_with_the_text_marked(output, error, text):
    find = Finder(text)
    count, found = snippets(find, output, error)
    assert len(found) <= LINES
    assert (count > 0) == bool(found)
    if not any("İ" in part for part in (output, error, text)):  # its lower case is two characters
        assert bool(found) == (find(output) or find(error))
    for snippet in found:
        whole = {"output": output, "error": error}[snippet.where]
        line = ESCAPES.sub("", whole.split("\n")[snippet.line - 1])
        assert snippet.text.strip("…") in line
        marked = [piece for piece, mark in snippet.pieces if mark]
        assert marked and all(piece.lower() == text.lower() or ESCAPES.search(whole) for piece in marked)


def test_long_lines_are_cut_around_the_text_and_counted():
    output = "first\n" + "a" * 500 + "needle" + "b" * 500 + "needle\nlast needle\n"
    count, (first, second) = snippets(Finder("needle"), output, "")
    assert count == 3
    assert (first.line, second.line) == (2, 3)
    assert first.text == "…" + "a" * 60 + "needle" + "b" * 140 + "…"
    assert first.pieces[2] == ("needle", True)
    assert second.pieces == [("last ", False), ("needle", True)]


def test_colours_are_left_out_also_where_the_cut_is_in_one():
    output = "\x1b[31mERROR\x1b[0m: " + "x" * 53 + " needle\x07"
    (found,) = snippets(Finder("NEEDLE"), output, "")[1]
    assert found.text.startswith("…") and "[0m" not in found.text and "\x07" not in found.text
    (found,) = snippets(Finder("error"), output, "")[1]
    assert found.pieces[0] == ("ERROR", True)
