"""Messages on their way: signatures, retries, two workers, rates, and where they may not go."""

import socket
from datetime import timedelta
from typing import Any

import pytest
from apprise.plugins.dingtalk import NotifyDingTalk
from django.core import mail
from django.utils import timezone

from executions_app.alerts import channels, deliveries, net
from executions_app.alerts.actions import do_delete_channel, do_save_channel, do_test_channel
from executions_app.alerts.choices import DeliveryState
from executions_app.alerts.models import AlertChannel, AlertDelivery
from quartzflow import secrets, system_settings
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.models import AuditEntry
from tests import people

from .conftest import SECRET, Receiver, rule, webhook

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_keys(settings, tmp_path):
    settings.QF_DATA_DIR = tmp_path


def pending(channel: AlertChannel, **fields: Any) -> AlertDelivery:
    return AlertDelivery.objects.create(channel=channel, title="Title", body="Text", **fields)


def test_a_webhook_gets_a_signed_post_at_the_host_it_names(receiver: Receiver):
    delivery = pending(webhook(receiver))
    assert deliveries.deliver() == 1
    path, headers, body = receiver.got[0]
    assert path == "/in?x=1" and headers["host"] == receiver.url.removeprefix("http://")
    assert headers["x-quartz-signature"] == "sha256=" + channels.signature(
        SECRET, headers["x-quartz-timestamp"], body
    )
    assert receiver.bodies()[0]["title"] == "Title"
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.SENT and delivery.attempts == 1
    assert deliveries.deliver() == 0


def test_what_fails_is_sent_again_later_and_later_and_then_given_up(receiver: Receiver):
    receiver.status = 500
    delivery, now = pending(webhook(receiver)), timezone.now()
    waits = []
    for _n in range(deliveries.MAX_ATTEMPTS):
        deliveries.deliver(now)
        delivery.refresh_from_db()
        waits.append((delivery.next_at - now).total_seconds())
        assert deliveries.deliver(now) == 0
        now = delivery.next_at
    assert waits == [15, 30, 60, 120, 240, 480]
    assert delivery.state == DeliveryState.FAILED and "500" in delivery.error
    assert deliveries.deliver(now) == 0 and len(receiver.got) == deliveries.MAX_ATTEMPTS


def test_it_arrives_after_a_failure(receiver: Receiver):
    receiver.status = 503
    delivery = pending(webhook(receiver))
    deliveries.deliver()
    receiver.status = 204
    deliveries.deliver(timezone.now() + timedelta(minutes=1))
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.SENT and delivery.attempts == 2 and delivery.error == ""


def test_of_two_workers_one_sends(receiver: Receiver, monkeypatch):
    delivery = pending(webhook(receiver))
    rival: list[bool] = []
    send = deliveries.send_now

    def slowly(*args: Any) -> None:
        # The other has read the same row before this one claimed it, and comes while it is being sent.
        rival.append(deliveries._attempt(delivery.pk, 0, timezone.now()))
        rival.append(bool(deliveries.deliver()))
        send(*args)

    monkeypatch.setattr(deliveries, "send_now", slowly)
    assert deliveries.deliver() == 1
    assert rival == [False, False] and len(receiver.got) == 1


def test_what_a_dead_worker_had_in_hand_is_sent_by_another(receiver: Receiver, monkeypatch):
    pending(webhook(receiver))

    def dies(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deliveries, "send_now", dies)
        with pytest.raises(KeyboardInterrupt):
            deliveries.deliver()
    assert deliveries.deliver() == 0
    assert deliveries.deliver(timezone.now() + deliveries.IN_HAND) == 1 and len(receiver.got) == 1


def test_what_the_rate_held_back_is_told_in_one_message(receiver: Receiver):
    channel = webhook(receiver, rate_per_hour=1)
    now = timezone.now()
    pending(channel, created_at=now)
    for number in range(3):
        AlertDelivery.objects.create(channel=channel, title=f"Held {number}", state=DeliveryState.SUPPRESSED)
    deliveries.deliver(now + timedelta(minutes=1))
    assert len(receiver.got) == 1
    deliveries.deliver(now + timedelta(minutes=62))
    deliveries.deliver(now + timedelta(minutes=200))
    assert len(receiver.got) == 2
    summary = receiver.bodies()[1]
    assert summary["title"] == "3 more alerts in the last hour" and "Held 2" in summary["body"]


def test_a_redirect_is_not_followed(receiver: Receiver):
    receiver.status, receiver.location = 302, f"{receiver.url}/elsewhere"
    delivery = pending(webhook(receiver))
    deliveries.deliver()
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.PENDING and [path for path, *_ in receiver.got] == ["/in?x=1"]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::1",
     "fe80::1", "fd00::1", "::ffff:10.0.0.1", "224.0.0.1", "64:ff9b::a00:1", "2002:a00:1::"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str):
    assert not net.is_allowed(address)


def test_public_ones_and_what_an_administrator_allows_are_not():
    assert net.is_allowed("93.184.216.34") and net.is_allowed("2606:2800:220:1::1")
    system_settings.assume({"alert_networks": ["10.1.0.0/16"]})
    assert net.is_allowed("10.1.2.3") and not net.is_allowed("10.2.0.1")
    with pytest.raises(ValueError, match="nonsense"):
        net.ALLOWED.clean(["nonsense"])


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://localhost:8000/", "http://[::1]/", "http://2130706433/", "http://u:p@h/"],
)
def test_a_webhook_into_the_server_is_refused_when_it_is_stored(url: str):
    data = {"name": "h", "kind": "webhook", "config": {"url": url, "secret": SECRET}}
    with pytest.raises(InvalidInput) as error:
        do_save_channel(people.admin(), None, data)
    assert list(error.value.errors) == ["config.url"]


def test_and_when_the_name_means_something_else_by_the_time_it_is_sent(receiver: Receiver, monkeypatch):
    delivery = pending(webhook(receiver))
    system_settings.assume({})
    deliveries.deliver()
    delivery.refresh_from_db()
    assert "not public" in delivery.error and receiver.got == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    with pytest.raises(net.Refused, match=r"10\.0\.0\.1"):
        net.resolve("https://example.com/")


def test_dingtalk_gets_its_own_form(receiver: Receiver, monkeypatch):
    monkeypatch.setattr(NotifyDingTalk, "notify_url", f"{receiver.url}/robot/send?access_token={{token}}")
    monkeypatch.setitem(channels.HOSTS, "dingtalk", receiver.url)
    data = {"name": "d", "kind": "dingtalk", "language": "en", "config": {"token": "abcdefgh12345678"}}
    delivery = pending(do_save_channel(people.admin(), None, data))
    deliveries.deliver()
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.SENT, delivery.error
    assert "Title" in str(receiver.bodies()[0]) and "abcdefgh12345678" in receiver.got[0][0]


@pytest.mark.parametrize(
    ("kind", "token"),
    [
        ("dingtalk", "abcdefgh12345678"),
        ("wecom", "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa"),
        ("feishu", "abcdefgh-1234-5678"),
        ("slack", "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"),
    ],
)
def test_apprise_understands_what_the_fields_allow(kind: str, token: str):
    config, errors = channels.check_config(kind, {"token": token})
    assert not errors and channels.sender(kind, config).url()


def test_credentials_that_no_vendor_gives_are_a_failure_in_words(receiver: Receiver, monkeypatch):
    monkeypatch.setitem(channels.HOSTS, "slack", receiver.url)
    data = {"name": "s", "kind": "slack", "language": "en", "config": {"token": "T1/B1/x"}}
    delivery = pending(do_save_channel(people.admin(), None, data))
    deliveries.deliver()
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.PENDING and delivery.error


def test_mail_goes_through_the_servers_settings(settings):
    data = {"name": "m", "kind": "email", "config": {"recipients": "a@example.com, b@example.com"}}
    with pytest.raises(InvalidInput):
        do_save_channel(people.admin(), None, data)
    settings.QF_MAIL = True
    pending(do_save_channel(people.admin(), None, data))
    deliveries.deliver()
    assert mail.outbox[0].to == ["a@example.com", "b@example.com"] and mail.outbox[0].subject == "Title"


def test_a_test_message_tells_what_went_wrong(receiver: Receiver):
    channel = webhook(receiver)
    do_test_channel(people.admin(), channel)
    assert receiver.bodies()[0]["title"] == "Test of Quartz-Flow"
    receiver.status = 404
    with pytest.raises(Conflict, match="404"):
        do_test_channel(people.admin(), channel)


def test_the_secret_is_nowhere_but_in_its_ciphertext(receiver: Receiver):
    channel = webhook(receiver)
    do_save_channel(people.admin(), channel, {"config": {"secret": "another-secret-of-ours"}})
    assert channels.config_of(channel) == {
        "url": f"{receiver.url}/in?x=1",
        "secret": "another-secret-of-ours",
    }
    row = AlertChannel.objects.values().get()
    audit = str(list(AuditEntry.objects.values_list("changes", flat=True)))
    for text in (str(row), audit):
        assert SECRET not in text and "another-secret" not in text and receiver.url not in text


def test_a_new_key_opens_channels_as_well(receiver: Receiver):
    channel = webhook(receiver)
    before = channel.ciphertext
    secrets.rotate()
    channel.refresh_from_db()
    assert channel.ciphertext != before and channels.config_of(channel)["secret"] == SECRET
    secrets.self_test()
    secrets.key_file().unlink()
    with pytest.raises(secrets.KeyMissing):
        secrets.self_test()
    with pytest.raises(channels.SendFailed):
        channels.send(channel, channels.Message("t", "b", {}))


def test_a_channel_that_rules_send_to_stays(receiver: Receiver):
    channel = webhook(receiver)
    found = rule("failure", channel)
    with pytest.raises(Conflict):
        do_delete_channel(people.admin(), channel)
    found.delete()
    do_delete_channel(people.admin(), channel)
    assert not AlertChannel.objects.exists()


def test_a_channel_that_is_switched_off_sends_nothing(receiver: Receiver):
    channel = webhook(receiver)
    delivery = pending(channel)
    do_save_channel(people.admin(), channel, {"is_enabled": False})
    deliveries.deliver()
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED and receiver.got == []
