"""A text is found in all outputs that somebody may read, and in no others; the index follows whatever happens."""

import itertools
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from guardian.shortcuts import assign_perm

from executions_app import log_search, log_search_index, retention, tasks
from executions_app.log_search import TooLong, Wanted, check_wanted, search
from executions_app.log_search_index import Mode, bring_in, prepare
from executions_app.models import Execution, ExecutionLog
from executions_app.outputs import save_outputs
from quartzflow import audit_search, system_settings
from quartzflow.errors import InvalidInput
from quartzflow.execution_status import ExecutionStatus
from quartzflow.trigrams import has_trigrams
from tests import people

NOON = people.at(2026, 3, 1, 12)
numbers = itertools.count(1)


def ran(output, error="", minutes=0, status=ExecutionStatus.SUCCESS, client="web-1", task_id=1, **fields):
    """An ended execution with this output; `minutes` after noon."""
    name, at = f"exec_{next(numbers)}", NOON + timedelta(minutes=minutes)
    row = Execution.objects.create(
        execution_id=name, run_id=name, task_id=task_id, task_name="job", client_id=client, status=status,
        scheduled_time=at, start_time=at, end_time=at, **fields,
    )  # fmt: skip
    Execution.objects.filter(pk=row.pk).update(created_at=at)
    ExecutionLog.objects.create(execution=row, output=output, error_msg=error)
    return row.pk


def find(text, user=None, page=20, **query):
    """The numbers of the executions that are found."""
    found = search(user or people.admin(), check_wanted({"q": text, **query}), page)
    return [hit.execution.pk for hit in found.hits]


def only_by_index(monkeypatch):
    """Read nothing one by one."""
    monkeypatch.setattr(log_search, "READ", 0)


@pytest.mark.parametrize("indexed", [False, True], ids=["one by one", "by index"])
class TestFinding:
    @pytest.fixture(autouse=True)
    def _way(self, each_database, indexed, monkeypatch):
        if indexed:
            assert prepare() is Mode.TRIGRAMS
            only_by_index(monkeypatch)
        self.indexed = indexed

    def ready(self):
        if self.indexed:
            assert bring_in() == ExecutionLog.objects.count()

    def test_any_part_of_a_line_in_any_case_newest_first(self):
        first = ran("2026 Connection REFUSED by db-1\n")
        ran("connection closed\n")
        second = ran("ok\n", error="curl: (7) connection refused\n")
        self.ready()
        assert find("ection refuse") == find("ECTION REFUSE") == [second, first]
        assert find("refused connection") == []

    def test_chinese_and_signs(self):
        chinese = ran("清理完成，删除 15 个文件\n")
        signs = ran('50%_done \\ "quoted" it\'s -- * (x) {"a": 1}\n')
        ran("50 done\n")
        self.ready()
        assert find("清理完成") == find("，删除 15") == [chinese]
        for text in ("50%_d", "%_done", '\\ "q', "it's", " -- *", "(x) {", '"a": 1'):
            assert find(text) == [signs], text

    def test_other_letters_have_two_cases_too(self):
        pk = ran("ÜBERTRAGUNG läuft – Ошибка\n")
        self.ready()
        assert find("übertragung LÄUFT") == find("ошибка") == [pk]

    def test_time_task_host_and_status_narrow_it(self):
        task, other = people.task("backup"), people.task("cleanup")
        people.online_client("web-1")
        people.online_client("db-1")
        a = ran("needle", task_id=task.pk)
        b = ran("needle", minutes=30, client="db-1", task_id=other.pk)
        c = ran("needle", minutes=60, status=ExecutionStatus.FAILURE, task_id=other.pk)
        d = ran("needle", minutes=90, status=ExecutionStatus.TIMEOUT, client="db-2", task_id=other.pk)
        self.ready()
        assert find("needle") == [d, c, b, a]
        for query, wanted in (
            ({"from": "2026-03-01T12:30:00Z"}, [d, c, b]),
            ({"to": "2026-03-01T12:30:00Z"}, [a]),
            ({"from": "2026-03-01T12:00:00Z", "to": "2026-03-01T13:00:01Z"}, [c, b, a]),
            ({"task": str(task.pk)}, [a]),
            ({"task": "CLEAN"}, [d, c, b]),
            ({"task": "nothing"}, []),
            ({"client": "db-1"}, [b]),
            ({"client": "db-2"}, [d]),
            ({"client": "b-1"}, [c, b, a]),
            ({"client": "nowhere"}, []),
            ({"status": "failure"}, [c]),
            ({"status": "4"}, [c]),
            ({"status": "bad"}, [d, c]),
        ):
            assert find("needle", **query) == wanted, query

    def test_only_what_one_may_read(self):
        mine, seen = people.task("mine"), people.task("seen")
        a, b = ran("needle", task_id=mine.pk), ran("needle", task_id=seen.pk)
        c = ran("needle", task_id=10**6)  # of a task that is gone
        self.ready()
        user = people.stranger()
        assert find("needle", user) == []
        assign_perm("tasks_app.view_task", user, seen)
        assign_perm("tasks_app.view_logs_task", user, people.task("other"))
        assert find("needle", user) == []
        assign_perm("tasks_app.view_task", user, mine)
        assign_perm("tasks_app.view_logs_task", user, mine)
        assert find("needle", user) == [a]
        viewer = people.stranger("viewer")
        viewer.groups.add(people.role("viewer"))
        assert find("needle", viewer) == [c, b, a]
        viewer.is_active = False
        assert find("needle", viewer) == []

    def test_page_by_page(self):
        pks = [ran(f"needle {n}") for n in range(7)][::-1]
        for _n in range(3):
            ran("hay")
        self.ready()
        seen, before = [], ""
        for length in (3, 3, 1):
            found = search(people.admin(), check_wanted({"q": "needle", "before": before}), 3)
            assert len(found.hits) == length
            seen += [hit.execution.pk for hit in found.hits]
            before = str(found.further or "")
        assert (seen, before) == (pks, "")

    def test_nothing(self):
        ran("hay")
        self.ready()
        found = search(people.admin(), Wanted("needle"))
        assert (found.hits, found.further, found.took_too_long) == ([], None, False)


class TestTheIndex:
    """It has what it must have, and nothing else."""

    @pytest.fixture(autouse=True)
    def _prepared(self, each_database, monkeypatch):
        prepare()
        only_by_index(monkeypatch)

    def test_what_still_runs_comes_in_when_it_is_over(self):
        pk = ran("needle", status=ExecutionStatus.RUNNING)
        assert (bring_in(), log_search_index.state().waiting) == (0, 0)
        Execution.objects.filter(pk=pk).update(status=ExecutionStatus.SUCCESS)
        assert log_search_index.state().waiting == 1
        assert bring_in() == 1
        assert (find("needle"), log_search_index.state().waiting) == ([pk], 0)

    def test_what_is_written_again_is_found_by_its_new_text_only(self):
        pk = ran("the old needle")
        bring_in()
        save_outputs([], [(pk, log_search_result("the new thread"))])
        assert find("old needle") == find("new thread") == []
        assert bring_in() == 1
        assert (find("old needle"), find("new thread")) == ([], [pk])

    def test_what_retention_takes_away_is_not_found(self, monkeypatch):
        system_settings.assume({"executions_days": 0, "output_days": 7, "archive": False})
        pk, other = ran("needle"), ran("needle", status=ExecutionStatus.RUNNING)
        bring_in()
        assert find("needle") == [pk]
        assert retention.remove_old().outputs == 1
        assert find("needle") == []
        Execution.objects.filter(pk=other).update(status=ExecutionStatus.SUCCESS)
        bring_in()
        system_settings.assume({"executions_days": 30, "archive": False})
        assert find("needle") == [other]
        assert retention.remove_old().executions == 2
        assert find("needle") == []
        check_sqlite()

    def test_many_come_in_by_batches_newest_first(self, monkeypatch):
        monkeypatch.setattr(log_search_index, "BATCH", 2)
        pks = [ran("needle") for _n in range(5)]
        assert bring_in(budget=0) == 2
        assert find("needle") == [pks[4], pks[3]]
        assert bring_in() == 3
        assert find("needle") == pks[::-1]

    def test_the_worker_does_it(self):
        pk = ran("needle")
        tasks.index_outputs()
        assert find("needle") == [pk]


def log_search_result(output):
    from quartzflow_agent.protocol import task_pb2 as pb

    return pb.TaskResult(output=output)


def check_sqlite():
    """Raises when the full-text table is not what the outputs say."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO tb_log_search(tb_log_search, rank) VALUES ('integrity-check', 0)")


@pytest.mark.django_db(transaction=True)
def test_sqlite_begins_anew_where_the_triggers_are_gone(monkeypatch):
    prepare()
    only_by_index(monkeypatch)
    old = ran("needle")
    bring_in()
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER tr_log_search_before")
    ExecutionLog.objects.filter(pk=old).update(output="thread")
    new = ran("needle")
    assert bring_in() == 2
    assert (find("needle"), find("thread")) == ([new], [old])
    log_search_index.remove()
    assert log_search_index.state().mode is Mode.NONE
    assert prepare() is Mode.TRIGRAMS
    assert bring_in() == 2
    assert find("thread") == [old]


@pytest.mark.django_db
def test_sqlite_reads_only_what_waits():
    assert "idx_log_waiting" in log_search_index._waiting().explain()


def test_postgresql_without_trigrams_finds_whole_words(postgres_db, monkeypatch):
    log_search_index.remove()
    monkeypatch.setattr(log_search_index, "has_trigrams", lambda: False)
    try:
        assert prepare() is Mode.WORDS
        only_by_index(monkeypatch)
        pk = ran("Connection refused by db-1")
        ran("refused connection")
        bring_in()
        assert find("connection REFUSED") == [pk]
        assert find("onnection refuse") == []
    finally:
        log_search_index.remove()
        monkeypatch.undo()
        assert prepare() is Mode.TRIGRAMS


def test_an_extension_that_may_not_be_made_is_done_without(postgres_db):
    log_search_index.remove()
    audit_search.remove()
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION pg_trgm")
        cursor.execute("CREATE ROLE visitor")
        cursor.execute("SET ROLE visitor")
    try:
        assert has_trigrams() is False
        assert prepare() is Mode.NONE, "not the owner of the tables"
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")
            cursor.execute("DROP ROLE visitor")
        assert prepare() is Mode.TRIGRAMS
        audit_search.prepare()


def test_without_an_index_the_newest_are_read(each_database, monkeypatch):
    monkeypatch.setattr(log_search_index, "mode", lambda: Mode.NONE)
    pks = [ran("needle"), *(ran("hay") for _n in range(5))]
    assert find("needle") == [pks[0]]
    assert bring_in() in (0, 6)
    monkeypatch.setattr(log_search, "AT_A_TIME", 2)
    monkeypatch.setattr(log_search, "READ_WITHOUT", 4)
    found = search(people.admin(), Wanted("needle"))
    assert (found.hits, found.further, found.reached) == ([], pks[2], NOON)
    found = search(people.admin(), Wanted("needle", before=found.further))
    assert ([hit.execution.pk for hit in found.hits], found.further) == ([pks[0]], None)


def test_two_characters_are_looked_for_among_the_newest(db, monkeypatch):
    monkeypatch.setattr(log_search, "AT_A_TIME", 1)
    monkeypatch.setattr(log_search, "READ_WITHOUT", 2)
    old, new, _newest = ran("失败"), ran("失败"), ran("ok")
    found = search(people.admin(), Wanted("失败"))
    assert ([hit.execution.pk for hit in found.hits], found.further) == ([new], new)
    assert find("失败", before=str(new)) == [old]


class TestTime:
    def test_the_database_stops_in_time(self, each_database, monkeypatch):
        monkeypatch.setattr(log_search, "SECONDS", 0.05)
        ran("hay")

        def forever(look):
            with connection.cursor() as cursor:
                if each_database == "postgresql":
                    cursor.execute("SELECT pg_sleep(20)")
                else:
                    cursor.execute(
                        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
                    )

        monkeypatch.setattr(log_search._Look, "newest", forever)
        with pytest.raises(TooLong):
            search(people.admin(), Wanted("needle"))
        monkeypatch.undo()
        assert find("needle") == []

    def test_what_was_found_by_then_is_shown(self, db, monkeypatch):
        monkeypatch.setattr(log_search, "AT_A_TIME", 1)
        pk = ran("needle")
        ran("hay")
        monkeypatch.setattr(log_search, "SECONDS", -1.0)
        with pytest.raises(TooLong):
            search(people.admin(), Wanted("needle"))
        ExecutionLog.objects.filter(execution__gt=pk).delete()
        older = ran("hay", minutes=-1)
        Execution.objects.filter(pk=older).delete()
        ran("needle")
        found = search(people.admin(), Wanted("needle"))
        assert (len(found.hits), found.took_too_long, found.reached) == (1, True, NOON)
        assert found.further == found.hits[0].execution.pk

    def test_other_errors_come_through(self, each_database, monkeypatch):
        def broken(look):
            raise OperationalError("disk I/O error")

        monkeypatch.setattr(log_search._Look, "newest", broken)
        with pytest.raises(OperationalError, match="disk"):
            search(people.admin(), Wanted("needle"))


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({}, {"q"}),
        ({"q": " x "}, {"q"}),
        ({"q": "x" * 201}, {"q"}),
        ({"q": "abc", "from": "yesterday", "to": "2026-02-31T00:00:00Z"}, {"from", "to"}),
        ({"q": "abc", "from": "2026-03-02T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, {"to"}),
        ({"q": "a\0bc", "task": "\0", "client": "\0"}, {"q", "task", "client"}),
        ({"q": "abc", "from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59-12:00"}, {"from", "to"}),
        ({"q": "abc", "status": "dead", "before": "-1", "page": "2"}, {"status", "before", "page"}),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(query, fields):
    with pytest.raises(InvalidInput) as refused:
        check_wanted(query)
    assert refused.value.errors.keys() == fields


def test_a_moment_without_a_zone_is_in_the_users(settings):
    settings.TIME_ZONE = "Asia/Shanghai"
    wanted = check_wanted({"q": "abc", "from": "2026-03-01T20:00", "to": "2026-03-02"})
    assert (wanted.begin, wanted.end) == (NOON, people.at(2026, 3, 1, 16))
