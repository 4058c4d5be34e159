"""From the end of an execution to a message: rules, deduplication, silences, escalation, recovery."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from executions_app import endings, missing
from executions_app.alerts import sources
from executions_app.alerts.actions import do_acknowledge, do_resolve, do_save_rule
from executions_app.alerts.choices import AlertState, DeliveryState
from executions_app.alerts.evaluation import evaluate
from executions_app.alerts.matching import is_silent
from executions_app.alerts.models import Alert, AlertDelivery, AlertEvent, AlertSilence
from executions_app.alerts.silences import do_save_silence
from executions_app.choices import ExecutionType, FailureReason
from executions_app.models import Execution, MissedFiring
from groups_app.choices import ClientStatus
from groups_app.models import Client
from quartzflow.errors import Conflict, InvalidInput
from quartzflow.execution_status import ExecutionStatus
from tasks_app.models import Task
from tests import people

from .conftest import Receiver, rule, webhook

pytestmark = pytest.mark.django_db
NOW = datetime.fromisoformat("2026-03-02T12:00:00+00:00")  # a Monday


@pytest.fixture(autouse=True)
def kicks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(sources, "kick", lambda: found.append(1))
    return found


def end(task: Task, status: ExecutionStatus = ExecutionStatus.FAILURE, **fields: Any) -> Execution:
    """An execution of the task that has just ended, as everything that ends one tells of it."""
    at = fields.pop("at", NOW)
    number = Execution.objects.count()
    execution = Execution.objects.create(
        execution_id=f"e{number}", run_id=f"r{number}", task=task, task_name=task.name, status=status,
        scheduled_time=at - timedelta(seconds=10), start_time=at - timedelta(seconds=9), end_time=at, **fields,
    )  # fmt: skip
    endings.after_end([execution.pk])
    return execution


def test_without_a_rule_the_end_of_an_execution_costs_no_query(django_assert_num_queries):
    execution = end(people.task())
    with django_assert_num_queries(0):
        sources.note_ends([execution.pk])


def test_rules_about_other_things_cost_the_ends_nothing(django_assert_num_queries):
    rule("missed_firing")
    execution = end(people.task())
    sources.kinds()
    with django_assert_num_queries(0):
        sources.note_ends([execution.pk])


def test_a_failure_is_told_once_within_the_interval_and_counted(receiver: Receiver):
    task, other = people.task(), people.task("other")
    rule("failure", webhook(receiver), repeat_minutes=30)
    end(task)
    assert evaluate(NOW) == 1
    end(task)
    end(other)
    evaluate(NOW + timedelta(minutes=5))
    alerts = {alert.task_name: alert for alert in Alert.objects.all()}
    assert alerts["job"].count == 2 and alerts["other"].count == 1
    assert AlertDelivery.objects.filter(alert=alerts["job"]).count() == 1
    end(task)
    evaluate(NOW + timedelta(minutes=31))
    assert AlertDelivery.objects.filter(alert=alerts["job"]).count() == 2


def test_the_same_end_told_twice_is_one_event(receiver: Receiver):
    rule("failure", webhook(receiver))
    execution = end(people.task())
    endings.after_end([execution.pk])
    assert AlertEvent.objects.count() == 1
    assert evaluate(NOW) == 1 and evaluate(NOW) == 0


def test_a_worker_is_asked_after_the_commit(kicks: list[int], django_capture_on_commit_callbacks):
    rule("failure")
    with django_capture_on_commit_callbacks(execute=True):
        end(people.task())
        assert kicks == []
    assert kicks == [1]


@pytest.mark.parametrize(
    ("kind", "status", "fields"),
    [
        ("failure", ExecutionStatus.FAILURE, {}),
        ("timeout", ExecutionStatus.TIMEOUT, {}),
        ("no_online_client", ExecutionStatus.FAILURE, {"failure_reason": FailureReason.NO_ONLINE_CLIENT}),
        ("late_start", ExecutionStatus.SUCCESS, {"delay_ms": -200_000}),
    ],
)
def test_each_kind_of_end_has_its_alert_and_the_others_none(kind, status, fields):
    task = people.task()
    rule(kind)
    end(task, ExecutionStatus.CANCELLED)
    end(task, ExecutionStatus.SUCCESS)
    evaluate(NOW)
    assert not Alert.objects.exists()
    end(task, status, **fields)
    evaluate(NOW)
    assert [alert.kind for alert in Alert.objects.all()] == [kind]


def test_a_replay_is_not_late():
    """Its time is long over when it begins."""
    rule("late_start")
    end(people.task(), ExecutionStatus.SUCCESS, delay_ms=-200_000, execution_type=ExecutionType.REPLAY)
    evaluate(NOW)
    assert not Alert.objects.exists()


def test_only_so_many_failures_in_a_row_are_an_alert():
    task = people.task()
    rule("consecutive_failures", threshold=3)
    for status in (ExecutionStatus.FAILURE, ExecutionStatus.FAILURE, ExecutionStatus.SUCCESS):
        end(task, status)
    end(task)
    end(task, ExecutionStatus.TIMEOUT)
    evaluate(NOW)
    assert not Alert.objects.exists()
    end(task)
    evaluate(NOW)
    assert Alert.objects.get().key == f"task:{task.pk}"


def test_a_success_ends_the_alert_and_is_told_as_recovery(receiver: Receiver):
    task, channel = people.task(), webhook(receiver)
    rule("failure", channel)
    rule("recovered", channel)
    end(task, ExecutionStatus.SUCCESS)
    evaluate(NOW)
    assert not Alert.objects.exists()
    end(task)
    end(task, ExecutionStatus.SUCCESS, at=NOW + timedelta(minutes=1))
    evaluate(NOW + timedelta(minutes=1))
    assert set(Alert.objects.values_list("kind", "state")) == {
        ("failure", AlertState.RESOLVED),
        ("recovered", AlertState.RESOLVED),
    }
    assert AlertDelivery.objects.count() == 2
    end(task, ExecutionStatus.SUCCESS, at=NOW + timedelta(minutes=2))
    evaluate(NOW + timedelta(minutes=2))
    assert AlertDelivery.objects.count() == 2


def test_a_success_from_before_the_failure_cures_nothing():
    task = people.task()
    rule("failure")
    end(task)
    evaluate(NOW)
    end(task, ExecutionStatus.SUCCESS, at=NOW - timedelta(minutes=1))
    evaluate(NOW)
    assert Alert.objects.get().state == AlertState.OPEN


def test_a_missed_firing_is_an_alert(monkeypatch):
    task = people.task()
    rule("missed_firing")
    gap = missing._Gap(task.pk, [NOW - timedelta(minutes=4)])
    monkeypatch.setattr(missing, "_gaps", lambda begin, until: [gap])
    missing.find_missing(NOW - timedelta(minutes=1))
    assert len(missing.find_missing(NOW)) == 1
    evaluate(NOW)
    assert MissedFiring.objects.count() == 1 and Alert.objects.get().task_id == task.pk


def test_a_host_that_is_silent_for_longer_than_the_rule_allows():
    rule("agent_offline", threshold=120)
    host = people.online_client()
    Client.objects.filter(pk=host.pk).update(
        status=ClientStatus.OFFLINE, last_heartbeat=NOW - timedelta(seconds=119)
    )
    sources.note_offline(NOW)
    assert not AlertEvent.objects.exists()
    sources.note_offline(NOW + timedelta(seconds=1))
    sources.note_offline(NOW + timedelta(seconds=11))
    assert AlertEvent.objects.count() == 1
    evaluate(NOW)
    assert Alert.objects.get().client_id == host.client_id
    Client.objects.filter(pk=host.pk).update(status=ClientStatus.ONLINE)
    sources.note_offline(NOW + timedelta(seconds=20))
    assert Alert.objects.get().state == AlertState.RESOLVED


@pytest.mark.parametrize("scope", ["tasks", "groups"])
def test_a_rule_concerns_what_it_names(scope: str):
    other = people.group("other")
    mine, not_mine = people.task(), people.task("other", group_ids=[other.pk])
    rule("failure", scope=scope, task_ids=[mine.pk], group_ids=[people.group().pk])
    end(mine)
    end(not_mine)
    evaluate(NOW)
    assert [alert.task_id for alert in Alert.objects.all()] == [mine.pk]


def test_in_a_silence_it_is_counted_and_nobody_is_told_until_it_is_over(receiver: Receiver):
    task = people.task()
    rule("failure", webhook(receiver))
    window = {"begins": "2026-03-02T11:00:00Z", "ends": "2026-03-02T12:30:00Z"}
    do_save_silence(people.admin(), None, {"name": "move", **window})
    end(task)
    evaluate(NOW)
    alert = Alert.objects.get()
    assert (alert.count, alert.silenced_count) == (1, 1) and not AlertDelivery.objects.exists()
    end(task, at=NOW + timedelta(minutes=30))
    evaluate(NOW + timedelta(minutes=30))
    assert AlertDelivery.objects.count() == 1


@pytest.mark.parametrize(
    ("at", "silent"),
    [
        ("2026-03-02T21:59:00+00:00", False),
        ("2026-03-02T22:00:00+00:00", True),
        ("2026-03-03T05:59:00+00:00", True),  # Tuesday morning: still Monday's night
        ("2026-03-03T06:00:00+00:00", False),
        ("2026-03-02T05:00:00+00:00", False),  # Monday morning: Sunday's night, which is not named
        ("2026-03-03T23:00:00+00:00", False),
    ],
)
def test_a_weekly_silence_over_midnight(at: str, silent: bool):
    window = {"weekdays": [0], "time_begins": "22:00", "time_ends": "06:00"}
    silence = do_save_silence(people.admin(), None, {"name": "night", **window})
    assert is_silent(AlertSilence.objects.get(pk=silence.pk), datetime.fromisoformat(at)) is silent


def test_it_escalates_after_so_many_events(receiver: Receiver):
    task, first, second = people.task(), webhook(receiver), webhook(receiver, "boss")
    rule("failure", first, escalate_events=3, escalation_channel_ids=[second.pk])
    for _n in range(5):
        end(task)
    evaluate(NOW)
    assert list(AlertDelivery.objects.order_by("id").values_list("channel__name", flat=True)) == [
        "hook",
        "boss",
    ]
    assert AlertDelivery.objects.get(channel=second).title.startswith("Escalated: ")


def test_it_escalates_after_so_many_minutes_unless_somebody_has_taken_it_on(receiver: Receiver):
    channel, boss = webhook(receiver), webhook(receiver, "boss")
    rule("failure", channel, escalate_minutes=10, escalation_channel_ids=[boss.pk])
    end(people.task())
    end(people.task("other"))
    evaluate(NOW)
    do_acknowledge(people.admin(), Alert.objects.get(task_name="other"))
    evaluate(NOW + timedelta(minutes=9))
    assert not AlertDelivery.objects.filter(channel=boss).exists()
    evaluate(NOW + timedelta(minutes=10))
    evaluate(NOW + timedelta(minutes=20))
    assert AlertDelivery.objects.get(channel=boss).alert.task_name == "job"


def test_what_somebody_has_taken_on_is_not_told_again_and_what_is_over_begins_anew(receiver: Receiver):
    task = people.task()
    rule("failure", webhook(receiver), repeat_minutes=1)
    end(task)
    evaluate(NOW)
    alert = Alert.objects.get()
    do_acknowledge(people.admin(), alert)
    with pytest.raises(Conflict):
        do_acknowledge(people.admin(), alert)
    end(task)
    evaluate(NOW + timedelta(hours=1))
    assert AlertDelivery.objects.count() == 1 and Alert.objects.get().count == 2
    do_resolve(people.admin(), alert)
    with pytest.raises(Conflict):
        do_resolve(people.admin(), alert)
    end(task)
    evaluate(NOW + timedelta(hours=2))
    assert Alert.objects.count() == 2 and AlertDelivery.objects.count() == 2


def test_over_the_rate_messages_are_held_back(receiver: Receiver):
    rule("failure", webhook(receiver, rate_per_hour=2))
    for number in range(5):
        end(people.task(f"job-{number}"))
    evaluate(NOW)
    states = list(AlertDelivery.objects.order_by("id").values_list("state", flat=True))
    assert states == [DeliveryState.PENDING] * 2 + [DeliveryState.SUPPRESSED] * 3


def test_the_message_is_in_the_channels_language_and_of_the_rules_template(receiver: Receiver):
    task = people.task("{{ task.id }}")
    rule("failure", webhook(receiver, language="zh-hans"), name="plain")
    rule("failure", webhook(receiver, "own"), name="own", title="{{task.name}} ×{{ alert.count }}", body="x")
    end(task, failure_reason=FailureReason.EXIT_CODE)
    evaluate(NOW)
    plain, own = (
        AlertDelivery.objects.get(channel__name="hook"),
        AlertDelivery.objects.get(channel__name="own"),
    )
    assert plain.title == "[警告] 执行失败: {{ task.id }}"
    assert own.title == "{{ task.id }} ×1" and own.body == "x"


@pytest.mark.parametrize("text", ["{{ task }}", "{{ task.name | upper }}", "{{ task.__class__ }}", "{{}}"])
def test_a_template_knows_only_its_names(text: str):
    with pytest.raises(InvalidInput) as error:
        rule("failure", title=text)
    assert list(error.value.errors) == ["title"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"kind": "x"}, "kind"),
        ({"kind": "consecutive_failures", "threshold": 1}, "threshold"),
        ({"scope": "tasks"}, "task_ids"),
        ({"scope": "tasks", "task_ids": [99]}, "task_ids"),
        ({"channel_ids": ["1"]}, "channel_ids"),
        ({"escalate_events": 2}, "escalation_channel_ids"),
        ({"repeat_minutes": 0}, "repeat_minutes"),
        ({"name": " "}, "name"),
        ({"is_enabled": 1}, "is_enabled"),
        ({"nothing": 1}, "nothing"),
    ],
)
def test_a_rule_names_its_wrong_fields(fields, wrong):
    with pytest.raises(InvalidInput) as error:
        do_save_rule(people.admin(), None, {"name": "r", "kind": "failure", **fields})
    assert list(error.value.errors) == [wrong]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, "begins"),
        ({"begins": "x", "ends": "2026-01-01T00:00:00Z"}, "begins"),
        ({"begins": "2026-01-02T00:00:00Z", "ends": "2026-01-01T00:00:00Z"}, "ends"),
        ({"weekdays": [7], "begins": "2026-01-01T00:00:00Z", "ends": "2026-01-02T00:00:00Z"}, "weekdays"),
        ({"weekdays": [1], "time_begins": "25:00", "time_ends": "06:00"}, "time_begins"),
        ({"weekdays": [1], "time_begins": "06:00", "time_ends": "06:00"}, "time_ends"),
        ({"weekdays": [1], "time_begins": "06:00", "time_ends": "07:00", "zone": "Moon"}, "zone"),
        ({"weekdays": [1], "time_begins": "06:00", "time_ends": "07:00", "zone": [None]}, "zone"),
    ],
)
def test_a_silence_names_its_wrong_fields(fields, wrong):
    with pytest.raises(InvalidInput) as error:
        do_save_silence(people.admin(), None, {"name": "s", **fields})
    assert wrong in error.value.errors


def test_a_disabled_rule_makes_nothing():
    found = rule("failure")
    do_save_rule(people.admin(), found, {"is_enabled": False})
    end(people.task())
    assert not AlertEvent.objects.exists()
    assert timezone.now() > found.created_at
