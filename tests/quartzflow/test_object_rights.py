"""Rights on one object: who may give which, and the page where that is done."""

import pytest
from django.contrib.auth.models import Group as Role
from django.contrib.auth.models import User
from django.urls import reverse
from guardian.shortcuts import assign_perm

from quartzflow.errors import InvalidInput, NotAllowed
from quartzflow.models import AuditEntry
from quartzflow.object_rights import Held, do_set_rights, held, may_give
from tests import people
from tests.quartzflow.test_console import browser

pytestmark = pytest.mark.django_db

KNOWN = ("view", "trigger", "change")


@pytest.fixture
def stranger() -> User:
    return people.stranger()


def page_of(task) -> str:
    return reverse("admin:tasks_app_task_rights", args=[task.pk])


def test_a_right_brings_that_to_see_and_is_written_down(stranger: User):
    task = people.task()
    assert do_set_rights(people.admin(), task, stranger, ["trigger"], KNOWN)
    assert held(task, KNOWN) == [Held(stranger, frozenset({"view", "trigger"}))]
    told = AuditEntry.objects.filter(action="permission.grant").values_list("changes__permission", flat=True)
    assert sorted(told) == ["trigger_task", "view_task"]
    assert not do_set_rights(people.admin(), task, stranger, ["trigger", "view"], KNOWN)
    assert do_set_rights(people.admin(), task, stranger, [], KNOWN)
    assert held(task, KNOWN) == []
    assert AuditEntry.objects.filter(action="permission.withdraw").count() == 2


def test_roles_have_rights_too_and_other_rights_stay(stranger: User):
    task, role = people.task(), Role.objects.create(name="night shift")
    assign_perm("tasks_app.delete_task", stranger, task)
    do_set_rights(people.admin(), task, role, ["change"], KNOWN)
    do_set_rights(people.admin(), task, stranger, ["view"], KNOWN)
    assert [row.holder for row in held(task, KNOWN)] == [role, stranger]
    assert User.objects.get(pk=stranger.pk).has_perm("tasks_app.delete_task", task)


def test_an_owner_gives_what_the_owner_has_and_others_give_nothing(stranger: User):
    owner = User.objects.create_user("owner")
    task = people.task()
    type(task).objects.filter(pk=task.pk).update(owner=owner)
    task.refresh_from_db()
    for action in ("view", "trigger"):
        assign_perm(f"tasks_app.{action}_task", owner, task)
    assert may_give(owner, task) and not may_give(stranger, task) and not may_give(owner, people.group())
    do_set_rights(owner, task, stranger, ["trigger"], KNOWN)
    with pytest.raises(NotAllowed):
        do_set_rights(owner, task, stranger, ["trigger", "change"], KNOWN)
    do_set_rights(people.admin(), task, stranger, ["change"], KNOWN)
    with pytest.raises(NotAllowed):  # nor take
        do_set_rights(owner, task, stranger, ["view"], KNOWN)
    with pytest.raises(NotAllowed):
        do_set_rights(stranger, task, stranger, ["trigger"], KNOWN)
    with pytest.raises(InvalidInput):
        do_set_rights(people.admin(), task, stranger, ["fly"], KNOWN)


def test_the_page_gives_changes_and_takes(stranger: User):
    task, admin = people.task(), browser()
    page = admin.post(page_of(task), {"new": f"user-{stranger.pk}", "new_rights": ["trigger", "view_logs"]})
    assert page.status_code == 302
    assert browser(stranger).get(reverse("admin:tasks_app_task_detail", args=[task.pk])).status_code == 200
    key = f"user-{stranger.pk}"
    assert f'name="{key}" value="trigger"' in admin.get(page_of(task)).content.decode()
    admin.post(page_of(task), {f"shown-{key}": "1", key: ["view"]})
    assert [row.actions for row in held(task, KNOWN)] == [frozenset({"view"})]
    admin.post(page_of(task), {key: []})  # not shown on that page: stays as it is
    assert len(held(task, KNOWN)) == 1
    admin.post(page_of(task), {f"shown-{key}": "1"})
    assert held(task, KNOWN) == []
    assert browser(stranger).get(reverse("admin:tasks_app_task_detail", args=[task.pk])).status_code == 404


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"new": "user-0", "new_rights": ["view"]}, "选择用户或角色"),
        ({"new": "team-1", "new_rights": ["view"]}, "选择用户或角色"),
        ({"new": "role-1"}, "选择他们可以做什么"),
        ({"new": "role-1", "new_rights": ["fly"]}, "fly"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_lost(fields, said):
    task = people.task()
    page = browser().post(page_of(task), fields)
    assert page.status_code == 200
    assert said in page.content.decode()
    assert ('value="role-1" selected' in page.content.decode()) == (fields["new"] == "role-1")
    assert held(task, KNOWN) == []


def test_only_who_may_give_sees_the_page_and_the_way_to_it(stranger: User):
    task, group = people.task(), people.group()
    for right, obj in (
        ("tasks_app.change_task", task),
        ("groups_app.view_group", group),
        ("tasks_app.view_task", task),
    ):
        assign_perm(right, stranger, obj)
    theirs = browser(stranger)
    for name, obj in (("tasks_app_task", task), ("groups_app_group", group)):
        url = reverse(f"admin:{name}_rights", args=[obj.pk])
        assert theirs.get(url).status_code == 403
        assert theirs.post(url, {"new": f"user-{stranger.pk}", "new_rights": ["delete"]}).status_code == 403
        for page, shown in ((theirs, False), (browser(), True)):
            assert (url in page.get(reverse(f"admin:{name}_changelist")).content.decode()) is shown
    type(task).objects.filter(pk=task.pk).update(owner=stranger)
    page = theirs.get(page_of(task)).content.decode()
    assert 'id="new-change"' in page and 'value="delete" id="new-delete" disabled' in page
    url = reverse("admin:groups_app_group_rights", args=[group.pk + 1])
    assert browser(stranger).get(url).status_code == 404
