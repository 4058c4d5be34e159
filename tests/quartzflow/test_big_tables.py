"""Pages of the executions when there are very many."""

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from executions_app.models import Execution
from quartzflow.api import big_tables
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")
COUNT = 60


@pytest.fixture(autouse=True)
def _rows(each_database, monkeypatch):
    monkeypatch.setattr(big_tables, "EXACT", 20)
    now = timezone.now()
    Execution.objects.bulk_create(
        [
            Execution(execution_id=f"e{n}", run_id=f"r{n}", task_id=1, client_id="h", scheduled_time=now,
                      status=3 + (n % 4 == 0))
            for n in range(COUNT)
        ]
    )  # fmt: skip


def get(expect=200, **query):
    api = APIClient()
    api.force_authenticate(people.admin())
    answer = api.get("/api/v1/executions", query)
    assert answer.status_code == expect, answer.content
    return answer.json().get("data", answer.json())


def test_few_are_counted_and_many_estimated(each_database):
    few = get(status=4)
    assert (few["total"], few["total_is_estimate"]) == (15, False)
    many = get()
    assert many["total_is_estimate"] is (each_database == "postgresql")
    assert many["total"] > 20
    assert each_database == "postgresql" or many["total"] == COUNT


def test_all_rows_are_reached_by_pages_and_by_the_last_id():
    by_page = [row["id"] for page in range(1, 7) for row in get(page=page, page_size=10)["items"]]
    before, by_id = 10**9, []
    while items := get(before=before, page_size=10)["items"]:
        by_id += [row["id"] for row in items]
        before = by_id[-1]
    assert by_page == by_id == sorted(by_id, reverse=True)
    assert len(by_id) == COUNT


def test_a_stretch_of_time_is_in_its_order_and_reached_whole():
    begin = timezone.now() - timedelta(hours=3)
    # Some at one moment, and not in the order of their ids.
    for n, execution in enumerate(Execution.objects.order_by("id")):
        at = begin + timedelta(minutes=(n * 7) % 20)
        Execution.objects.filter(pk=execution.pk).update(scheduled_time=at)
    Execution.objects.filter(pk__in=Execution.objects.values("pk")[:5]).update(
        scheduled_time=begin - timedelta(days=9)
    )
    window = {"start_time": begin.isoformat(), "page_size": 7}
    expected = list(
        Execution.objects.filter(scheduled_time__gte=begin)
        .order_by("-scheduled_time", "-id")
        .values_list("pk", flat=True)
    )
    found, more = [], {}
    while items := get(**window, **more)["items"]:
        found += [row["id"] for row in items]
        more = {"before": found[-1]}
    assert found == expected
    assert len(found) == COUNT - 5
    assert get(**window, before=10**9)["items"] == []


def test_too_far_down_one_is_told_how_to_go_on(monkeypatch):
    monkeypatch.setattr(big_tables, "DEEPEST", 30)
    assert "before" in get(400, page=5, page_size=10)["errors"]["page"][0]
    assert get(page=4, page_size=10)["items"]
    assert "before" in get(400, before="x")["errors"]


def test_a_page_behind_a_count_is_not_found():
    get(404, status=4, page=3, page_size=10)
