"""How many executions of a task run at once, and what becomes of the others."""

from hypothesis import given
from hypothesis import strategies as st
from quartzflow_agent.lanes import LONGEST_QUEUE, Lanes, Verdict


def test_runs_up_to_the_limit_and_queues_the_rest_in_order():
    lanes = Lanes()
    verdicts = [lanes.admit("1", name, 2, "queue").verdict for name in "abcd"]
    assert verdicts == [Verdict.RUN, Verdict.RUN, Verdict.QUEUED, Verdict.QUEUED]
    assert lanes.release("1", "b") == ["c"]
    assert lanes.release("1", "a") == ["d"]
    assert lanes.release("1", "d") == []


def test_skip_refuses_what_is_too_many():
    lanes = Lanes()
    lanes.admit("1", "a", 1, "skip")
    assert lanes.admit("1", "b", 1, "skip").verdict is Verdict.REFUSED
    lanes.release("1", "a")
    assert lanes.admit("1", "c", 1, "skip").verdict is Verdict.RUN


def test_replace_stops_the_oldest_and_keeps_only_the_newest_waiting():
    lanes = Lanes()
    lanes.admit("1", "a", 2, "replace")
    lanes.admit("1", "b", 2, "replace")
    first = lanes.admit("1", "c", 2, "replace")
    assert (first.verdict, first.stopped, first.dropped) == (Verdict.QUEUED, "a", [])
    second = lanes.admit("1", "d", 2, "replace")
    assert (second.stopped, second.dropped) == (None, ["c"])
    assert lanes.release("1", "a") == ["d"]
    assert lanes.admit("1", "e", 2, "replace").stopped == "b"


def test_tasks_do_not_wait_for_each_other():
    lanes = Lanes()
    assert lanes.admit("1", "a", 1, "queue").verdict is Verdict.RUN
    assert lanes.admit("2", "b", 1, "queue").verdict is Verdict.RUN


def test_a_limit_of_nothing_means_one():
    lanes = Lanes()
    assert [lanes.admit("1", name, 0, "").verdict for name in "ab"] == [Verdict.RUN, Verdict.QUEUED]


def test_the_queue_has_an_end():
    lanes = Lanes()
    for number in range(LONGEST_QUEUE + 1):
        assert lanes.admit("1", str(number), 1, "queue").verdict is not Verdict.REFUSED
    assert lanes.admit("1", "one more", 1, "queue").verdict is Verdict.REFUSED


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 9), st.sampled_from(["queue", "skip", "replace"])),
        max_size=80,
    )
)
def test_never_more_than_the_limit_and_nobody_is_forgotten(steps):
    lanes, running, waiting, number = Lanes(), [], [], 0
    for arrives, index, policy in steps:
        if arrives:
            number += 1
            name = str(number)
            answer = lanes.admit("1", name, 2, policy)
            assert answer.stopped is None or answer.stopped in running
            waiting = [other for other in waiting if other not in answer.dropped]
            if answer.verdict is Verdict.RUN:
                running.append(name)
            elif answer.verdict is Verdict.QUEUED:
                waiting.append(name)
        elif running:
            gone = running.pop(index % len(running))
            started = lanes.release("1", gone)
            assert started == waiting[: len(started)]
            del waiting[: len(started)]
            running += started
        assert len(running) <= 2
        assert not waiting or len(running) == 2
    while running:
        running += lanes.release("1", running.pop())
    assert lanes._lanes == {}
