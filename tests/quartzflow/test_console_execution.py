"""The console's page of one execution, without a browser."""

import json
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from guardian.shortcuts import assign_perm
from quartzflow_agent.schedule import uuid7

from executions_app.dispatch import Firing, fire
from executions_app.models import Attempt, Execution, ExecutionLog
from tests import people
from tests.quartzflow.test_console import AJAX, browser, execution

pytestmark = pytest.mark.django_db


def failed(status=4):
    made = execution()
    Execution.objects.filter(pk=made.pk).update(status=status)
    return Execution.objects.get(pk=made.pk)


def url(name, *arguments):
    return reverse(f"admin:executions_app_{name}", args=arguments)


def test_the_log_is_to_be_had_as_text_and_with_its_facts():
    made = failed()
    ExecutionLog.objects.update_or_create(execution=made, defaults={"output": "你好\n", "error_msg": "bad"})
    text = browser().get(url("execution_log", made.pk))
    assert text.content.decode() == "你好\n\n--- stderr ---\nbad"
    assert f"{made.execution_id}.txt" in text.headers["Content-Disposition"]
    facts = json.loads(browser().get(url("execution_log", made.pk), {"as": "json"}).content)
    assert (facts["log"]["output"], facts["status"], facts["client_id"]) == ("你好\n", "FAILURE", "web-1")
    assert browser().get(url("execution_log", made.pk), {"as": "exe"}).status_code == 400


def test_a_log_that_one_may_not_read_is_no_file_either():
    made = failed()
    user = people.stranger()
    assert browser(user).get(url("execution_log", made.pk)).status_code == 404
    assign_perm("tasks_app.view_task", user, made.task)
    assert browser(user).get(url("execution_log", made.pk)).status_code == 403
    assign_perm("tasks_app.view_logs_task", user, made.task)
    assert browser(user).get(url("execution_log", made.pk)).status_code == 200


def test_one_that_failed_is_retried_and_says_of_what_it_is_the_retry():
    made = failed()
    answer = browser().post(url("execution_retry", made.pk), headers=AJAX)
    again = Execution.objects.exclude(pk=made.pk).get()
    assert answer.json()["url"] == url("execution_change", again.pk)
    page = browser().get(url("execution_change", again.pk))
    assert page.context["earlier"] == made
    assert not page.context["retryable"]
    assert browser().post(url("execution_retry", again.pk), headers=AJAX).status_code == 409


def test_the_failed_of_a_run_are_retried_together():
    people.online_client("web-2")
    people.online_client("web-1")
    made = fire([Firing(people.task().pk, timezone.now(), uuid7())])[0]
    Execution.objects.filter(pk=made.pk).update(status=4)
    page = browser().get(url("execution_changelist"), {"run_id": made.run_id})
    assert page.context["cl"].result_count == 2
    assert page.context["retry_run"]
    answer = browser().post(page.context["retry_run"], headers=AJAX)
    assert answer.status_code == 200
    again = Execution.objects.exclude(run_id=made.run_id).get()
    assert again.client_id == made.client_id
    assert browser().post(url("run_retry", again.run_id), headers=AJAX).status_code == 409
    assert browser(people.stranger()).post(url("run_retry", made.run_id), headers=AJAX).status_code == 404
    assert browser().get(url("run_retry", made.run_id)).status_code == 405


def test_selected_ones_are_retried():
    made = failed()
    data = {"action": "retry_selected", "_selected_action": [made.pk]}
    assert browser().post(url("execution_changelist"), data).status_code == 302
    assert Execution.objects.filter(retry_of=made.pk).count() == 1


def test_attempts_are_drawn_where_they_lie_in_time():
    made = failed()
    start = timezone.now()
    for number, (begin, end) in enumerate([(0, 10), (50, 100)]):
        Attempt.objects.create(
            execution=made,
            number=number,
            status=4,
            start_time=start + timedelta(seconds=begin),
            end_time=start + timedelta(seconds=end),
        )
    page = browser().get(url("execution_change", made.pk))
    assert [(bar["x"], bar["width"]) for bar in page.context["timeline"]] == [(0, 100), (500, 500)]
    assert 'x="500.0"' in page.content.decode()
