"""Which configuration version a host must hold: the newest that changed anything for it."""

import pytest
from django.test import Client as Browser
from django.urls import reverse

from groups_app.models import Client
from tasks_app.actions import do_delete_tasks, do_update_task
from tasks_app.configs import current_version, record_client_changes, wanted_versions
from tasks_app.models import ConfigChange
from tests import people

pytestmark = pytest.mark.django_db


def holding(client, version):
    Client.objects.filter(pk=client.pk).update(task_version=version)
    client.refresh_from_db()
    return client


def test_changes_of_other_groups_leave_no_host_behind():
    here, there = people.group("here"), people.group("there")
    people.task("one", group_ids=[here.pk])
    held = current_version()
    mine = holding(people.online_client("web-1", here), held)
    other = holding(people.online_client("web-2", there), held)
    elsewhere = people.task("two", group_ids=[there.pk])
    assert wanted_versions([mine, other]) == {"web-1": held, "web-2": current_version()}
    do_update_task(people.admin(), elsewhere, {"description": "new"})
    do_delete_tasks(people.admin(), [elsewhere])
    assert wanted_versions([mine, other]) == {"web-1": held, "web-2": current_version()}
    browser = Browser()
    browser.force_login(people.admin())
    page = browser.get(reverse("admin:groups_app_client_change", args=[mine.pk])).content.decode()
    assert "最新" in page
    assert "落后" not in page
    page = browser.get(reverse("admin:groups_app_client_change", args=[other.pk])).content.decode()
    assert "落后" in page


def test_global_tasks_and_moves_concern_a_host():
    here, there = people.group("here"), people.group("there")
    people.task("one", group_ids=[there.pk])
    mine = holding(people.online_client("web-1", here), current_version())
    people.task("all", group_ids=[], is_global=True)
    assert wanted_versions([mine]) == {"web-1": current_version()}
    mine = holding(mine, current_version())
    Client.objects.filter(pk=mine.pk).update(group=there)
    record_client_changes([mine.client_id])
    people.task("again", group_ids=[here.pk])
    mine.refresh_from_db()
    assert wanted_versions([mine]) == {"web-1": current_version() - 1}


def test_beyond_the_changes_that_are_kept_any_counts():
    mine = holding(people.online_client("web-1"), 1)
    for name in "abc":
        people.task(name, group_ids=[people.group("there").pk])
    ConfigChange.objects.filter(version__lt=current_version()).delete()
    assert wanted_versions([mine]) == {"web-1": current_version()}
    assert wanted_versions([holding(mine, 0)]) == {"web-1": current_version()}
