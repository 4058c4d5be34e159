"""Retention beside others that read and write the same: nothing is counted twice, and nothing is lost."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import time_machine
from django.db import connection

from executions_app import daily, retention
from executions_app.ingest import ingest
from executions_app.models import DailyStats, Execution, RemovedExecution
from tests import people
from tests.executions_app.test_retention import NOW, all_steps, entered, keep, told, totals


@pytest.fixture(autouse=True)
def _now(settings, tmp_path) -> Iterator[None]:
    settings.QF_ARCHIVE_DIR = tmp_path / "archive"
    with time_machine.travel(NOW, tick=True):
        yield


def together(*works: Callable[[], None]) -> None:
    """Do all of it at once; what one of them raises is raised here."""
    failed: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


def test_a_recount_finds_the_same_at_any_moment(each_database, monkeypatch):
    keep(archive=False)
    monkeypatch.setattr(retention, "DELETED", 3)
    day = (NOW - timedelta(days=40)).date()
    for number in range(60):
        entered(40, client=f"web-{number % 2}", output="", duration=number + 1)
    daily.roll_up(day)
    wanted = totals(day)
    over = threading.Event()
    seen = 0

    def remove() -> None:
        try:
            all_steps()
        finally:
            over.set()

    def count() -> None:
        nonlocal seen
        while not over.is_set():
            daily.recount("web-0", day)
            daily.recount("web-1", day)
            assert totals(day) == wanted
            seen += 1

    together(remove, count)
    assert (Execution.objects.count(), totals(day), seen > 0) == (0, wanted, True)


def test_two_bridges_that_are_told_the_same_late_record_count_it_once(each_database):
    keep()
    people.online_client()
    task = people.task()
    records = [told(task, 50 + number / 24) for number in range(8)]
    names = {record.execution_id for record in records}
    start = threading.Barrier(2)

    def bridge(order: int) -> Callable[[], None]:
        def work() -> None:
            start.wait(10)
            for batch in (records[::order], records[::-order]):
                assert ingest(batch).committed == names

        return work

    together(bridge(1), bridge(-1))
    assert set(RemovedExecution.objects.values_list("pk", flat=True)) == names
    assert sum(row.success_count for row in DailyStats.objects.all()) == len(records)
