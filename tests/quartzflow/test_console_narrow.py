"""The list of executions, narrowed down; its rows' menus and buttons; and where the overview's marks lead."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from guardian.shortcuts import assign_perm
from quartzflow_agent.schedule import uuid7

from executions_app.dispatch import Firing, fire
from executions_app.models import Execution
from tests import people
from tests.quartzflow.test_console import browser, execution

pytestmark = pytest.mark.django_db
LIST = "admin:executions_app_execution_changelist"


def listed(user=None, **query) -> list[str]:
    page = browser(user).get(reverse(LIST), query)
    assert page.status_code == 200, query
    return sorted(f"{row.task_name}@{row.client_id}" for row in page.context["cl"].result_list)


@pytest.fixture
def two() -> list[Execution]:
    """backup and backup-2, each on web-1 and web-2; those of backup were due on the first of January 2026."""
    people.online_client("web-1"), people.online_client("web-2", session="s2")
    made = []
    for name in ("backup", "backup-2"):
        made += fire([Firing(people.task(name).pk, timezone.now(), uuid7())])
    Execution.objects.filter(task_name="backup").update(scheduled_time=people.at(2026, 1, 1, 12, 0))
    return made


def test_a_name_means_just_that_one_or_all_that_contain_it(two):
    assert listed(task="backup") == ["backup@web-1", "backup@web-2"]
    assert len(listed(task="back")) == 4
    assert listed(task="BACKUP-2", host="web-1") == ["backup-2@web-1"]
    assert listed(host="web-2", task="nothing") == []
    assert len(listed(host="web")) == 4


def test_days_are_whole_and_nonsense_is_left_out(two):
    assert listed(**{"from": "2026-01-01", "to": "2026-01-01"}) == ["backup@web-1", "backup@web-2"]
    assert listed(to="2025-12-31") == []
    assert listed(**{"from": "2026-01-02"}) == ["backup-2@web-1", "backup-2@web-2"]
    assert len(listed(**{"from": "yesterday", "task": " "})) == 4
    page = browser().get(
        reverse(LIST), {"task": "backup", "from": "2026-01-01", "status": "live", "q": "web"}
    )
    shown = page.content.decode()
    assert "backup, 2026-01-01 – …" in shown
    assert '<input type="hidden" name="status" value="live">' in shown


def test_only_what_one_may_see_is_found_by_its_name(two):
    user = people.stranger()
    assign_perm("tasks_app.view_task", user, two[0].task)
    assert listed(user, task="backup-2") == []
    assert listed(user, task="backup") == ["backup@web-1", "backup@web-2"]
    assert listed(user, host="web-1") == []  # a host that one may not see is not known by its name


def test_a_rows_menu_is_of_what_the_row_is_now():
    made = execution()
    url = reverse("admin:executions_app_execution_menu", args=[made.pk])
    cancel = reverse("admin:executions_app_execution_cancel", args=[made.pk])
    retry = reverse("admin:executions_app_execution_retry", args=[made.pk])
    menu = browser().get(url).content.decode()
    assert cancel in menu and retry not in menu
    Execution.objects.filter(pk=made.pk).update(status=4)
    menu = browser().get(url).content.decode()
    assert retry in menu and cancel not in menu
    user = people.stranger()
    assert browser(user).get(url).status_code == 404
    assign_perm("tasks_app.view_task", user, made.task)
    menu = browser(user).get(url).content.decode()
    assert menu.count('role="menuitem"') == 2 and "row-action-form" not in menu


def test_whoever_may_run_a_task_has_its_failures_tried_again_from_the_row():
    made = execution()
    user = people.stranger()
    assign_perm("tasks_app.view_task", user, made.task)
    assert "retry-now" not in browser(user).get(reverse(LIST)).content.decode()
    assign_perm("tasks_app.trigger_task", user, made.task)
    page = browser(user).get(reverse(LIST)).content.decode()
    assert f'formaction="{reverse("admin:executions_app_execution_retry", args=[made.pk])}"' in page
    # Rows that come in later have the button only for those who may run all tasks: it is not known whose they are.
    assert page.count("retry-now") == 1
    assert browser().get(reverse(LIST)).content.decode().count("retry-now") == 2


def test_minutes_and_figures_of_the_overview_lead_to_what_they_count():
    soon = timezone.now() + timedelta(minutes=10)
    pks = [people.task(name, cron_expr=f"{soon.minute} * * * *").pk for name in ("one", "two")]
    page = browser().get(reverse("admin:index"))
    marks = [bar["column"] for bar in page.context["ahead"]["bars"] if bar["column"].counted.total == 2]
    assert marks[0].url.endswith(f"?id__in={pks[0]},{pks[1]}")
    people.task("three")
    tasks = browser().get(marks[0].url)
    assert sorted(task.pk for task in tasks.context["cl"].result_list) == pks
    assert "2 个选定的任务" in tasks.content.decode()
    shown = page.content.decode()
    for name in ("tasks_app_task", "groups_app_client"):
        assert f"{reverse(f'admin:{name}_changelist')}?status__exact=1" in shown


def test_a_task_has_a_switch_for_whoever_may_change_it():
    task, user = people.task(), people.stranger()
    assign_perm("tasks_app.view_task", user, task)
    where = reverse("admin:tasks_app_task_changelist")
    assert 'role="switch"' not in browser(user).get(where).content.decode()
    assign_perm("tasks_app.change_task", user, task)
    page = browser(user).get(where).content.decode()
    assert 'role="switch"' in page and "data-confirm" in page.split('role="switch"')[1].split(">")[0]
    browser(user).post(reverse("admin:tasks_app_task_disable", args=[task.pk]))
    page = browser(user).get(where).content.decode()
    assert (
        'aria-checked="false"' in page and "data-confirm" not in page.split('role="switch"')[1].split(">")[0]
    )
