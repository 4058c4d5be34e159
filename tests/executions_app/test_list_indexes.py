"""Filters of lists whose matches are rare, or of long ago, have an index that leads to them."""

import pytest
from django.db import connection

from executions_app.models import Execution

pytestmark = pytest.mark.usefixtures("each_database")


WAYS = ("enable_seqscan", "enable_bitmapscan", "enable_sort")


def plan(rows):
    """What the planner does when it must neither read the table from end to end, empty as it is, nor sort."""
    if connection.vendor == "sqlite":
        return rows.explain()
    with connection.cursor() as cursor:
        for way in WAYS:
            cursor.execute(f"SET {way} = off")
        try:
            return rows.explain()
        finally:
            for way in WAYS:
                cursor.execute(f"RESET {way}")


def test_the_failed_of_one_task():
    of_task = Execution.objects.filter(task=1).order_by("-id")
    assert "idx_exec_bad_of_task" in plan(of_task.filter(status=4))
    assert "idx_exec_bad_of_task" not in plan(of_task.filter(status=3))
    if connection.vendor == "postgresql":  # SQLite cannot conclude from two to one of three
        assert "idx_exec_bad_of_task" in plan(of_task.filter(status__in=(4, 5)))


@pytest.mark.parametrize(
    ("filters", "order", "index"),
    [
        ({"client_id": "a", "status": 6}, "-id", "idx_exec_bad_of_client"),
        ({"status": 5}, "-scheduled_time", "idx_exec_bad_in_time"),
        ({"group_id": 1}, "-scheduled_time", "idx_exec_group"),
        ({"failure_reason": "timeout"}, "-scheduled_time", "idx_exec_reason"),
    ],
)
def test_postgresql_has_one_for_what_a_page_links_to(filters, order, index, postgres_db):
    assert index in plan(Execution.objects.filter(**filters).order_by(order))


def test_postgresql_has_none_that_nobody_asks(postgres_db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'tb_execution'")
        assert not [name for (name,) in cursor.fetchall() if name.endswith("_like")]
