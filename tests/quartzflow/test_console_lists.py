"""One's own view of a list: columns, filters that it opens with; and the filters of the list of tasks."""

import pytest
from django.urls import reverse
from guardian.shortcuts import assign_perm

from quartzflow.list_views import list_view
from tests import people
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db
LIST, VIEW = "admin:tasks_app_task_changelist", "admin:tasks_app_task_view"


def names(answer):
    return sorted(task.name for task in answer.context["cl"].result_list)


def test_columns_are_chosen_and_kept_for_the_user():
    assign_perm("tasks_app.view_task", people.stranger(), people.task())
    shown = ["executor_cell", "status_cell"]
    answer = browser().post(reverse(VIEW), {"columns": "1", "shown": shown})
    assert answer.status_code == 200
    page = browser().get(reverse(LIST))
    assert page.context["cl"].list_display[1:] == ["name_cell", *shown, "row_menu"]
    assert {name for name, _label, on in page.context["view_columns"] if on} == set(shown)
    other = browser(people.stranger())
    assert len(other.get(reverse(LIST)).context["view_columns"]) > 5
    assert list_view(people.stranger(), "tasks_app.task").hidden == []
    first = {name for name, _label, on in other.get(reverse(LIST)).context["view_columns"] if not on}
    assert first == {"labels_cell", "owner_cell"}
    # All of them again.
    everything = [name for name, _label, _on in page.context["view_columns"]]
    browser().post(reverse(VIEW), {"columns": "1", "shown": everything})
    assert len(browser().get(reverse(LIST)).context["cl"].list_display) == len(everything) + 3


def test_a_list_opens_with_ones_own_filters_unless_one_takes_them_away_there():
    people.task("on")
    people.task("off", status=0)
    answer = browser().post(reverse(VIEW), {"query": "status__exact=0&p=3&o=1"})
    assert answer.status_code == 200
    assert list_view(people.admin(), "tasks_app.task").query == "status__exact=0"
    opened = browser().get(reverse(LIST))
    assert opened.headers["Location"] == f"{reverse(LIST)}?status__exact=0"
    assert names(browser().get(opened.headers["Location"])) == ["off"]
    there = browser().get(
        reverse(LIST), headers={"Referer": f"http://testserver{reverse(LIST)}?status__exact=0"}
    )
    assert names(there) == ["off", "on"]
    browser().post(reverse(VIEW), {"query": ""})
    assert names(browser().get(reverse(LIST))) == ["off", "on"]


@pytest.mark.parametrize("data", [{"columns": "1"}, {"query": "x" * 1001}])
def test_a_view_that_cannot_be_is_refused(data):
    answer = browser().post(reverse(VIEW), data)
    assert (answer.status_code, bool(answer.json()["message"])) == (400, True)


def test_a_view_is_changed_by_post_only():
    assert browser().get(reverse(VIEW)).status_code == 405


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"label": "team=billing"}, ["a", "b"]),
        ({"q": "team=billing"}, ["a", "b"]),
        ({"q": 'odd key.x="y"'}, ["b"]),
        ({"label": "team=nobody"}, []),
        ({"q": "billing"}, []),
        ({"owner": "OWNER"}, ["a", "b", "c"]),
        ({"owner": "0"}, []),
        ({"groups__id__exact": "GROUP"}, ["a", "b", "c"]),
        ({"groups__id__exact": "x"}, ["a", "b", "c"]),
        ({"label": "team=billing", "status__exact": "0"}, []),
    ],
)
def test_tasks_are_filtered(query, found):
    people.task("a", labels={"team": "billing"})
    people.task("b", labels={"team": "billing", "odd key.x": '"y"'})
    people.task("c")
    known = {"OWNER": str(people.admin().pk), "GROUP": str(people.group().pk)}
    answer = browser().get(reverse(LIST), {name: known.get(value, value) for name, value in query.items()})
    assert names(answer) == found


def test_filters_offer_only_what_one_may_see():
    people.task("mine", labels={"team": "billing"})
    people.task("theirs", labels={"secret": "x"})
    people.group("hidden")
    user = people.stranger()
    assign_perm("tasks_app.view_task", user, people.Task.objects.get(name="mine"))
    page = browser(user).get(reverse(LIST)).content.decode()
    assert "team=billing" in page
    assert "secret=x" not in page
    assert ">hidden<" not in page
