"""Groups and tokens: who may, and what is remembered of it."""

import pytest

from groups_app import actions, presence
from groups_app.models import EnrollmentToken, Group
from quartzflow.errors import Conflict, NotAllowed, NotFound
from quartzflow.models import AuditEntry
from tests import people

pytestmark = pytest.mark.django_db


def trail():
    return list(
        AuditEntry.objects.exclude(action__startswith="role").order_by("pk").values_list("action", "changes")
    )


def test_what_was_done_to_a_group_is_remembered():
    user = people.admin()
    before = len(trail())
    group = actions.do_save_group(user, {"name": "prod", "tags": ["a"]})
    actions.do_save_group(user, {"description": "x"}, group)
    actions.do_save_group(user, {"description": "x"}, group)  # nothing changed
    actions.do_delete_group(user, group)
    assert trail()[before:] == [
        ("group.create", {"name": [None, "prod"], "description": [None, ""], "tags": [None, "a"]}),
        ("group.update", {"description": ["", "x"]}),
        ("group.delete", {"name": "prod", "description": "x", "tags": "a"}),
    ]


def test_a_refused_deletion_leaves_no_trace():
    people.task()
    before = len(trail())
    with pytest.raises(Conflict):
        actions.do_delete_group(people.admin(), people.group())
    assert len(trail()) == before
    assert Group.objects.exists()


def test_a_revoked_token_lets_nobody_in_and_is_not_in_the_trail():
    row, secret = actions.do_create_enrollment_token(people.admin(), people.group())
    actions.do_revoke_enrollment_token(people.admin(), row)
    with pytest.raises(Conflict):
        actions.do_revoke_enrollment_token(people.admin(), row)
    refused = presence.register(
        presence.RegisterInfo(client_id="a", bridge_id="b", session_id="s", ip="", enrollment_token=secret)
    )
    assert refused.code == "bad_token"
    assert secret not in str(trail())
    assert [action for action, _ in trail()[-2:]] == ["enrollment_token.create", "enrollment_token.revoke"]


def test_rights():
    user = people.stranger()
    for forbidden in (
        lambda: actions.do_save_group(user, {"name": "x"}),
        lambda: actions.do_save_group(user, {"name": "x"}, people.group()),
        lambda: actions.do_delete_group(user, people.group()),
        lambda: actions.do_create_enrollment_token(user, people.group()),
        lambda: actions.do_revoke_client(user, people.online_client()),
    ):
        with pytest.raises((NotAllowed, NotFound)):
            forbidden()
    assert not EnrollmentToken.objects.filter(created_by=user).exists()
