from hypothesis import given
from hypothesis import strategies as st
from quartzflow_agent.protocol.text import cut_utf8, tail_utf8


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers(0, 40))
def test_the_cut_is_a_prefix_as_long_as_the_limit_allows(text, limit):
    start, truncated = cut_utf8(text, limit)
    size = len(start.encode())
    assert text.startswith(start)
    assert size <= limit
    assert truncated == (start != text)
    if truncated:
        assert size + len(text[len(start)].encode()) > limit


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers(0, 40))
def test_the_tail_is_a_suffix_as_long_as_the_limit_allows(text, limit):
    end, truncated = tail_utf8(text, limit)
    size = len(end.encode())
    assert text.endswith(end)
    assert size <= limit
    assert truncated == (end != text)
    if truncated:
        assert size + len(text[-len(end) - 1].encode()) > limit


def test_a_lone_surrogate_becomes_a_question_mark():
    assert cut_utf8("a\udc80b", 10) == ("a?b", False)
    assert tail_utf8("a\udc80b", 2) == ("?b", True)
