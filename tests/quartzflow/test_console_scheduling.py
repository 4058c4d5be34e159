"""The console's pages of replays, of the scheduler, of missed firings and of what tasks wait for, without a browser."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone
from guardian.shortcuts import assign_perm

from executions_app.models import Execution, MissedFiring, Replay
from quartzflow.metrics import metrics
from tests import people
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db


def start(task):
    return reverse("admin:executions_app_replay_start", args=[task.pk])


def window(**fields):
    """The last hour's four quarters, in UTC."""
    now = timezone.now().replace(second=0, microsecond=0)
    begin = now - timedelta(hours=1) + timedelta(minutes=1)
    return {"begin": f"{begin:%Y-%m-%dT%H:%M}", "end": f"{now:%Y-%m-%dT%H:%M}", "parallel": "1", **fields}


def quarterly():
    return people.task("quarterly", cron_expr="*/15 * * * *", timezone="UTC")


def test_a_replay_is_looked_at_started_watched_and_cancelled():
    people.online_client()
    task = quarterly()
    page = browser().post(start(task), window(look=""))
    assert page.context["preview"]["total"] == 4
    assert [exists for _time, exists in page.context["times"]] == [False] * 4
    assert not Replay.objects.exists()

    answer = browser().post(start(task), window())
    replay = Replay.objects.get()
    url = reverse("admin:executions_app_replay_change", args=[replay.pk])
    assert answer.headers["Location"] == url
    page = browser().get(url)
    assert (page.context["handled"], page.context["percent"], page.context["may_cancel"]) == (1, 25, True)
    again = browser().post(start(task), window(look=""))
    assert [exists for _time, exists in again.context["times"]] == [True, False, False, False]
    assert browser().post(start(task), window()).context["form"].non_field_errors()  # one at a time

    cancel = reverse("admin:executions_app_replay_cancel", args=[replay.pk])
    assert browser().post(cancel, headers={"X-Requested-With": "fetch"}).status_code == 200
    assert Replay.objects.get().status == Replay.Status.CANCELLED
    assert set(Execution.objects.values_list("status", flat=True)) == {6}
    assert browser().post(cancel, headers={"X-Requested-With": "fetch"}).status_code == 409
    listed = browser().get(reverse("admin:executions_app_replay_changelist")).content.decode()
    assert "quarterly" in listed
    assert "<summary>状态" in listed  # the filter, too, is in words


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"begin": "someday"}, "begin"),
        ({"end": ""}, "end"),
        ({"end": "2999-01-01T00:00"}, "end"),
        ({"begin": "2999-01-01T00:00"}, "end"),
        ({"parallel": "0"}, "parallel"),
    ],
)
def test_a_window_that_cannot_be_is_said_at_its_field(fields, field):
    page = browser().post(start(quarterly()), window(**fields))
    assert set(page.context["form"].errors) == {field}
    assert not Replay.objects.exists()


def test_replays_are_for_those_who_may_run_the_task():
    people.online_client()
    task, user = quarterly(), people.stranger()
    assert browser(user).get(start(task)).status_code == 404
    assign_perm("tasks_app.view_task", user, task)
    assert browser(user).get(start(task)).status_code == 403
    browser().post(start(task), window())
    replay = Replay.objects.get()
    url = reverse("admin:executions_app_replay_change", args=[replay.pk])
    page = browser(user).get(url)
    assert (page.status_code, page.context["may_cancel"]) == (200, False)
    cancel = reverse("admin:executions_app_replay_cancel", args=[replay.pk])
    assert browser(user).post(cancel, headers={"X-Requested-With": "fetch"}).status_code == 403
    assert browser(people.stranger("other")).get(url).status_code in (403, 404)


def test_the_scheduler_is_shown_to_those_who_see_all():
    metrics.report("beat:one", {"leader": True, "tasks": 12, "backlog": 3})
    metrics.report("beat:two", {"leader": False, "tasks": 12, "backlog": 0})
    metrics.flush()
    url = reverse("admin:executions_app_scheduler")
    page = browser().get(url)
    assert [(i["name"], i["leads"]) for i in page.context["instances"]] == [
        ("beat:one", True),
        ("beat:two", False),
    ]
    assert (page.context["planned"], page.context["backlog"]) == (12, 3)
    assert not page.context["state"]["alive"]  # no lease
    user = people.stranger()
    assert browser(user).get(url).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_execution"))
    assert browser(user).get(url).status_code == 200


def test_missed_firings_are_listed_for_the_tasks_that_one_may_see():
    now = timezone.now()
    for task in (people.task("mine"), people.task("theirs")):
        MissedFiring.objects.create(
            task_id=task.pk, task_name=task.name, first_time=now, last_time=now, count=3
        )
    MissedFiring.objects.filter(task_name="mine").update(resolved_at=now)
    url = reverse("admin:executions_app_missedfiring_changelist")
    assert browser().get(url).context["cl"].result_count == 2
    assert [e.task_name for e in browser().get(url, {"resolved": "no"}).context["cl"].result_list] == [
        "theirs"
    ]
    assert [e.task_name for e in browser().get(url, {"resolved": "yes"}).context["cl"].result_list] == [
        "mine"
    ]
    user = people.stranger()
    assert browser(user).get(url).context["cl"].result_count == 0
    theirs = MissedFiring.objects.get(task_name="theirs").task_id
    assign_perm("tasks_app.view_task", user, people.Task.objects.get(pk=theirs))
    assert [e.task_name for e in browser(user).get(url).context["cl"].result_list] == ["theirs"]


def test_a_tasks_page_draws_what_runs_before_and_after_it():
    first = people.task("first")
    second = people.task("second", dependencies=[{"task_id": first.pk, "condition": "failure"}])
    third = people.task("third", dependencies=[{"task_id": second.pk}])
    page = browser().get(reverse("admin:tasks_app_task_detail", args=[second.pk]))
    place = {box.label: box.x for box in page.context["graph"].boxes}
    assert place["first"] < place["second"] < place["third"]
    assert {line.css for line in page.context["graph"].lines} == {"graph-on-failure", "graph-on-success"}
    assert [(parent.name, words) for parent, words in page.context["parents"]] == [("first", "失败后")]
    # Those that one may not see are not drawn.
    user = people.stranger()
    for task in (second, third):
        assign_perm("tasks_app.view_task", user, task)
    page = browser(user).get(reverse("admin:tasks_app_task_detail", args=[second.pk]))
    assert {box.label for box in page.context["graph"].boxes} == {"second", "third"}
    assert page.context["parents"] == []
    alone = browser().get(reverse("admin:tasks_app_task_detail", args=[people.task("alone").pk]))
    assert alone.context["graph"] is None
