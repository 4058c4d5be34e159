"""The fixtures do what their names say."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.cache import cache
from django.db import connection

from groups_app.models import Group


def count_in_another_thread() -> int:
    def count() -> int:
        try:
            return Group.objects.count()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(count).result()


@pytest.mark.parametrize("run", [1, 2])
def test_each_database_is_the_one_it_names_and_begins_empty(each_database: str, run: int) -> None:
    assert connection.vendor == each_database
    assert not Group.objects.filter(name="rows").exists()
    before = Group.objects.count()
    Group.objects.create(name="rows")
    assert count_in_another_thread() == before + 1


def test_a_later_test_has_its_usual_database_back(db: None) -> None:
    assert connection.vendor == "sqlite"


@pytest.mark.parametrize("run", [1, 2])
def test_redis_is_there_and_begins_empty(run: int) -> None:
    assert cache.get("key") is None
    cache.set("key", "value")
    assert cache.get("key") == "value"
