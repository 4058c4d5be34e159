"""The roles out of the box, each with what it may and may not."""

import pytest
from django.core.management import call_command

from executions_app.control import do_trigger_task
from quartzflow import roles
from quartzflow.errors import NotAllowed
from quartzflow.permissions import allowed
from tests import people

pytestmark = pytest.mark.django_db


def somebody(role):
    user = people.stranger(role)
    user.groups.add(people.role(role))
    return type(user).objects.get(pk=user.pk)


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("viewer", {"view", "view_logs"}),
        ("developer", {"view", "view_logs", "change", "trigger", "cancel"}),
        ("operator", {"view", "view_logs", "change", "trigger", "cancel", "delete"}),
        ("admin", {"view", "view_logs", "change", "trigger", "cancel", "delete"}),
    ],
)
def test_what_a_role_may_do_with_tasks(role, may):
    user, task = somebody(role), people.task()
    actions = ("view", "view_logs", "change", "trigger", "cancel", "delete")
    assert {action for action in actions if allowed(user, task, action)} == may


def test_only_operators_and_administrators_touch_groups():
    group = people.group()
    assert [role for role in roles.ROLES if allowed(somebody(role), group, "manage_hosts")] == [
        "admin",
        "operator",
    ]


def test_only_administrators_see_the_audit_log():
    assert [role for role in roles.ROLES if somebody(role).has_perm("quartzflow.view_auditentry")] == [
        "admin"
    ]


def test_a_viewer_cannot_run_anything():
    with pytest.raises(NotAllowed):
        do_trigger_task(somebody("viewer"), people.task())


def test_every_permission_of_a_role_exists():
    for name, codes in roles.ROLES.items():
        have = {f"{p.content_type.app_label}.{p.codename}" for p in people.role(name).permissions.all()}
        assert have == set(codes)


def test_what_an_administrator_changed_stays():
    people.role("viewer").permissions.clear()
    call_command("migrate", verbosity=0)
    assert not people.role("viewer").permissions.exists()
