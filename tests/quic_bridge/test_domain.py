"""The real domain functions, as the bridge calls them."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.utils import InterfaceError, OperationalError
from django.utils import timezone
from quartzflow_agent.protocol import task_pb2

from groups_app import actions
from groups_app.models import Bridge, Client
from quic_bridge.domain import Domain, RegisterInfo, Unavailable
from tasks_app.actions import do_delete_tasks, do_update_task
from tasks_app.configs import current_version, next_version, record_client_changes
from tasks_app.models import ConfigChange
from tests import people

pytestmark = pytest.mark.django_db


@pytest.fixture
def domain():
    return Domain()


def edit(task, **fields):
    do_update_task(people.admin(), task, fields)


def plan(domain, **held):
    """[(task names, deleted ids, action, client ids)] of the pushes; ids of clients as web_1."""
    found = domain.plan_pushes({name.replace("_", "-"): version for name, version in held.items()})
    assert found.version == current_version()
    return [
        (sorted(t.name for t in push.tasks), list(push.deleted_task_ids), push.action, sorted(clients))
        for push, clients in found.pushes
    ]


@pytest.fixture
def fleet():
    """web-1 and web-2 in `default`, db-1 in `db`, one task each; returns the tasks and the version they are at."""
    people.online_client("web-1")
    people.online_client("web-2")
    people.online_client("db-1", people.group("db"))
    web = people.task("web-job")
    db = people.task("db-job", group_ids=[people.group("db").pk])
    return web, db, current_version()


def test_a_change_goes_to_its_groups_hosts_in_one_push(domain, fleet):
    web, _, at = fleet
    edit(web, description="new")
    assert plan(domain, web_1=at, web_2=at, db_1=at) == [
        (["web-job"], [], task_pb2.UPDATE, ["web-1", "web-2"])
    ]


def test_hosts_that_hold_different_versions_get_different_pushes(domain, fleet):
    web, _, at = fleet
    edit(web, description="one")
    other = people.task("second")
    pushes = plan(domain, web_1=at, web_2=current_version() - 1)
    assert sorted(pushes) == [
        (["second"], [], task_pb2.UPDATE, ["web-2"]),
        (["second", "web-job"], [], task_pb2.UPDATE, ["web-1"]),
    ]
    assert other.pk


def test_a_task_of_every_host_concerns_every_host(domain, fleet):
    _, _, at = fleet
    people.task("everywhere", is_global=True, group_ids=[])
    clients = {tuple(clients) for *_, clients in plan(domain, web_1=at, web_2=at, db_1=at)}
    assert clients == {("web-1", "web-2"), ("db-1",)}


def test_a_deleted_task_is_named(domain, fleet):
    web, _, at = fleet
    pk = str(web.pk)
    do_delete_tasks(people.admin(), [web])
    assert plan(domain, web_1=at, db_1=at) == [([], [pk], task_pb2.UPDATE, ["web-1"])]


def test_a_host_that_moved_gets_everything_of_its_new_group(domain, fleet):
    _, _, at = fleet
    with transaction.atomic():
        Client.objects.filter(client_id="web-1").update(group=people.group("db"))
        record_client_changes(["web-1"])
    moved = current_version()
    assert plan(domain, web_1=at, web_2=at, db_1=at) == [(["db-job"], [], task_pb2.FULL_SYNC, ["web-1"])]
    assert plan(domain, web_1=moved) == []


def test_a_host_beyond_the_log_of_changes_gets_everything(domain, fleet):
    web, _, at = fleet
    edit(web, description="new")
    edit(web, description="newer")
    ConfigChange.objects.filter(version__lte=at + 1).delete()
    full = (["web-job"], [], task_pb2.FULL_SYNC, ["web-1"])
    assert plan(domain, web_1=at) == [full]
    assert plan(domain, web_1=at + 1) == [(["web-job"], [], task_pb2.UPDATE, ["web-1"])]
    assert plan(domain, web_1=current_version() + 5) == [full]
    assert plan(domain, web_1=-1) == [full]


def test_nothing_is_planned_for_who_is_in_step(domain, fleet):
    _, _, at = fleet
    with transaction.atomic():
        next_version()
    assert plan(domain, web_1=at, db_1=at, unknown=at) == []


def test_a_pulse_renews_the_lease_and_names_the_others(domain):
    domain.bridge_started("b1", "b1.example:8474")
    domain.bridge_started("b2", "b2.example:8474")
    Bridge.objects.filter(bridge_id="b1").update(expires_at=timezone.now() + timedelta(seconds=1))
    pulse = domain.pulse("b1", "b1.example:8474")
    assert list(pulse.endpoints) == ["b2.example:8474"]
    assert pulse.scheduler_alive is False
    assert Bridge.objects.get(bridge_id="b1").expires_at > timezone.now() + timedelta(seconds=5)


def test_a_bridge_that_was_counted_as_dead_announces_itself_again(domain):
    domain.bridge_started("b1", "b1.example:8474")
    Bridge.objects.all().delete()
    domain.pulse("b1", "b1.example:8474")
    assert Bridge.objects.get().endpoint == "b1.example:8474"


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_the_databases_troubles_are_passing_ones(domain, monkeypatch, error):
    closed = []
    monkeypatch.setattr(connection, "close", lambda: closed.append(True))
    with pytest.raises(Unavailable, match="gone"), domain.guard():
        raise error("gone")
    assert closed == [True]
    with pytest.raises(ValueError, match="ours"), domain.guard():
        raise ValueError("ours")


def test_statistics_of_no_day_are_refused(domain):
    with pytest.raises(ValueError, match="yesterday"):
        domain.ingest_daily_stats("web-1", task_pb2.DailyStatsReport(date="yesterday"))


def test_pages_are_told_of_hosts_that_come_and_go(domain, monkeypatch):
    told = []
    monkeypatch.setattr("quic_bridge.domain.publisher.hosts", lambda: told.append(True))
    client = people.online_client("web-1")
    token = actions.do_create_enrollment_token(None, people.group())[1]
    info = RegisterInfo("web-2", people.BRIDGE, "s1", "192.0.2.2", enrollment_token=token)
    assert domain.register(info).accepted and len(told) == 1
    assert not domain.register(info).accepted and len(told) == 1
    domain.mark_offline([(client.client_id, "an older session")], "test")
    assert len(told) == 1
    domain.mark_offline([(client.client_id, "s1")], "test")
    assert len(told) == 2
