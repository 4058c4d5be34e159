"""The bulk statements on each database: types, empty values, and texts that an array's own syntax could take apart."""

import pytest
from django.utils import timezone

from executions_app.models import Execution
from quartzflow.bulk import insert_new, update_from_values
from quartzflow.execution_status import ExecutionStatus
from tests import people

NOW = timezone.now().replace(microsecond=123456)
HARD = [
    "plain",
    "",
    "NULL",
    "null",
    "a,b",
    '{"x"}',
    "it's",
    'say "so"',
    "back\\slash",
    "新任务",
    "line\nend",
    "%s",
]

pytestmark = pytest.mark.usefixtures("each_database")


def row(name: str, text: str = "", **fields: object) -> Execution:
    values = {"group_id": None, "params": {"text": text, "of": {"quote": '"'}}, "triggered_by": text} | fields
    return Execution(
        execution_id=name,
        run_id="run",
        task_name="task",
        client_id="host",
        scheduled_time=NOW,
        expires_at=NOW,
        **values,
    )


@pytest.fixture
def task():
    return people.task()


def test_rows_arrive_as_they_are(task):
    new = insert_new(
        Execution,
        [row(f"e{n}", text, task=task) for n, text in enumerate(HARD)],
        conflict="execution_id",
        chunk=5,
    )
    assert len(new) == len(HARD)
    found = Execution.objects.in_bulk(new.values())
    for number, text in enumerate(HARD):
        one = found[new[f"e{number}"]]
        assert (one.triggered_by, one.params) == (text, {"text": text, "of": {"quote": '"'}})
        assert (one.scheduled_time, one.group_id, one.local, one.status) == (NOW, None, False, 1)


def test_a_row_that_is_there_stays(task):
    first = insert_new(Execution, [row("one", "first", task=task)], conflict="execution_id")
    second = insert_new(
        Execution, [row("one", "second", task=task), row("two", task=task)], conflict="execution_id"
    )
    assert (list(first), list(second)) == (["one"], ["two"])
    assert Execution.objects.get(execution_id="one").triggered_by == "first"


def test_values_are_set_where_the_condition_holds(task):
    new = insert_new(Execution, [row(f"e{n}", task=task) for n in range(len(HARD))], conflict="execution_id")
    Execution.objects.filter(execution_id="e0").update(status=ExecutionStatus.SUCCESS)
    rows = [
        (f"e{n}", 0, ExecutionStatus.RUNNING, None if n % 2 else NOW, text) for n, text in enumerate(HARD)
    ]
    rows += [("nobody", 0, ExecutionStatus.RUNNING, NOW, ""), ("e1", 7, ExecutionStatus.FAILURE, NOW, "")]
    changed = update_from_values(
        Execution,
        key=("execution_id", "retry_count"),
        columns=("status", "start_time", "failure_reason"),
        rows=rows,
        where="t.status = 1",
        returning=("id", "execution_id"),
        chunk=5,
    )
    assert {(pk, name) for pk, name in changed} == {(pk, name) for name, pk in new.items() if name != "e0"}
    for number, text in list(enumerate(HARD))[1:]:
        one = Execution.objects.get(execution_id=f"e{number}")
        assert (one.status, one.start_time, one.failure_reason) == (2, None if number % 2 else NOW, text)
    assert Execution.objects.get(execution_id="e0").status == ExecutionStatus.SUCCESS


def test_nothing_to_do_asks_nothing(task, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert insert_new(Execution, [], conflict="execution_id") == {}
        assert update_from_values(Execution, key=("id",), columns=("status",), rows=[]) == []
