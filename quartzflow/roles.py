"""The roles out of the box (PRD §1.3): permission groups that an administrator may change afterwards.

A role gives its rights on every object of a kind. Rights on single tasks and host groups are given besides, per object,
to users or roles; whoever should see only some tasks gets no role but `role_member`, and rights per object. What such
a person makes is theirs: permissions.grant_own.
"""

from typing import Any

from django.apps import apps as global_apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission
from django.db import transaction

from .models import RoleGrant

# Permissions `app.codename`. One that is added here reaches the installations that are there when they migrate.
VIEW = (
    "tasks_app.view_task",
    "tasks_app.view_logs_task",
    "tasks_app.view_calendar",
    "groups_app.view_group",
    "groups_app.view_client",
    "executions_app.view_execution",
    "executions_app.view_alert",
)
DEVELOP = (
    *VIEW,
    "tasks_app.add_task",
    "tasks_app.change_task",
    "tasks_app.trigger_task",
    "tasks_app.cancel_task",
)
OPERATE = (
    *DEVELOP,
    "tasks_app.delete_task",
    "tasks_app.add_calendar",
    "tasks_app.change_calendar",
    "tasks_app.delete_calendar",
    "groups_app.add_group",
    "groups_app.change_group",
    "groups_app.delete_group",
    "groups_app.manage_hosts",
    "groups_app.change_client",
    "groups_app.delete_client",
    "groups_app.view_enrollmenttoken",
    "groups_app.add_enrollmenttoken",
    "groups_app.change_enrollmenttoken",
    "groups_app.delete_enrollmenttoken",
    "quartzflow.view_secret",
    "quartzflow.use_secret",
    "executions_app.change_alert",
    "executions_app.view_alertrule",
    "executions_app.add_alertrule",
    "executions_app.change_alertrule",
    "executions_app.delete_alertrule",
    "executions_app.view_alertchannel",
    "executions_app.add_alertchannel",
    "executions_app.change_alertchannel",
    "executions_app.delete_alertchannel",
    "executions_app.view_alertsilence",
    "executions_app.add_alertsilence",
    "executions_app.change_alertsilence",
    "executions_app.delete_alertsilence",
    "executions_app.view_reportschedule",
    "executions_app.add_reportschedule",
    "executions_app.change_reportschedule",
    "executions_app.delete_reportschedule",
)
ADMINISTER = (
    *OPERATE,
    "quartzflow.view_auditentry",
    "quartzflow.view_systemsetting",
    "quartzflow.change_systemsetting",
    "quartzflow.add_secret",
    "quartzflow.change_secret",
    "quartzflow.delete_secret",
    "auth.view_user",
    "auth.add_user",
    "auth.change_user",
    "auth.delete_user",
    "auth.view_group",
    "auth.add_group",
    "auth.change_group",
    "auth.delete_group",
)
ROLES = {"admin": ADMINISTER, "operator": OPERATE, "developer": DEVELOP, "viewer": VIEW}


def create_roles(**kwargs: Any) -> None:
    """After a migration: make the roles that are missing, and give the others what a release has added to them.

    1. A permission is given to a role once: RoleGrant remembers it, whatever an administrator does with it later.
    2. A role that was deleted is made anew, whole; one that somebody made under its name gets what is new only.
    """
    try:
        # The models as migrated so far: a migration to an older state ends here, too.
        kwargs.get("apps", global_apps).get_model("quartzflow", "RoleGrant")
    except LookupError:
        return
    # Permissions are made app by app after this signal; the roles need all of them.
    for config in global_apps.get_app_configs():
        create_permissions(config, verbosity=0, using=kwargs.get("using", "default"))
    for name, codes in ROLES.items():
        with transaction.atomic():
            role, created = Group.objects.get_or_create(name=name)
            given = (
                set()
                if created
                else set(RoleGrant.objects.filter(role=name).values_list("permission", flat=True))
            )
            fresh = _permissions(set(codes) - given)
            if fresh:
                role.permissions.add(*fresh.values())
                RoleGrant.objects.bulk_create(
                    [RoleGrant(role=name, permission=code) for code in fresh], ignore_conflicts=True
                )


def _permissions(codes: set[str]) -> dict[str, Permission]:
    """Those of the codes that there are."""
    names = {code.split(".", 1)[1] for code in codes}
    rows = Permission.objects.filter(codename__in=names).select_related("content_type")
    found = {f"{row.content_type.app_label}.{row.codename}": row for row in rows}
    return {code: found[code] for code in sorted(codes & found.keys())}
