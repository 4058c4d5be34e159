"""Registration, heartbeats, and clients and bridges that go."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from groups_app import actions, presence
from groups_app.models import Bridge, Client, EnrollmentToken
from quartzflow.errors import InvalidInput
from tests import people

pytestmark = pytest.mark.django_db


def info(**fields):
    return presence.RegisterInfo(
        **{"client_id": "web-1", "bridge_id": people.BRIDGE, "session_id": "s1", "ip": "10.0.0.1", **fields}
    )


def token(**fields):
    return actions.do_create_enrollment_token(None, people.group(), **fields)[1]


def test_a_token_lets_a_host_in_and_gives_it_a_credential_of_its_own():
    first = presence.register(info(enrollment_token=token(), hostname="web", labels={"rack": "7"}))
    assert first.accepted and first.credential and first.group == "default"
    again = presence.register(info(credential=first.credential, session_id="s2"))
    assert again.accepted and not again.credential
    client = Client.objects.get()
    assert (client.session_id, client.is_online, client.group.name) == ("s2", True, "default")
    assert first.credential not in str(Client.objects.values().get())


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"credential": "qfc_wrong"}, "bad_credential"),
        ({"enrollment_token": "qfe_wrong"}, "bad_token"),
        ({}, "invalid"),
        ({"credential": "a", "enrollment_token": "b"}, "invalid"),
        ({"client_id": "", "credential": "a"}, "invalid"),
        ({"client_id": "-x", "credential": "a"}, "invalid"),
        ({"client_id": "a\nb", "credential": "a"}, "invalid"),
        ({"client_id": "x" * 65, "credential": "a"}, "invalid"),
        ({"credential": "a", "labels": {str(i): "" for i in range(65)}}, "invalid"),
        ({"credential": "a", "protocol_version": 99}, "protocol_version"),
    ],
)
def test_what_does_not_belong_stays_out(fields, code):
    outcome = presence.register(info(**fields))
    assert (outcome.accepted, outcome.code) == (False, code)
    assert outcome.message
    assert not Client.objects.exists()


@pytest.mark.parametrize(
    ("oldest", "newest", "agent", "message"),
    [
        (3, 3, 2, "speaks agent protocol 3, the agent 2 (agent 0.9): update the agent"),
        (2, 3, 1, "speaks agent protocol 2 to 3, the agent 1 (agent 0.9): update the agent"),
        (
            2,
            3,
            4,
            "speaks agent protocol 2 to 3, the agent 4 (agent 0.9): update the server first, then the agents",
        ),
    ],
)
def test_who_speaks_another_protocol_is_told_which_side_to_update(
    monkeypatch, oldest, newest, agent, message
):
    monkeypatch.setattr(presence, "OLDEST_PROTOCOL", oldest)
    monkeypatch.setattr(presence, "PROTOCOL_VERSION", newest)
    outcome = presence.register(info(enrollment_token=token(), protocol_version=agent, agent_version="0.9"))
    assert (outcome.accepted, outcome.code) == (False, "protocol_version")
    assert message in outcome.message


@pytest.mark.parametrize("agent", [2, 3])
def test_an_older_protocol_that_is_still_spoken_is_served(monkeypatch, agent):
    monkeypatch.setattr(presence, "OLDEST_PROTOCOL", 2)
    monkeypatch.setattr(presence, "PROTOCOL_VERSION", 3)
    assert presence.register(info(enrollment_token=token(), protocol_version=agent)).accepted


def test_a_token_is_used_up():
    secret = token(max_uses=1)
    assert presence.register(info(enrollment_token=secret)).accepted
    assert presence.register(info(client_id="web-2", enrollment_token=secret)).code == "bad_token"


def test_a_token_expires_and_can_be_revoked():
    secret = token(hours=1)
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        assert presence.register(info(enrollment_token=secret)).code == "bad_token"
    EnrollmentToken.objects.update(revoked_at=timezone.now())
    assert presence.register(info(enrollment_token=secret)).code == "bad_token"


def test_a_token_does_not_take_over_a_name_in_use():
    people.online_client("web-1")
    outcome = presence.register(info(enrollment_token=token()))
    assert outcome.code == "bad_token" and "taken" in outcome.message


def test_a_revoked_client_stays_out():
    credential = presence.register(info(enrollment_token=token())).credential
    actions.do_revoke_client(people.admin(), Client.objects.get())
    assert presence.register(info(credential=credential)).code == "bad_credential"


def test_a_token_has_bounds():
    with pytest.raises(InvalidInput) as wrong:
        actions.do_create_enrollment_token(None, people.group(), max_uses=0, hours=-1, note="x" * 129)
    assert set(wrong.value.errors) == {"max_uses", "hours", "note"}


def beat(session="s1", **fields):
    return presence.Heartbeat(**{
        "client_id": "web-1", "session_id": session, "at": timezone.now(), "config_version": 7, "running": 2, **fields
    })  # fmt: skip


def test_heartbeats_are_saved_for_the_session_that_is_open():
    people.online_client("web-1", session="s1")
    presence.save_heartbeats([beat(), beat(session="old", config_version=9)])
    assert Client.objects.get().task_version == 0  # the newest beat was the old session's
    presence.save_heartbeats([beat()])
    client = Client.objects.get()
    assert (client.task_version, client.running) == (7, 2)


def test_only_the_session_that_is_open_can_end():
    people.online_client("web-1", session="s2")
    assert presence.mark_offline([("web-1", "s1")], "closed") == 0
    assert presence.mark_offline([("web-1", "s2")], "closed") == 1
    assert not Client.objects.get().is_online


def test_the_clients_of_a_dead_bridge_become_offline():
    people.online_client("web-1")
    presence.bridge_started("bridge-2", "127.0.0.1:8475")
    with time_machine.travel(timezone.now() + timedelta(seconds=60)):
        presence.bridge_alive("bridge-2")
    assert not Client.objects.get().is_online
    assert [b.bridge_id for b in Bridge.objects.all()] == ["bridge-2"]


def test_a_bridge_that_starts_anew_has_no_sessions():
    people.online_client("web-1")
    presence.bridge_started(people.BRIDGE, "127.0.0.1:8474")
    assert not Client.objects.get().is_online


def test_push_results_are_recorded():
    people.online_client("web-1")
    presence.push_failed(["web-1"], 5, "no answer")
    assert Client.objects.get().push_error == "version 5: no answer"
    presence.push_applied([("web-1", 5)])
    client = Client.objects.get()
    assert (client.task_version, client.push_error) == (5, "")
