"""Statistics of a host's day: the agent's counts beside our own, and the records that we lack."""

import pytest
from quartzflow_agent.protocol import task_pb2 as pb

from executions_app import daily
from executions_app.ingest import ingest
from executions_app.models import DailyStats, Execution
from tasks_app.actions import do_delete_tasks
from tests import people
from tests.executions_app.test_ingest import MS, ended, fired, running

pytestmark = pytest.mark.django_db
DAY = "2026-03-01"


def report(*stats, client="web-1", day=DAY):
    """What an agent counts: (task id, successes, failures) each. Returns the tasks of which records are wanted."""
    found = [
        pb.TaskStats(task_id=str(pk), task_name="job", success_count=s, failure_count=f) for pk, s, f in stats
    ]
    return daily.ingest_daily_stats(client, pb.DailyStatsReport(client_id=client, date=day, task_stats=found))


@pytest.fixture
def ran():
    """One good execution of a task, reported; returns the task's id."""
    ingest([ended(fired())])
    return Execution.objects.get().task_id


def counts():
    row = DailyStats.objects.get()
    return (row.success_count, row.failure_count, row.agent_counts and row.agent_counts["missing"])


def test_the_same_counts_leave_no_trace(ran):
    assert report((ran, 1, 0)) == []
    assert counts() == (1, 0, None)


def test_a_record_that_is_missing_is_asked_for_once_and_then_seen(ran):
    assert report((ran, 3, 0)) == [str(ran)]
    assert counts() == (1, 0, 2)
    assert report((ran, 3, 0)) == []
    assert DailyStats.objects.get().agent_counts == {
        "success_count": 3, "failure_count": 0, "timeout_count": 0, "cancelled_count": 0, "missing": 2,
    }  # fmt: skip
    # Another one that is lost is another question; one of these that came is none.
    assert report((ran, 4, 0)) == [str(ran)]
    assert report((ran, 1, 0)) == []
    assert counts() == (1, 0, None)


def test_what_the_agent_sends_again_closes_the_gap():
    name = fired()
    lost = ended(name, local=True, task_id=str(Execution.objects.get().task_id), scheduled_time=MS)
    ingest([lost])
    task_id = Execution.objects.get().task_id
    Execution.objects.all().delete()  # as after a restore of an older backup
    assert report((task_id, 1, 0)) == [str(task_id)]
    assert counts() == (0, 0, 1)
    assert ingest([lost]).committed == {name}
    assert report((task_id, 1, 0)) == []
    assert counts() == (1, 0, None)


def test_what_differs_without_missing_anything_is_kept_but_not_asked_for(ran):
    assert report((ran, 0, 1)) == []
    assert counts() == (1, 0, 0)


def test_an_attempt_that_is_to_be_repeated_is_not_missing():
    name = fired(retry_count=1)
    ingest([running(name), ended(name, pb.FAILURE, exit_code=1)])
    task_id = Execution.objects.get().task_id
    assert report((task_id, 0, 1)) == []
    assert counts() == (0, 0, 0)


def test_a_task_that_is_gone_still_has_its_counts(ran):
    Execution.objects.all().delete()
    task = people.task("gone")
    pk = task.pk
    do_delete_tasks(people.admin(), [task])
    assert report((pk, 1, 0)) == [str(pk)]
    assert (DailyStats.objects.get().task_id, DailyStats.objects.get().task_name) == (pk, "job")


@pytest.mark.parametrize("task_id", ["9" * 18, "9" * 40, "x", ""])
def test_nothing_is_written_for_a_task_that_never_was(ran, task_id):
    assert report((ran, 1, 0), (task_id, 5, 0)) == []
    assert counts() == (1, 0, None)


def test_durations_are_counted_and_a_day_that_is_none_is_refused(ran):
    report((ran, 1, 0))
    assert DailyStats.objects.get().total_duration_ms == 100
    with pytest.raises(ValueError, match="isoformat"):
        report(day="yesterday")


def test_hosts_do_not_see_each_others_counts(ran):
    people.online_client("web-2")
    assert report((ran, 1, 0), client="web-2") == [str(ran)]
    assert report((ran, 1, 0)) == []


def test_a_report_costs_the_same_whatever_its_length(ran, django_assert_max_num_queries):
    with django_assert_max_num_queries(12):
        report(*[(ran + number, 2, 0) for number in range(200)])
