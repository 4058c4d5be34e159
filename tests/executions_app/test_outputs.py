"""Pieces of output: in whatever way they come, nothing of it is doubled or swallowed."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from quartzflow_agent.protocol import task_pb2 as pb

from executions_app.ingest import Progress, ingest
from executions_app.models import Execution, ExecutionLog
from executions_app.outputs import save_outputs
from tests.executions_app.test_ingest import MS, ended, fired


def piece(name, text, offset, attempt=0, started_at=MS + 5):
    return Progress(
        "web-1",
        pb.TaskProgress(
            execution_id=name, status=pb.RUNNING, started_at=started_at, output=text, output_offset=offset,
            attempt=attempt,
        ),
    )  # fmt: skip


def stored():
    return ExecutionLog.objects.get().output


def grown(*found):
    """What pages are shown of these (offset, text) of the one execution."""
    pk = Execution.objects.get().pk
    return [
        (offset, text)
        for _, offset, text in save_outputs(
            [(pk, pb.TaskProgress(output=text, output_offset=offset)) for offset, text in found], []
        )
    ]


@pytest.mark.django_db
class TestPieces:
    def test_what_overlaps_is_stored_once(self):
        name = fired()
        ingest([piece(name, "one two ", 0)])
        ingest([piece(name, "two three ", 4), piece(name, "one two ", 0), piece(name, "ee four", 11)])
        assert stored() == "one two three four"

    def test_a_gap_is_filled_by_what_comes_again(self):
        name = fired()
        ingest([piece(name, "one ", 0)])
        ingest([piece(name, "three ", 8)])  # "two " was lost with its connection
        assert stored() == "one "
        ingest([piece(name, "one two three ", 0), piece(name, "four", 14)])
        assert stored() == "one two three four"

    def test_or_by_the_result(self):
        name = fired()
        ingest([piece(name, "one ", 0), piece(name, "three", 8)])
        ingest([ended(name, output="one two three", output_size=13)])
        assert stored() == "one two three"

    def test_pages_get_what_lies_behind_the_stored_part_and_behind_gaps(self):
        fired()
        assert grown((0, "ab"), (0, "ab"), (1, "bc"), (9, "later")) == [(0, "ab"), (1, "bc"), (9, "later")]
        assert grown((0, "abc"), (3, "d"), (9, "later")) == [(3, "d"), (9, "later")]
        big = "x" * 12_000
        assert grown((4, big), (12_004, "more"), (12_004, "more")) == [
            (4, big),
            (12_004, "more"),
            (12_004, "more"),
        ]
        assert len(stored()) == 10_240
        assert ExecutionLog.objects.get().size == 12_008

    def test_characters_of_several_bytes_keep_their_places(self):
        name = fired()
        ingest([piece(name, "日志", 0), piece(name, "志清理", 3), piece(name, "！", 12)])
        assert stored() == "日志清理！"

    def test_each_attempt_has_its_own(self):
        name = fired(retry_count=1)
        ingest(
            [piece(name, "first attempt", 0), ended(name, pb.FAILURE, exit_code=1, output="first attempt")]
        )
        assert stored() == "first attempt"
        ingest([piece(name, "", 0, attempt=1, started_at=MS + 900)])
        assert stored() == ""
        ingest([piece(name, "se", 0, attempt=1, started_at=MS + 900)])
        # Over a new connection it comes from the beginning again; a late piece of the first attempt changes nothing.
        ingest(
            [
                piece(name, "", 0, attempt=1, started_at=MS + 900),
                piece(name, "second", 0, attempt=1, started_at=MS + 900),
                piece(name, "first attempt", 0),
            ]
        )
        assert stored() == "second"

    def test_a_result_without_its_output_does_not_take_it_away(self):
        """What is sent again long after its log was deleted."""
        name = fired()
        ingest([ended(name, output="kept", output_size=4)])
        ingest([ended(name, output_size=4)])
        assert stored() == "kept"
        ingest([ended(name)])
        assert stored() == ""


class TestAnyPieces(TestCase):
    TEXT = "日志 rotates; naïve £5 🚀 done. " * 3

    @hypothesis_settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40)), max_size=12), st.data())
    def test_are_a_beginning_of_the_text_and_all_of_it_once_it_was_told_again(self, cuts, data):
        name = fired()
        pieces = [(self.TEXT[:at], self.TEXT[at : at + length]) for at, length in cuts]
        while pieces:
            count = data.draw(st.integers(1, len(pieces)))
            batch, pieces = pieces[:count], pieces[count:]
            ingest([piece(name, text, len(before.encode())) for before, text in batch if text])
            log = ExecutionLog.objects.first()
            assert log is None or self.TEXT.startswith(log.output)
        half = len(self.TEXT) // 2
        ingest(
            [piece(name, self.TEXT[:half], 0), piece(name, self.TEXT[half:], len(self.TEXT[:half].encode()))]
        )
        assert stored() == self.TEXT
