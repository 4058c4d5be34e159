"""The console's page of a run, and the drawings of chains, without a browser."""

import pytest
from django.urls import reverse
from guardian.shortcuts import assign_perm

from executions_app import control
from executions_app.models import DependencyEvent, Execution
from quartzflow.execution_status import ExecutionStatus
from tasks_app.graphs import Box, fitting, lay_out
from tests import people
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db


def run(task):
    return control.do_trigger_task(people.admin(), task)[0].run_id


def page_of(run_id, user=None):
    return browser(user).get(reverse("admin:executions_app_run", args=[run_id]))


def test_a_run_shows_all_its_hosts_and_how_they_stand(django_assert_max_num_queries):
    for number in range(4):
        people.online_client(f"web-{number}")
    run_id = run(people.task(wave_size="2"))
    Execution.objects.filter(client_id="web-0").update(status=3)
    Execution.objects.filter(client_id="web-1").update(status=4, failure_reason="exit_code")
    with django_assert_max_num_queries(48):
        page = page_of(run_id)
    assert [row.client_id for row in page.context["rows"]] == ["web-0", "web-1", "web-2", "web-3"]
    assert page.context["status"] == ExecutionStatus.RUNNING
    counts = {state.name: count for state, count in page.context["counts"]}
    assert counts == {"PENDING": 2, "SUCCESS": 1, "FAILURE": 1}
    waves = [(w["number"], w["ended"], w["total"], w["failed"], w["percent"]) for w in page.context["waves"]]
    assert waves == [(1, 2, 2, 1, 100), (2, 0, 2, 0, 0)]
    assert page.context["may_retry"]
    assert page.context["may_cancel"]


def test_a_run_is_cancelled_by_those_who_may():
    people.online_client()
    task = people.task()
    run_id = run(task)
    url = reverse("admin:executions_app_run_cancel", args=[run_id])
    user = people.stranger()
    assert browser(user).post(url).status_code == 404
    assign_perm("tasks_app.view_task", user, task)
    assert browser(user).post(url).status_code == 403
    assert not page_of(run_id, user).context["may_cancel"]
    assert browser().get(url).status_code == 405
    assert browser().post(url, headers={"X-Requested-With": "fetch"}).status_code == 200
    assert Execution.objects.get().status == ExecutionStatus.CANCELLED
    assert browser().post(url, headers={"X-Requested-With": "fetch"}).status_code == 409


def test_a_run_that_one_may_not_see_is_not_there():
    people.online_client()
    run_id = run(people.task())
    assert page_of(run_id, people.stranger()).status_code == 404
    assert page_of("run_nothing_1").status_code == 404


def test_the_chain_is_drawn_from_cause_to_effect():
    people.online_client()
    first, second = run(people.task("first")), run(people.task("second"))
    parent, child = (Execution.objects.get(run_id=name).task_id for name in (first, second))
    DependencyEvent.objects.create(
        task_id=child, parent_id=parent, run_id=first, status=3, state=2, child_run=second
    )
    chain = page_of(second).context["chain"]
    boxes = {box.label: box for box in chain.boxes}
    assert boxes["first"].x < boxes["second"].x
    assert boxes["first"].url == reverse("admin:executions_app_run", args=[first])
    assert "graph-current" in boxes["second"].css
    assert len(chain.lines) == 1
    assert page_of(run(people.task("alone"))).context["chain"] is None


def test_boxes_stand_behind_all_that_lead_to_them():
    drawing = lay_out(
        [Box(key, key) for key in "abcd"], [("a", "b"), ("b", "d"), ("a", "d"), ("c", "d"), ("a", "gone")], {}
    )
    place = {box.key: (box.x, box.y) for box in drawing.boxes}
    assert place["a"][0] < place["b"][0] < place["d"][0]
    assert place["c"][0] == place["a"][0]
    assert place["c"][1] != place["a"][1]
    assert len(drawing.lines) == 4
    assert all(box.x + 176 <= drawing.width and box.y + 44 <= drawing.height for box in drawing.boxes)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("x" * 21, "x" * 21),
        ("x" * 22, "x" * 20 + "…"),
        ("任" * 12, "任" * 9 + "…"),
        ("", ""),
    ],
)
def test_labels_are_cut_to_their_box(text, shown):
    assert fitting(text) == shown


def test_a_list_of_a_run_that_cannot_be_is_empty():
    page = browser().get(reverse("admin:executions_app_execution_changelist"), {"run_id": "../x/y"})
    assert page.status_code == 200
    assert page.context["cl"].result_count == 0
