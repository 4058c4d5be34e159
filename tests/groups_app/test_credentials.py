"""Who a host is: credentials that are rotated, reset and revoked, and addresses that stand for them."""

import pytest

from groups_app import actions, presence
from groups_app.legacy import register_legacy
from groups_app.models import Client
from groups_app.selectors import online_clients
from quartzflow import bridges
from quartzflow.errors import Conflict, NotAllowed, NotFound
from quartzflow.models import AuditEntry
from tests import people

from .test_presence import info, token

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(monkeypatch, django_capture_on_commit_callbacks):
    """`with sent() as messages`: what bridges are sent when the block's changes are committed."""
    from contextlib import contextmanager

    found = []
    monkeypatch.setattr(bridges, "send", lambda bridge_id, message: found.append((bridge_id, message)))

    @contextmanager
    def sent():
        found.clear()
        with django_capture_on_commit_callbacks(execute=True):
            yield found

    return sent


def enrolled():
    """A registered agent's credential."""
    return presence.register(info(enrollment_token=token())).credential


def actions_of_trail():
    return list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))


def test_a_new_credential_takes_the_place_of_the_old_one_once_it_was_used(sent):
    old = enrolled()
    with sent() as messages:
        actions.do_rotate_client(people.admin(), Client.objects.get())
    assert messages == [
        (people.BRIDGE, {"type": "reconnect", "client_id": "web-1", "reason": "new credential"})
    ]
    first = presence.register(info(credential=old)).credential
    second = presence.register(
        info(credential=old)
    ).credential  # the answer was lost: the old one is still valid
    assert first and second and len({old, first, second}) == 3
    assert presence.register(info(credential=first)).code == "bad_credential"
    used = presence.register(info(credential=second))
    assert used.accepted and not used.credential
    assert presence.register(info(credential=old)).code == "bad_credential"
    assert presence.register(info(credential=second)).accepted
    assert not Client.objects.get().credential_rotating
    assert actions_of_trail()[-2:] == ["client.rotate", "client.rotated"]
    assert not any(secret in str(list(AuditEntry.objects.values())) for secret in (old, first, second))


def test_a_rotation_that_is_asked_for_again_begins_again():
    old = enrolled()
    actions.do_rotate_client(None, Client.objects.get())
    new = presence.register(info(credential=old)).credential
    actions.do_rotate_client(None, Client.objects.get())
    assert presence.register(info(credential=new)).code == "bad_credential"
    assert presence.register(info(credential=old)).credential


def test_a_reset_lets_the_client_id_be_enrolled_anew(sent):
    old = enrolled()
    assert presence.register(info(enrollment_token=token())).code == "bad_token"
    with sent() as messages:
        actions.do_reset_client(people.admin(), Client.objects.get())
    assert messages == [(people.BRIDGE, {"type": "close", "client_id": "web-1", "reason": "reset"})]
    assert presence.register(info(credential=old)).code == "bad_credential"
    assert presence.register(info(enrollment_token=token())).accepted
    assert Client.objects.count() == 1


def test_what_was_revoked_stays_out_until_it_is_reset(sent):
    old = enrolled()
    actions.do_rotate_client(None, Client.objects.get())
    new = presence.register(info(credential=old)).credential
    with sent() as messages:
        actions.do_revoke_client(people.admin(), Client.objects.get())
    assert messages == [(people.BRIDGE, {"type": "close", "client_id": "web-1", "reason": "revoked"})]
    for credential in (old, new):
        assert presence.register(info(credential=credential)).code == "bad_credential"
    assert presence.register(info(enrollment_token=token())).code == "revoked"
    with pytest.raises(Conflict):
        actions.do_rotate_client(None, Client.objects.get())
    actions.do_reset_client(None, Client.objects.get())
    assert presence.register(info(enrollment_token=token())).accepted


def arrive(ip="10.0.0.1", session="s1"):
    return register_legacy(info(ip=ip, session_id=session))


def leave(session="s1"):
    presence.mark_offline([("web-1", session)], "test")


def test_a_quic_flow_client_gets_work_once_it_is_approved(sent):
    people.admin()
    arrived = arrive()
    client = Client.objects.get()
    assert (arrived.accepted, arrived.approved, client.kind, client.approval) == (
        True,
        False,
        "legacy",
        "pending",
    )
    assert online_clients(None) == []
    with sent() as messages:
        actions.do_approve_client(people.admin(), client, people.group())
    assert messages == [(people.BRIDGE, {"type": "reconnect", "client_id": "web-1", "reason": "approved"})]
    assert online_clients([people.group().pk]) == [("web-1", people.group().pk, people.BRIDGE)]
    assert arrive(session="s2").approved
    with pytest.raises(Conflict):
        actions.do_approve_client(people.admin(), client, people.group())
    assert actions_of_trail()[-1] == "client.approve"


def test_its_approval_lapses_when_it_comes_from_elsewhere():
    arrive()
    actions.do_approve_client(None, Client.objects.get(), people.group())
    assert arrive("10.0.0.2").code == "in_use"  # nobody takes a live client's place
    assert Client.objects.get().approval == "approved"
    leave()
    assert not arrive("10.0.0.2").approved
    assert actions_of_trail()[-1] == "client.approval_lapse"
    leave()
    assert not arrive("10.0.0.1").approved  # the old address has to be approved again, too
    leave()
    assert not arrive("10.0.0.2").approved
    actions.do_approve_client(None, Client.objects.get(), people.group())
    assert arrive("10.0.0.2").approved


def test_an_operator_approves_the_address_that_was_seen():
    arrive()
    seen = Client.objects.get().ip
    leave()
    arrive("10.0.0.2")
    with pytest.raises(Conflict):
        actions.do_approve_client(None, Client.objects.get(), people.group(), ip=seen)
    assert Client.objects.get().approval == "pending"


def test_agents_and_quic_flow_clients_do_not_take_each_others_names():
    enrolled()
    assert arrive().code == "taken"
    Client.objects.all().delete()
    arrive()
    assert presence.register(info(enrollment_token=token())).code == "bad_token"
    actions.do_reset_client(None, Client.objects.get())
    assert presence.register(info(enrollment_token=token())).accepted
    assert arrive().code == "taken"


def test_a_revoked_quic_flow_client_stays_out_and_nonsense_too():
    arrive()
    actions.do_revoke_client(None, Client.objects.get())
    assert arrive().code == "revoked"
    assert register_legacy(info(client_id="a b")).code == "invalid"
    assert Client.objects.count() == 1


def test_managers_of_a_group_decide_about_its_hosts():
    from guardian.shortcuts import assign_perm

    user, client = people.stranger(), people.online_client()
    for action in (actions.do_rotate_client, actions.do_reset_client, actions.do_revoke_client):
        with pytest.raises(NotFound):
            action(user, client)
    assign_perm("groups_app.view_group", user, people.group())
    with pytest.raises(NotAllowed):
        actions.do_rotate_client(people.User.objects.get(pk=user.pk), client)
    assign_perm("groups_app.manage_hosts", user, people.group())
    user = people.User.objects.get(pk=user.pk)  # rights are cached
    actions.do_rotate_client(user, client)
    actions.do_revoke_client(user, client)
    register_legacy(info(client_id="old-1"))
    pending = Client.objects.get(client_id="old-1")
    with pytest.raises((NotAllowed, NotFound)):
        actions.do_approve_client(user, pending, people.group("other"))
    actions.do_approve_client(user, pending, people.group())
