"""The installation that the lists are measured on, a small one."""

import pytest
from django.contrib.auth.models import User
from django.db.models import Count

from executions_app.models import DailyStats, Execution
from executions_app.selectors import executions_for
from groups_app.models import Group
from quartzflow.execution_status import LIVE
from quartzflow.models import AuditEntry
from tests.bench import list_pages, loader

pytestmark = pytest.mark.usefixtures("each_database")
TASKS, EXECUTIONS = 100, 2000


@pytest.fixture(autouse=True)
def _loaded(each_database):
    loader.load(tasks=TASKS, clients=TASKS, executions=EXECUTIONS)
    loader.tidy()


def test_it_has_what_was_asked_for_some_of_it_busy_some_of_it_rare():
    assert Execution.objects.count() == EXECUTIONS
    assert Execution.objects.filter(status__in=LIVE).count() == loader.LIVE_ROWS
    times = Execution.objects.order_by("id").values_list("scheduled_time", flat=True)
    assert list(times) == sorted(times)
    busiest = Execution.objects.values("task_name").annotate(count=Count("id")).order_by("-count").first()
    assert busiest == {
        "task_name": f"task-{loader.BUSY:05}",
        "count": EXECUTIONS // loader.BUSY_SHARE + EXECUTIONS // TASKS,
    }
    assert Group.objects.get(name=f"group-{loader.GROUPS - 1:03}").clients.count() == 1
    assert DailyStats.objects.count() == TASKS * loader.DAYS - 1
    assert AuditEntry.objects.count() >= TASKS * loader.AUDITED


def test_two_users_may_see_a_part():
    few, many = (executions_for(User.objects.get(username=name)).count() for name in ("few", "many"))
    assert 0 < few < many == EXECUTIONS


def test_every_page_answers(client):
    pages = list_pages.pages()
    for name in ("api executions?busy task,failed", "page execution list?old month,bad", "page audit log?q"):
        found = list_pages.measure(name, *pages[name])
        assert found["p95"] >= found["p50"] > 0
        assert found["queries"] > 1
