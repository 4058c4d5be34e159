"""In which order the console lists executions, and how often its lists look."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from executions_app.models import Execution
from quartzflow.audit import record
from tests import people
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db
LIST = "admin:executions_app_execution_changelist"


def execution(name, scheduled):
    return Execution.objects.create(
        execution_id=name,
        run_id=name,
        task_id=1,
        task_name=name,
        client_id="h",
        scheduled_time=scheduled,
        status=3,
    )


def shown(**query):
    return [row.task_name for row in browser().get(reverse(LIST), query).context["cl"].result_list]


def test_a_stretch_of_time_is_in_the_order_of_time_and_all_else_newest_first():
    noon = timezone.localtime().replace(hour=12, minute=0, second=0, microsecond=0)
    execution("late", noon)
    execution("early", noon - timedelta(hours=1))
    assert shown() == ["early", "late"]
    assert shown(time=f"{noon:%Y-%m-%d}..{noon:%Y-%m-%d}") == ["late", "early"]


def test_what_was_not_found_is_not_looked_for_again():
    client, page = browser(), reverse("admin:quartzflow_auditentry_changelist")
    client.get(page)

    def searches(words):
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(page, {"q": words})
        found = len(answer.context["cl"].result_list)
        return found, sum("LIKE" in query["sql"] for query in captured.captured_queries)

    record(people.admin(), "task.update", people.task("somewhere"))
    assert searches("somewhere")[0] > 0
    assert searches("somewhere")[1] == 2  # how many, and which
    assert searches("nothing-is-called-this") == (0, 1)
