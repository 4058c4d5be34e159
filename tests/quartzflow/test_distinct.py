"""The different values of an indexed column."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from quartzflow.distinct import distinct_values
from quartzflow.models import AuditEntry

pytestmark = pytest.mark.usefixtures("each_database")


def write(*actors: str) -> None:
    AuditEntry.objects.bulk_create(
        [AuditEntry(at=timezone.now(), action="task.update", actor_name=actor) for actor in actors]
    )


def test_each_is_found_once_and_in_order():
    write("li", "admin", "", "王", "li", "admin", "Li")
    found = distinct_values(AuditEntry, "actor_name")
    assert {"", "Li", "admin", "li", "王"} <= set(found)
    assert len(found) == len(set(found))
    assert found == list(
        AuditEntry.objects.order_by("actor_name").values_list("actor_name", flat=True).distinct()
    )


def test_null_is_no_value_and_nothing_has_none():
    assert distinct_values(AuditEntry, "actor_id") == []
    write("admin")
    assert distinct_values(AuditEntry, "actor_id") == []


def test_it_goes_from_one_value_to_the_next_in_the_index(each_database):
    write(*(f"user-{n % 3}" for n in range(300)))
    with CaptureQueriesContext(connection) as captured:
        distinct_values(AuditEntry, "actor_name")
    (query,) = captured.captured_queries
    with connection.cursor() as cursor:
        if each_database == "postgresql":
            cursor.execute("SET enable_seqscan = off")
        cursor.execute(
            ("EXPLAIN " if each_database == "postgresql" else "EXPLAIN QUERY PLAN ") + query["sql"]
        )
        plan = str(cursor.fetchall())
        if each_database == "postgresql":
            cursor.execute("RESET enable_seqscan")
    assert "idx_audit_actor" in plan
    assert "Seq Scan" not in plan
