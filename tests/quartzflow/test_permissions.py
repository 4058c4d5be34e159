"""Which objects somebody may see or change."""

import pytest
from django.contrib.auth.models import AnonymousUser, Permission
from django.contrib.auth.models import Group as Role
from guardian.models import UserObjectPermission
from guardian.shortcuts import assign_perm, get_objects_for_user

from groups_app.models import Group
from quartzflow.permissions import visible
from tasks_app.models import Task
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")


@pytest.fixture
def tasks(each_database):
    return [people.task(f"job-{n}") for n in range(4)]


def names(user, action="view"):
    rows = visible(user, Task.objects.all(), action).order_by("name")
    found = [task.name for task in rows]
    # What guardian itself says, more slowly.
    permission = f"tasks_app.{action}_task"
    assert set(rows) == set(get_objects_for_user(user, permission, Task, accept_global_perms=True))
    return found


def test_rights_of_ones_own_and_of_ones_roles_come_together_each_task_once(tasks):
    user, role = people.stranger(), Role.objects.create(name="team")
    assert names(user) == []
    user.groups.add(role)
    assign_perm("tasks_app.view_task", user, tasks[0])
    assign_perm("tasks_app.view_task", user, tasks[1])
    assign_perm("tasks_app.view_task", role, tasks[1])
    assign_perm("tasks_app.view_task", role, tasks[3])
    assert names(user) == ["job-0", "job-1", "job-3"]
    assert names(user, "change") == []
    assert names(people.stranger("another")) == []


def test_a_right_to_a_thing_of_another_kind_with_the_same_number_is_none(tasks):
    user = people.stranger()
    group = Group.objects.create(pk=tasks[0].pk + 1000, name="g")
    Task.objects.filter(pk=tasks[0].pk).update(name="other")
    assign_perm("groups_app.view_group", user, group)
    Task.objects.filter(pk=tasks[1].pk).delete()
    assert names(user) == []
    assert list(visible(user, Group.objects.all())) == [group]


def test_a_right_that_outlived_its_task_does_no_harm(tasks):
    user = people.stranger()
    assign_perm("tasks_app.view_task", user, tasks[0])
    UserObjectPermission.objects.update(object_pk="987654321")
    assert names(user) == []


def test_whoever_may_see_all_sees_all_and_who_may_not_log_in_nothing(tasks):
    user = people.stranger()
    user.user_permissions.add(Permission.objects.get(codename="view_task"))
    assert names(type(user).objects.get(pk=user.pk)) == [f"job-{n}" for n in range(4)]
    assert names(people.admin(), "delete") == [f"job-{n}" for n in range(4)]
    gone = people.admin("gone")
    gone.is_active = False
    assert list(visible(gone, Task.objects.all())) == []
    assert list(visible(AnonymousUser(), Task.objects.all())) == []  # type: ignore[arg-type]


def test_they_can_be_narrowed_joined_and_used_within_another_query(tasks, django_assert_num_queries):
    user = people.stranger()
    for task in tasks[:3]:
        assign_perm("tasks_app.view_task", user, task)
    seen = visible(user, Task.objects.filter(name__gt="job-0"))
    list(seen)  # what is asked once per process or user
    with django_assert_num_queries(1):
        assert {task.name for task in seen.all()} == {"job-1", "job-2"}
    assert (seen | Task.objects.filter(name="job-3")).count() == 3
    assert Group.objects.filter(tasks__in=seen).distinct().count() == 1
