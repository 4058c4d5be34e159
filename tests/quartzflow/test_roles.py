"""The roles out of the box, each with what it may and may not."""

import importlib

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command

from executions_app.control import do_trigger_task
from quartzflow import roles
from quartzflow.errors import NotAllowed
from quartzflow.models import RoleGrant
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


def upgrade(monkeypatch, **more):
    """Migrate to a release that defines more permissions of roles."""
    monkeypatch.setattr(roles, "ROLES", {**roles.ROLES, **more})
    call_command("migrate", verbosity=0)


def codes(role):
    return {f"{p.content_type.app_label}.{p.codename}" for p in people.role(role).permissions.all()}


def test_what_a_release_adds_reaches_roles_and_nothing_else_comes_back(monkeypatch):
    people.role("viewer").permissions.remove(Permission.objects.get(codename="view_client"))
    people.role("viewer").permissions.add(Permission.objects.get(codename="trigger_task"))
    before = codes("viewer")
    upgrade(monkeypatch, viewer=(*roles.VIEW, "executions_app.view_alertrule"))
    assert codes("viewer") == before | {"executions_app.view_alertrule"}
    # Taken away in its turn, it stays away as well.
    people.role("viewer").permissions.remove(Permission.objects.get(codename="view_alertrule"))
    call_command("migrate", verbosity=0)
    assert codes("viewer") == before


def test_what_is_no_longer_defined_stays_with_those_who_have_it(monkeypatch):
    upgrade(monkeypatch, viewer=("tasks_app.view_task",))
    assert codes("viewer") == set(roles.VIEW)


def test_a_deleted_role_is_made_anew_and_one_of_the_same_name_is_left_alone():
    people.role("viewer").delete()
    people.role("developer").delete()
    Group.objects.create(name="viewer")
    call_command("migrate", verbosity=0)
    assert (codes("viewer"), codes("developer")) == (set(), set(roles.DEVELOP))


def test_a_permission_that_is_not_there_yet_is_given_when_it_is(monkeypatch):
    upgrade(monkeypatch, viewer=(*roles.VIEW, "tasks_app.fly_task"))
    assert not RoleGrant.objects.filter(permission="tasks_app.fly_task").exists()
    kind = Permission.objects.get(codename="view_task").content_type
    Permission.objects.create(content_type=kind, codename="fly_task", name="Fly")
    call_command("migrate", verbosity=0)
    assert "tasks_app.fly_task" in codes("viewer")


def test_roles_of_before_there_was_a_memory_get_what_was_defined_since():
    """As 0005 left them: made by an old release, one changed by an administrator, and nothing remembered."""
    migration = importlib.import_module("quartzflow.migrations.0006_role_grants")
    RoleGrant.objects.all().delete()
    for name, first in migration.FIRST.items():
        people.role(name).permissions.set(roles._permissions(set(first)).values())
    people.role("operator").permissions.remove(Permission.objects.get(codename="delete_task"))
    people.role("developer").delete()
    migration.remember_first_grants(apps, None)
    call_command("migrate", verbosity=0)
    assert codes("operator") == set(roles.OPERATE) - {"tasks_app.delete_task"}
    for name in ("admin", "developer", "viewer"):
        assert codes(name) == set(roles.ROLES[name])


def test_a_migration_to_before_there_was_a_memory_leaves_roles_alone():
    class Old:
        """The models of an older state."""

        def get_model(self, app, model):
            raise LookupError(app, model)

    people.role("viewer").delete()
    roles.create_roles(apps=Old())
    assert not Group.objects.filter(name="viewer").exists()
