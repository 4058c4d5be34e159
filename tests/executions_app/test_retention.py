"""What is older than set goes, in steps, and the day's statistics never notice."""

import itertools
from datetime import timedelta

import pytest
import time_machine
from django.urls import reverse
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from quartzflow_agent.protocol import task_pb2 as pb
from quartzflow_agent.schedule import execution_id

from executions_app import daily, removed, retention, tasks
from executions_app.ingest import Result, ingest
from executions_app.models import Attempt, DailyStats, Execution, ExecutionLog, RemovedExecution
from quartzflow import system_settings
from quartzflow.execution_status import ExecutionStatus
from quartzflow.lease import LeaseKeeper
from quartzflow.models import AuditEntry
from tests import people
from tests.quartzflow.test_console import browser

NOW = people.at(2026, 6, 1, 12, 0)
SUCCESS, FAILURE, RUNNING = ExecutionStatus.SUCCESS, ExecutionStatus.FAILURE, ExecutionStatus.RUNNING
numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _somewhere(settings, tmp_path):
    settings.QF_ARCHIVE_DIR = tmp_path / "archive"


@pytest.fixture(autouse=True)
def _now():
    with time_machine.travel(NOW, tick=True):
        yield


def keep(**days):
    system_settings.assume({"executions_days": 30, "output_days": 0, **days})


def entered(days_ago, status=SUCCESS, output="done\n", duration=100, client="web-1", task_id=7, **fields):
    """An execution that was entered so many days ago."""
    at = NOW - timedelta(days=days_ago)
    name = f"exec_{next(numbers)}"
    row = Execution.objects.create(
        execution_id=name, run_id=name, task_id=task_id, task_name="job", client_id=client, status=status,
        scheduled_time=at, start_time=at, end_time=at, duration=duration, **fields,
    )  # fmt: skip
    Execution.objects.filter(pk=row.pk).update(created_at=at)
    if output:
        ExecutionLog.objects.create(execution=row, output=output, size=len(output))
        Attempt.objects.create(execution=row, number=0, status=status, start_time=at, end_time=at)
    return row


def totals(day):
    """(successes, failures, total, longest, shortest duration) by client."""
    return {
        row.client_id: (
            row.success_count, row.failure_count, row.total_duration_ms, row.max_duration_ms, row.min_duration_ms,
        )
        for row in DailyStats.objects.filter(day=day)
    }  # fmt: skip


def all_steps(**options):
    for _step in range(50):
        if not retention.remove_old(**options).more:
            return
    raise AssertionError("it does not come to an end")


def short_steps(monkeypatch, looks=4):
    """Steps that end after so many looks at the clock, with two rows at a time."""
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "PAUSE", 0)

    def goes_on(self, part=1.0):
        if part == retention.OVERTIME:
            return True
        self.looks = getattr(self, "looks", looks) - 1
        return self.looks >= 0

    monkeypatch.setattr(retention._Step, "goes_on", goes_on)


def test_what_is_older_goes_with_all_that_belongs_to_it(each_database):
    keep()
    old, live = entered(40), entered(40, RUNNING)
    young = entered(29)
    done = retention.remove_old()
    assert (done.executions, done.more) == (1, False)
    assert set(Execution.objects.values_list("pk", flat=True)) == {live.pk, young.pk}
    assert set(ExecutionLog.objects.values_list("pk", flat=True)) == {live.pk, young.pk}
    assert not Attempt.objects.filter(execution_id=old.pk).exists()
    entry = AuditEntry.objects.get(action="execution.prune")
    assert (entry.actor_name, entry.changes["executions"]) == ("system", 1)
    # What ran so long goes when it is over.
    Execution.objects.filter(pk=live.pk).update(status=FAILURE)
    assert retention.remove_old().executions == 1
    assert not retention.remove_old()


def test_a_day_goes_when_it_is_over_everywhere(each_database):
    keep(executions_days=1)
    before, yesterday = (
        entered(1.6),
        entered(1.4),
    )  # 21:36 of the day before yesterday, and 02:24 of yesterday
    retention.remove_old()
    assert Execution.objects.get() == yesterday
    assert not Execution.objects.filter(pk=before.pk).exists()


def test_without_a_number_of_days_all_is_kept(db):
    keep(executions_days=0)
    entered(3000)
    assert not retention.remove_old()
    assert Execution.objects.count() == ExecutionLog.objects.count() == 1


def test_outputs_may_go_earlier(each_database):
    keep(output_days=7)
    gone, kept = entered(8), entered(6)
    assert retention.remove_old().outputs == 1
    assert ExecutionLog.objects.get().pk == kept.pk
    assert set(Execution.objects.values_list("pk", flat=True)) == {gone.pk, kept.pk}
    assert not retention.remove_old()


def test_the_statistics_stay_as_they_are_at_every_step(each_database, monkeypatch):
    keep(archive=False)
    day = (NOW - timedelta(days=40)).date()
    for duration in (5, 40, 3):
        entered(40, duration=duration)
    entered(40, FAILURE, duration=None)
    for duration in (9, 8):
        entered(40, client="web-2", duration=duration)
    wanted = {"web-1": (3, 1, 48, 40, 3), "web-2": (2, 0, 17, 9, 8)}
    short_steps(monkeypatch, looks=3)
    for left in (4, 2, 0):
        done = retention.remove_old()
        assert (Execution.objects.count(), done.more) == (left, left > 0)
        assert totals(day) == wanted
        daily.recount("web-1", day)
        assert totals(day) == wanted
    daily.roll_up(day)
    assert totals(day) == wanted
    assert retention.remove_old().executions == 0


def test_what_ends_while_its_day_goes_is_counted(db, monkeypatch):
    keep(archive=False)
    day = (NOW - timedelta(days=40)).date()
    late = entered(40, RUNNING, duration=None)
    for _n in range(4):
        entered(40)
    short_steps(monkeypatch, looks=3)
    assert retention.remove_old().more
    Execution.objects.filter(pk=late.pk).update(status=SUCCESS, duration=7)
    all_steps()
    assert totals(day) == {"web-1": (5, 0, 407, 100, 7)}


def test_hosts_that_took_nothing_and_several_tasks_are_counted(db):
    keep()
    day = (NOW - timedelta(days=40)).date()
    entered(40, FAILURE, client="", duration=None, output="")
    entered(40, task_id=8)
    entered(40, task_id=9)
    all_steps()
    assert totals(day) == {"": (0, 1, 0, 0, 0), "web-1": (1, 0, 100, 100, 100)}
    assert DailyStats.objects.count() == 3


class TestAnyHistory(TestCase):
    @hypothesis_settings(max_examples=25, deadline=None)
    @given(
        rows=st.lists(
            st.tuples(
                st.sampled_from([SUCCESS, FAILURE, ExecutionStatus.TIMEOUT, ExecutionStatus.CANCELLED, RUNNING]),
                st.sampled_from(["web-1", "web-2"]),
                st.integers(38, 40),
                st.one_of(st.none(), st.integers(1, 1000)),
            ),
            max_size=12,
        ),
        looks=st.integers(3, 5),
    )  # fmt: skip
    def test_sums_do_not_change(self, rows, looks):
        keep(archive=False)
        for status, client, days, duration in rows:
            entered(days, status, client=client, duration=duration, output="")
        days = [(NOW - timedelta(days=number)).date() for number in (38, 39, 40)]
        for day in days:
            daily.roll_up(day)
        wanted = [totals(day) for day in days]
        with pytest.MonkeyPatch.context() as patch:
            short_steps(patch, looks)
            for _step in range(20):
                more = retention.remove_old().more
                assert [totals(day) for day in days] == wanted
                if not more:
                    break
        assert not Execution.objects.exclude(status=RUNNING).exists()


def told(task, days_ago, client="web-1", status=pb.SUCCESS):
    """A host's own record of a firing so many days ago."""
    at = (NOW - timedelta(days=days_ago)).replace(microsecond=0)
    ms = int(at.timestamp() * 1000)
    return Result(
        client,
        pb.TaskResult(
            execution_id=execution_id(task.pk, at, client), task_id=str(task.pk), local=True, status=status,
            scheduled_time=ms, started_at=ms + 5, finished_at=ms + 105, output="late",
        ),
    )  # fmt: skip


class TestLateRecords:
    @pytest.fixture
    def task(self, each_database):
        keep()
        people.online_client()
        return people.task()

    def test_what_was_removed_is_acknowledged_and_stays_counted_once(self, task):
        record = told(task, 29)
        day = (NOW - timedelta(days=29)).date()
        assert ingest([record]).committed == {record.execution_id}
        Execution.objects.update(created_at=NOW - timedelta(days=29))
        with time_machine.travel(NOW + timedelta(days=5)):
            all_steps()
            assert Execution.objects.count() == 0
            assert totals(day) == {"web-1": (1, 0, 100, 100, 100)}
            for _again in range(2):
                outcome = ingest([record])
                assert (outcome.committed, outcome.refused) == ({record.execution_id}, {})
            assert Execution.objects.count() == 0
            assert totals(day) == {"web-1": (1, 0, 100, 100, 100)}

    def test_what_comes_for_the_first_time_is_counted_once_and_not_entered(self, task):
        record, other = told(task, 50), told(task, 50.5, status=pb.FAILURE)
        day = (NOW - timedelta(days=50)).date()
        for _again in range(2):
            outcome = ingest([record, other])
            assert outcome.committed == {record.execution_id, other.execution_id}
        assert Execution.objects.count() == 0
        assert totals(day) == {"web-1": (1, 1, 200, 100, 100)}
        # The host counts the same, and is asked for nothing.
        stats = [pb.TaskStats(task_id=str(task.pk), task_name="job", success_count=1, failure_count=1)]
        report = pb.DailyStatsReport(client_id="web-1", date=str(day), task_stats=stats)
        assert daily.ingest_daily_stats("web-1", report) == []

    def test_what_nobody_could_remember_is_not_counted(self, task):
        record = told(task, 30 + 367)
        assert ingest([record]).committed == {record.execution_id}
        assert (DailyStats.objects.count(), RemovedExecution.objects.count()) == (0, 0)

    def test_what_is_not_the_hosts_own_is_refused_as_ever(self, task):
        record = told(task, 50, client="web-2")
        forged = Result("web-1", record.message)
        assert ingest([forged]).refused == {record.execution_id: "unknown execution"}
        assert DailyStats.objects.count() == 0

    def test_what_is_young_enough_is_entered(self, task):
        ingest([told(task, 29)])
        assert Execution.objects.get().status == SUCCESS
        assert RemovedExecution.objects.count() == 0


def test_statistics_go_by_their_own_days_but_not_before_the_executions(db):
    keep(executions_days=0, stats_days=20)
    old = entered(40)
    daily.roll_up(old.start_time.date())
    daily.roll_up((NOW - timedelta(days=39)).date())
    assert not retention.remove_old()
    keep(stats_days=60)
    all_steps()
    assert DailyStats.objects.count() == 1
    keep(stats_days=20)
    assert retention.remove_old().statistics == 1


def test_names_are_forgotten_after_a_year(db):
    keep()
    removed.remember({"old": NOW, "new": NOW}, NOW - timedelta(days=1))
    RemovedExecution.objects.filter(pk="old").update(removed_at=NOW - timedelta(days=367))
    retention.remove_old()
    assert RemovedExecution.objects.get().pk == "new"


def test_one_process_at_a_time(db):
    keep()
    entered(40)
    other = LeaseKeeper(retention.LEASE)
    assert other.keep()
    assert not retention.remove_old()
    other.release()
    assert retention.remove_old().executions == 1


def test_the_first_number_of_a_moment_is_found(db):
    assert retention.first_id_since(NOW) == 0
    rows = [entered(days) for days in (9, 8, 8, 3)]
    Execution.objects.filter(pk=rows[1].pk).delete()
    for days, number in (
        (10, rows[0].pk),
        (8.5, rows[1].pk),
        (8, rows[1].pk),
        (7, rows[3].pk),
        (1, rows[3].pk + 1),
    ):
        found = retention.first_id_since(NOW - timedelta(days=days))
        assert not Execution.objects.filter(pk__lt=found, created_at__gte=NOW - timedelta(days=days)).exists()
        assert not Execution.objects.filter(pk__gte=found, created_at__lt=NOW - timedelta(days=days)).exists()
        assert found <= number


def test_sqlite_reads_only_what_is_due(db):
    keep(output_days=7)
    for rows in (retention._due_outputs(None), retention._due_executions(None)):
        first = rows.explain().partition("\n")[0]
        assert "<?" in first and "status" not in first


def test_a_batch_costs_the_same_whatever_its_size(db, django_assert_max_num_queries):
    keep()
    for _n in range(60):
        entered(40)
    with django_assert_max_num_queries(60):
        assert retention.remove_old().executions == 60


def test_the_settings_page_says_what_there_is(each_database):
    keep()
    entered(40)
    entered(3)
    all_steps()
    page = browser().get(reverse("admin:quartzflow_systemsetting_changelist"))
    found = {str(row.name): (str(row.since or ""), row.count) for row in page.context["kept"]}
    assert list(found.values()) == [
        ("2026-05-29", 1),
        ("2026-05-29", 1),
        ("2026-04-22", 1),
        ("2026-04-22", 1),
    ]
    sizes = [row.size for row in page.context["kept"]]
    assert sizes[3] > 0
    assert all(sizes[:3]) == (each_database == "postgresql")


def test_the_worker_does_a_step(db):
    keep()
    entered(40)
    tasks.remove_old()
    assert Execution.objects.count() == 0
