"""Reports of agents: in any order, any number of times, one truth."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from quartzflow_agent.protocol import task_pb2 as pb
from quartzflow_agent.schedule import execution_id

from executions_app.control import do_disable_tasks, do_trigger_task
from executions_app.dispatch import Firing, fire
from executions_app.ingest import Accepted, Progress, Rejected, Result, ingest
from executions_app.models import Attempt, Execution, ExecutionLog
from quartzflow.execution_status import ExecutionStatus
from tasks_app.models import Task
from tests import people

NOON = people.at(2026, 3, 1, 12, 0)
MS = int(NOON.timestamp() * 1000)


def fired(**fields):
    people.online_client()
    task = people.task(**fields)
    return fire([Firing(task.pk, NOON)])[0].execution_id


def running(name, output="", offset=0, attempt=0):
    return Progress(
        "web-1",
        pb.TaskProgress(
            execution_id=name,
            status=pb.RUNNING,
            started_at=MS + 5,
            output=output,
            output_offset=offset,
            attempt=attempt,
        ),
    )


def ended(name, status=pb.SUCCESS, client="web-1", **fields):
    values = {"started_at": MS + 5, "finished_at": MS + 105, "has_exit_code": True, **fields}
    return Result(client, pb.TaskResult(execution_id=name, status=status, **values))


@pytest.mark.django_db
class TestOneExecution:
    def test_the_whole_way(self):
        name = fired()
        ingest([Accepted("web-1", name), running(name, "hel")])
        row = Execution.objects.get()
        assert (row.status, row.accepted_at is not None) == (ExecutionStatus.RUNNING, True)
        assert row.start_time == NOON + timedelta(milliseconds=5)
        ingest([running(name, "lo", 3)])
        assert ExecutionLog.objects.get().output == "hello"
        outcome = ingest([ended(name, output="hello\n", output_size=6)])
        assert outcome.committed == {name}
        row = Execution.objects.get()
        assert (row.status, row.duration, row.exit_code, row.failure_reason) == (3, 100, 0, "")
        assert ExecutionLog.objects.get().output == "hello\n"

    def test_a_result_alone_is_enough_and_may_come_again(self):
        name = fired()
        assert ingest([ended(name)]).committed == {name}
        assert ingest([ended(name, pb.FAILURE), running(name)]).committed == {name}
        assert Execution.objects.get().status == ExecutionStatus.SUCCESS
        assert Attempt.objects.count() == 1

    def test_a_client_cannot_speak_for_another(self):
        name = fired()
        people.online_client("evil")
        outcome = ingest([ended(name, client="evil"), Accepted("evil", name)])
        assert name in outcome.refused and not outcome.committed
        assert Execution.objects.get().status == ExecutionStatus.PENDING

    def test_repeated_increments_are_seen_once(self):
        name = fired()
        ingest([running(name, "你好"), running(name, "你好"), running(name, "!", 6)])
        log = ExecutionLog.objects.get()
        assert (log.output, log.size) == ("你好!", 7)

    def test_output_is_cut_at_10_kb_and_says_so(self):
        name = fired()
        ingest([ended(name, output="好" * 5000, error="e" * 5000, output_size=15000)])
        log = ExecutionLog.objects.get()
        assert (len(log.output.encode()), log.truncated, log.size, len(log.error_msg)) == (
            10239,
            True,
            15000,
            2048,
        )

    def test_nul_does_not_reach_the_database(self):
        name = fired()
        ingest([ended(name, output="a\0b")])
        assert ExecutionLog.objects.get().output == "a�b"

    def test_a_failure_is_tried_again_and_the_last_attempt_counts(self):
        name = fired(retry_count=1, retry_interval=7)
        ingest([Accepted("web-1", name), running(name), ended(name, pb.FAILURE, exit_code=2, output="one")])
        row = Execution.objects.get()
        assert (row.status, row.retry_count, row.accepted_at) == (ExecutionStatus.RUNNING, 1, None)
        assert row.next_retry_at is not None
        ingest([ended(name, pb.FAILURE, exit_code=2, output="one")])  # the agent says it again
        assert Execution.objects.get().retry_count == 1
        # A copy of its first instruction is answered now: the next attempt is still to be sent.
        ingest([Accepted("web-1", name), Rejected("web-1", name, "rejected")])
        row = Execution.objects.get()
        assert (row.accepted_at, row.status) == (None, ExecutionStatus.RUNNING)
        assert row.next_retry_at is not None
        ingest([Accepted("web-1", name, 1), running(name, attempt=1), ended(name, attempt=1, output="two")])
        row = Execution.objects.get()
        assert (row.status, row.retry_count, row.next_retry_at) == (ExecutionStatus.SUCCESS, 1, None)
        ingest([ended(name, pb.FAILURE, exit_code=2, output="one")])
        assert ExecutionLog.objects.get().output == "two"
        assert list(Attempt.objects.values_list("number", "status", "exit_code")) == [(0, 4, 2), (1, 3, 0)]

    def test_a_task_that_was_disabled_meanwhile_is_not_tried_again(self):
        name = fired(retry_count=3)
        ingest([running(name)])
        do_disable_tasks(people.admin(), [Task.objects.get()])
        ingest([ended(name, pb.FAILURE, exit_code=7)])
        row = Execution.objects.get()
        assert (row.status, row.failure_reason, row.retry_count) == (ExecutionStatus.FAILURE, "exit_code", 0)
        assert row.next_retry_at is None

    def test_what_somebody_began_by_hand_is_tried_again_all_the_same(self):
        people.online_client()
        task = people.task(retry_count=3)
        name = do_trigger_task(people.admin(), task)[0].execution_id
        do_disable_tasks(people.admin(), [task])
        ingest([ended(name, pb.FAILURE)])
        assert (Execution.objects.get().status, Execution.objects.get().retry_count) == (2, 1)

    def test_cancelled_is_not_tried_again(self):
        name = fired(retry_count=3)
        ingest([ended(name, pb.CANCELLED, failure_reason="cancelled_by_user")])
        assert Execution.objects.get().status == ExecutionStatus.CANCELLED

    @pytest.mark.parametrize("reason", ["expired", "rejected"])
    def test_what_its_host_would_not_start_is_not_tried_again(self, reason):
        name = fired(retry_count=3)
        ingest([ended(name, pb.FAILURE, failure_reason=reason, started_at=0)])
        row = Execution.objects.get()
        assert (row.status, row.failure_reason, row.retry_count) == (ExecutionStatus.FAILURE, reason, 0)

    def test_the_agents_word_wins_over_the_servers_guess(self):
        name = fired()
        Execution.objects.update(status=4, failure_reason="agent_lost")
        ingest([ended(name)])
        row = Execution.objects.get()
        assert (row.status, row.failure_reason) == (ExecutionStatus.SUCCESS, "")

    def test_and_over_a_cancel_that_came_too_late(self):
        name = fired(retry_count=1)
        Execution.objects.update(status=6, failure_reason="cancelled_by_user", end_time=NOON)
        assert ingest([ended(name)]).committed == {name}
        row = Execution.objects.get()
        assert (row.status, row.failure_reason) == (ExecutionStatus.SUCCESS, "")

    def test_what_was_cancelled_and_failed_is_not_tried_again(self):
        name = fired(retry_count=1)
        Execution.objects.update(status=6, failure_reason="cancelled_by_user", end_time=NOON)
        ingest([ended(name, pb.FAILURE, exit_code=2)])
        row = Execution.objects.get()
        assert (row.status, row.retry_count, row.next_retry_at) == (ExecutionStatus.FAILURE, 0, None)

    def test_a_cancel_that_came_in_time_ended_when_the_agent_says_once(self, monkeypatch):
        name = fired()
        Execution.objects.update(status=6, failure_reason="cancelled_by_user", end_time=NOON)
        report = ended(name, pb.CANCELLED, failure_reason="cancelled_by_user", exit_code=143)
        ingest([report])
        row = Execution.objects.get()
        assert (row.status, row.exit_code) == (ExecutionStatus.CANCELLED, 143)
        assert row.end_time.timestamp() * 1000 == report.message.finished_at
        changed = []
        monkeypatch.setattr("executions_app.ingest.after_end", changed.append)
        ingest([report])
        assert changed == [set()]

    def test_an_earlier_attempts_end_does_not_undo_the_cancel_of_the_next(self):
        name = fired(retry_count=1)
        Execution.objects.update(
            status=6, failure_reason="task_disabled", end_time=NOON, retry_count=1, local=True
        )
        ingest([ended(name, pb.FAILURE, exit_code=2, local=True)])
        assert Execution.objects.get().status == ExecutionStatus.CANCELLED

    def test_a_refusal_is_a_failure_with_its_reason(self):
        name = fired(retry_count=2)
        ingest([Rejected("web-1", name, "rejected", "shell is forbidden by agent.toml")])
        row = Execution.objects.get()
        assert (row.status, row.failure_reason) == (ExecutionStatus.FAILURE, "rejected")
        assert ExecutionLog.objects.get().error_msg == "shell is forbidden by agent.toml"

    def test_nonsense_does_no_harm(self):
        name = fired()
        ingest([ended(name, 77, started_at=-5, finished_at=2**62, exit_code=-1, failure_reason="nonsense")])
        assert Execution.objects.get().status == ExecutionStatus.FAILURE


@pytest.mark.django_db
class TestFiredByTheAgentItself:
    def report(self, task, client="web-1", when=NOON, name=None, **fields):
        name = name or execution_id(task.pk, when, client)
        extra = {
            "local": True,
            "task_id": str(task.pk),
            "scheduled_time": int(when.timestamp() * 1000),
            **fields,
        }
        return ended(name, client=client, **extra)

    def test_it_is_merged_exactly_once(self):
        people.online_client()
        task = people.task()
        report = self.report(task)
        assert ingest([report]).committed == {report.execution_id}
        assert ingest([report]).committed == {report.execution_id}
        row = Execution.objects.get()
        assert (row.local, row.status, row.scheduled_time, row.client_id) == (True, 3, NOON, "web-1")

    def test_the_servers_word_that_nobody_was_there_becomes_its_row(self):
        task = people.task()
        fire([Firing(task.pk, NOON)])
        nobody = Execution.objects.get()
        assert (nobody.client_id, nobody.failure_reason) == ("", "no_online_client")
        for name in ("web-1", "web-2"):
            people.online_client(name)
        reports = [self.report(task), self.report(task, client="web-2")]
        assert ingest(reports).committed == {report.execution_id for report in reports}
        rows = Execution.objects.order_by("client_id")
        assert [(row.client_id, row.status, row.failure_reason) for row in rows] == [
            ("web-1", ExecutionStatus.SUCCESS, ""),
            ("web-2", ExecutionStatus.SUCCESS, ""),
        ]
        assert (rows[0].pk, rows[0].execution_id) == (nobody.pk, reports[0].execution_id)
        ingest(reports)
        assert Execution.objects.count() == 2

    def test_it_falls_on_the_servers_own_firing(self):
        people.online_client()
        task = people.task()
        fire([Firing(task.pk, NOON)])
        ingest([self.report(task)])
        assert Execution.objects.count() == 1

    @pytest.mark.parametrize(
        "wrong", [{"name": "exec_made_up"}, {"task_id": "99999"}, {"local": False}, {"scheduled_time": 0}]
    )
    def test_a_name_that_is_not_its_own_is_refused(self, wrong):
        people.online_client()
        report = self.report(people.task(), **wrong)
        assert report.execution_id in ingest([report]).refused
        assert not Execution.objects.exists()


class TestAnyOrder(TestCase):
    """Whatever order and number the reports come in, the end is the same as their set says."""

    @hypothesis_settings(max_examples=25, deadline=None)
    @given(st.lists(st.sampled_from(["accept", "start", "fail0", "start1", "end1"]), max_size=10), st.data())
    def test_a_status_never_moves_back(self, steps, data):
        name = fired(retry_count=1)
        reports = {
            "accept": Accepted("web-1", name),
            "start": running(name),
            "fail0": ended(name, pb.FAILURE, exit_code=1),
            "start1": running(name, attempt=1),
            "end1": ended(name, attempt=1),
        }
        seen = 0
        while steps:
            count = data.draw(st.integers(1, len(steps)))
            batch, steps = steps[:count], steps[count:]
            ingest([reports[step] for step in batch])
            row = Execution.objects.get(execution_id=name)
            assert row.status >= seen
            if seen == ExecutionStatus.SUCCESS:
                assert row.status == ExecutionStatus.SUCCESS
            seen = row.status
