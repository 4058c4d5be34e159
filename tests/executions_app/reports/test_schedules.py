"""Scheduled reports: when they are due, that each due time happens once, and what becomes of the mail."""

import io
import smtplib
import threading
from datetime import UTC, datetime, timedelta

import openpyxl
import pytest
from django.core import mail as outbox_of
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from executions_app.reports import actions, building, mailing, schedules
from executions_app.reports.choices import Every, MailState, ReportState
from executions_app.reports.models import Report, ReportMail, ReportSchedule
from executions_app.tasks import forget_old_reports, look_for_reports
from quartzflow.errors import Conflict, InvalidInput, NotAllowed, NotFound
from quartzflow.models import AuditEntry
from tests import people

from .conftest import NOON, ok

pytestmark = pytest.mark.django_db
BODY = {"name": "daily", "recipients": ["ops@example.com"], "zone": "Asia/Shanghai", "language": "en"}
DUE = people.at(2026, 3, 3, 0)  # 8:00 in Shanghai


@pytest.fixture(autouse=True)
def _mail(settings):
    settings.QF_MAIL = True


def schedule(**fields) -> ReportSchedule:
    row = actions.do_save_schedule(people.admin(), None, {**BODY, **fields})
    ReportSchedule.objects.filter(pk=row.pk).update(next_at=DUE)
    return ReportSchedule.objects.get(pk=row.pk)


def run(now: datetime = DUE) -> ReportMail:
    """What a worker does at that moment; the newest mail."""
    schedules.fire_due(now)
    building.build_waiting()
    mailing.deliver(now)
    return ReportMail.objects.latest("pk")


@pytest.mark.parametrize(
    ("fields", "after", "due"),
    [
        ({}, (2026, 3, 2, 23, 59), (2026, 3, 3, 0)),
        ({}, (2026, 3, 3, 0), (2026, 3, 4, 0)),
        ({"every": "weekly", "weekday": 0}, (2026, 3, 3, 0), (2026, 3, 9, 0)),
        ({"every": "monthly", "month_day": 28, "hour": 0}, (2026, 3, 3, 0), (2026, 3, 27, 16)),
        ({"every": "monthly", "month_day": 1}, (2026, 3, 3, 0), (2026, 4, 1, 0)),
        ({"zone": "Europe/Berlin", "hour": 9}, (2026, 3, 28, 12), (2026, 3, 29, 7)),  # summer time has begun
        (
            {"zone": "Europe/Berlin", "hour": 2},
            (2026, 3, 28, 12),
            (2026, 3, 29, 1),
        ),  # 2:00 there is not: 3:00
    ],
)
def test_due_times_are_by_the_clock_of_the_zone(fields, after, due):
    row = ReportSchedule(**{**BODY, **fields})
    assert schedules.next_due(row, people.at(*after)) == people.at(*due)


@given(
    every=st.sampled_from(Every.values),
    weekday=st.integers(0, 6),
    month_day=st.integers(1, 28),
    hour=st.integers(0, 23),
    after=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    zone=st.sampled_from(["UTC", "Asia/Shanghai", "Europe/Berlin", "America/St_Johns"]),
)
def test_due_times_go_on_for_ever(every, weekday, month_day, hour, after, zone):
    row = ReportSchedule(every=every, weekday=weekday, month_day=month_day, hour=hour, zone=zone)
    due = schedules.next_due(row, after)
    assert due.timestamp() > after.timestamp()
    assert schedules.next_due(row, due).timestamp() > due.timestamp()
    longest = {"daily": 1, "weekly": 7, "monthly": 31}[every]
    assert due - after <= timedelta(days=longest, hours=2)


def test_a_due_report_is_built_and_sent_with_its_figures():
    ok(people.at(2026, 3, 2, 4), task=people.task("backup"))
    row = schedule()
    mail = run()
    assert (mail.state, mail.error, mail.attempts, mail.due_at) == ("sent", "", 1, DUE)
    assert (str(mail.report.first), mail.report.state) == ("2026-03-02", "done")
    (message,) = outbox_of.outbox
    assert message.to == ["ops@example.com"] and message.subject == "daily · 2026-03-02"
    assert "Success rate: 100.0 %" in message.body
    ((name, content, kind),) = message.attachments
    assert name == "quartz-flow-20260302.xlsx" and "spreadsheetml" in kind
    assert openpyxl.load_workbook(io.BytesIO(content))["By task"]["A2"].value == "backup"
    assert ReportSchedule.objects.get(pk=row.pk).next_at == DUE + timedelta(days=1)
    assert AuditEntry.objects.latest("pk").action == "report_schedule.sent"


def test_a_due_time_happens_once():
    schedule()
    for _ in range(3):
        run()
    assert (ReportMail.objects.count(), Report.objects.count(), len(outbox_of.outbox)) == (1, 1, 1)


def test_of_times_that_passed_only_the_latest_is_made_up_for():
    row = schedule()
    mail = run(DUE + timedelta(days=5, hours=3))
    assert (ReportMail.objects.count(), mail.due_at) == (1, DUE + timedelta(days=5))
    assert str(mail.report.first) == "2026-03-07"
    assert ReportSchedule.objects.get(pk=row.pk).next_at == DUE + timedelta(days=6)


def test_nothing_is_sent_of_a_schedule_that_is_switched_off():
    row = schedule()
    row = actions.do_save_schedule(people.admin(), row, {"is_enabled": False})
    assert row.next_at is None
    look_for_reports()
    assert not ReportMail.objects.exists()


def test_several_at_once_fire_a_due_time_once(each_database, settings):
    """Processes that look at the same moment: one of them fires."""
    schedule()
    barrier, errors = threading.Barrier(4), []

    def look():
        try:
            barrier.wait(10)
            schedules.fire_due(DUE)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (ReportMail.objects.count(), Report.objects.count()) == (1, 1)
    # The same for workers: one of them builds.
    now = Report.objects.get().created_at
    claims: list[object] = []
    barrier.reset()

    def claim():
        try:
            barrier.wait(10)
            claims.append(building.claim(now))
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, sum(found is not None for found in claims), Report.objects.get().attempts) == ([], 1, 1)


def test_a_mail_server_that_refuses_is_asked_again_later(monkeypatch):
    schedule()

    def refuse(self, *args, **kwargs):
        raise smtplib.SMTPServerDisconnected("secret.example.com said no")

    monkeypatch.setattr("django.core.mail.EmailMessage.send", refuse)
    mail = run()
    assert (mail.state, mail.attempts) == ("pending", 1) and "SMTPServerDisconnected" in mail.error
    assert "secret" not in mail.error
    assert mail.next_at == DUE + mailing.FIRST_WAIT
    assert run(DUE + mailing.FIRST_WAIT / 2).attempts == 1
    now = DUE
    for attempt in range(2, mailing.ATTEMPTS + 1):
        now = ReportMail.objects.get().next_at
        assert run(now).attempts == attempt
    assert ReportMail.objects.get().state == "failed"
    monkeypatch.undo()
    assert run(now + timedelta(hours=9)).state == "failed" and outbox_of.outbox == []


def test_a_mail_that_a_dead_worker_had_in_hand_is_sent_by_another():
    row = schedule()
    schedules.fire_due(DUE)
    building.build_waiting()
    ReportMail.objects.update(state=MailState.PENDING, attempts=1, next_at=DUE + mailing.IN_HAND)
    mailing.deliver(DUE)
    assert outbox_of.outbox == []
    mailing.deliver(DUE + mailing.IN_HAND)
    assert (len(outbox_of.outbox), ReportMail.objects.get(schedule=row).attempts) == (1, 2)


@pytest.mark.parametrize("kind", ["none", "gone", "large", "failed", "deleted"])
def test_what_cannot_be_sent_says_why(kind, settings, monkeypatch):
    schedule()
    schedules.fire_due(DUE)
    building.build_waiting()
    if kind == "none":
        settings.QF_MAIL = False
    elif kind == "gone":
        for path in (settings.QF_DATA_DIR / "reports").iterdir():
            path.unlink()
    elif kind == "large":
        monkeypatch.setattr(mailing, "MOST_BYTES", 10)
    elif kind == "failed":
        Report.objects.update(state=ReportState.FAILED, error="no space")
    else:
        Report.objects.all().delete()
    mailing.deliver(DUE)
    words = {
        "none": "QF_MAIL_URL", "gone": "not there", "large": "too large", "failed": "no space",
        "deleted": "was deleted",
    }[kind]  # fmt: skip
    mail = ReportMail.objects.get()
    assert mail.state == "failed" and words in mail.error
    assert outbox_of.outbox == []


def test_an_owner_who_is_gone_stops_it_until_somebody_saves_it():
    other = people.admin("second")
    row = schedule()
    row.owner.delete()
    mail = run()
    assert mail.state == "failed" and "save the schedule" in mail.error
    row = actions.do_save_schedule(other, ReportSchedule.objects.get(pk=row.pk), {})
    assert row.owner == other
    assert run(DUE + timedelta(days=1, hours=1)).state in ("failed", "sent")
    ReportSchedule.objects.update(next_at=DUE + timedelta(days=2))
    assert run(DUE + timedelta(days=2)).state == "sent"


def test_whoever_saves_it_has_it_built_of_what_they_may_see():
    """Nobody is mailed what somebody else may see by changing the recipients."""
    ok(people.at(2026, 3, 2, 4), task=people.task("hidden"))
    row = schedule()
    person = people.stranger()
    from guardian.shortcuts import assign_perm

    for action in ("view", "change"):
        assign_perm(f"executions_app.{action}_reportschedule", person, row)
    actions.do_save_schedule(person, row, {"recipients": ["me@example.com"]})
    ReportSchedule.objects.update(next_at=DUE)
    mail = run()
    assert (mail.report.owner, mail.report.figures["total"]["success"]) == (person, 0)


def test_it_is_sent_at_once_when_asked():
    row = schedule()
    mail = actions.do_send_now(people.admin(), row)
    with pytest.raises(Conflict):
        actions.do_send_now(people.admin(), row)
    assert mail.by_hand and mail.state == "waiting"
    building.build_waiting()
    mailing.deliver()
    assert ReportMail.objects.get().state == "sent"
    assert ReportSchedule.objects.get(pk=row.pk).next_at == DUE


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"recipients": []}, "recipients"),
        ({"recipients": "ops@example.com"}, "recipients"),
        ({"recipients": ["nobody"]}, "recipients"),
        ({"recipients": ["a@example.com\nBcc: b@example.com"]}, "recipients"),
        ({"recipients": [f"p{number}@example.com" for number in range(51)]}, "recipients"),
        ({"days": "custom"}, "days"),
        ({"every": "hourly"}, "every"),
        ({"weekday": 7}, "weekday"),
        ({"month_day": 29}, "month_day"),
        ({"hour": 24}, "hour"),
        ({"hour": "8"}, "hour"),
        ({"is_enabled": "yes"}, "is_enabled"),
        ({"owner": 1}, "owner"),
    ],
)
def test_what_cannot_be_scheduled_names_the_field(data, field):
    with pytest.raises(InvalidInput) as wrong:
        actions.do_save_schedule(people.admin(), None, {**BODY, **data})
    assert list(wrong.value.errors) == [field]


def test_names_are_unique_and_writes_are_audited():
    row = schedule()
    with pytest.raises(InvalidInput):
        actions.do_save_schedule(people.admin(), None, BODY)
    actions.do_save_schedule(people.admin(), row, {"hour": 9})
    actions.do_delete_schedule(people.admin(), row)
    found = AuditEntry.objects.filter(action__startswith="report_schedule.").order_by("pk")
    assert [entry.action.partition(".")[2] for entry in found] == ["create", "update", "delete"]
    assert found[1].changes["hour"] == [8, 9]


def test_schedules_are_for_those_who_may():
    row, person = schedule(), people.stranger()
    with pytest.raises(NotAllowed):
        actions.do_save_schedule(person, None, {**BODY, "name": "mine"})
    for work in (actions.do_send_now, actions.do_delete_schedule):
        with pytest.raises(NotFound):
            work(person, row)
    operator = people.stranger("operator")
    operator.groups.add(people.role("operator"))
    assert actions.do_save_schedule(operator, None, {**BODY, "name": "mine"}).owner == operator


def test_mails_that_are_over_are_forgotten():
    schedule()
    mail = run()
    ReportMail.objects.filter(pk=mail.pk).update(due_at=NOON - timedelta(days=400))
    forget_old_reports()
    assert not ReportMail.objects.exists()
