"""Replays of past windows, and firings that did not happen."""

from datetime import timedelta

import pytest
import time_machine
from knox.models import AuthToken
from quartzflow_agent.protocol import task_pb2 as pb
from rest_framework.test import APIClient

from executions_app import endings, missing
from executions_app.dispatch import Firing, fire
from executions_app.ingest import Result, ingest
from executions_app.models import Execution, MissedFiring, Replay
from executions_app.replays import advance_replays, do_cancel_replay, do_start_replay, preview, progress
from executions_app.tasks import find_missing, forget_old
from quartzflow import system_settings
from quartzflow.declared_settings import SCHEDULER_DAYS
from quartzflow.errors import Conflict, InvalidInput, NotFound
from tasks_app import actions
from tasks_app.models import Task
from tests import people

pytestmark = pytest.mark.usefixtures("each_database")
NOON = people.at(2026, 3, 1, 12, 0)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture(autouse=True)
def kicks(monkeypatch):
    found = []
    monkeypatch.setattr(endings, "kick", lambda: found.append(1))
    return found


def end_all(status=pb.SUCCESS):
    live = list(Execution.objects.filter(status__in=(1, 2)))
    ingest([Result(e.client_id, pb.TaskResult(execution_id=e.execution_id, status=status)) for e in live])
    return len(live)


class TestReplay:
    def begin(self, minutes=5, **options):
        people.online_client()
        task = people.task()
        fire([Firing(task.pk, NOON - 2 * MINUTE)])  # this one ran
        end_all()
        return task, do_start_replay(people.admin(), task, NOON - minutes * MINUTE, NOON - SECOND, **options)

    def test_every_time_runs_once_and_so_many_at_once(self, clock, kicks):
        _, replay = self.begin(parallel=2)
        assert progress(replay)["counts"] == {"PENDING": 2}
        kicks.clear()
        assert end_all() == 2 and kicks
        assert advance_replays() == 2
        end_all()
        advance_replays()
        replay.refresh_from_db()
        assert (replay.total, replay.fired, replay.existing, replay.status) == (5, 4, 1, Replay.Status.DONE)
        assert progress(replay)["counts"] == {"SUCCESS": 4}
        times = Execution.objects.values_list("scheduled_time", flat=True)
        assert sorted(times) == [NOON - n * MINUTE for n in (5, 4, 3, 2, 1)]

    def test_the_preview_writes_nothing(self, clock):
        people.online_client()
        task = people.task()
        fire([Firing(task.pk, NOON - 2 * MINUTE)])
        found = preview(people.admin(), task, NOON - 5 * MINUTE, NOON)
        assert (found["total"], found["existing"], found["times"][0]) == (6, 1, NOON - 5 * MINUTE)
        assert not Replay.objects.exists()

    def test_it_can_be_cancelled_and_runs_alone(self, clock):
        task, replay = self.begin(parallel=1)
        with pytest.raises(Conflict):
            do_start_replay(people.admin(), task, NOON - MINUTE, NOON)
        assert len(do_cancel_replay(people.admin(), replay)) == 1
        end_all()
        assert advance_replays() == 0
        with pytest.raises(Conflict):
            do_cancel_replay(people.admin(), replay)

    @pytest.mark.parametrize(
        ("begin", "end", "fields", "wrong"),
        [
            (NOON, NOON - MINUTE, {}, "end"),
            (NOON, NOON + MINUTE, {}, "end"),
            (NOON - 30 * SECOND, NOON - SECOND, {}, "begin"),
            (NOON - 8 * 1440 * MINUTE, NOON, {}, "end"),
            (NOON - MINUTE, NOON, {"schedule_type": "none", "cron_expr": ""}, "schedule_type"),
        ],
    )
    def test_what_is_wrong_with_a_window_is_named(self, clock, begin, end, fields, wrong):
        task = people.task(**fields)
        with pytest.raises(InvalidInput) as error:
            do_start_replay(people.admin(), task, begin, end)
        assert list(error.value.errors) == [wrong]
        for parallel in (0, 101, True, "1"):
            with pytest.raises(InvalidInput):
                do_start_replay(people.admin(), task, begin, end, parallel)
        with pytest.raises(NotFound):
            preview(people.stranger(), task, begin, end)

    def test_the_api(self, clock):
        people.online_client()
        task = people.task()
        call = APIClient()
        call.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(people.admin())[1]}")
        body = {"task_id": task.pk, "begin": "2026-03-01T11:50:00Z", "end": "2026-03-01T11:59:00Z"}
        found = call.post("/api/v1/replays", {**body, "dry_run": True}, format="json").json()["data"]
        assert (found["total"], found["times"][0]) == (10, "2026-03-01T11:50:00.000Z")
        made = call.post("/api/v1/replays", {**body, "parallel": 3}, format="json").json()["data"]
        assert made["progress"]["counts"] == {"PENDING": 3}
        url = f"/api/v1/replays/{made['id']}"
        assert call.get(url).json()["data"]["progress"]["fired"] == 3
        assert call.get("/api/v1/replays", {"task_id": task.pk}).json()["data"]["total"] == 1
        ended = call.post(f"{url}/cancel").json()["data"]
        assert (ended["status"], ended["progress"]["counts"]) == (3, {"CANCELLED": 3})
        assert call.post("/api/v1/replays", {**body, "begin": "x"}, format="json").status_code == 400
        assert call.post("/api/v1/replays", {**body, "x": 1}, format="json").status_code == 400


class TestMissed:
    def look(self, clock, at):
        clock.move_to(at)
        return missing.find_missing()

    def test_times_without_an_execution_become_one_event(self, clock):
        people.online_client()
        task, other = people.task(), people.task("daily", cron_expr="0 0 * * *")
        assert self.look(clock, NOON + SECOND) == []
        fire([Firing(task.pk, NOON + MINUTE)])
        for n in range(1, 7):
            found = self.look(clock, NOON + n * MINUTE + SECOND)
            assert bool(found) == (n >= 4)  # what came after 12:01, two minutes later
        events = MissedFiring.objects.filter(task_id=task.pk).order_by("id")
        assert [(e.first_time, e.count) for e in events] == [(NOON + n * MINUTE, 1) for n in (2, 3, 4)]
        assert not MissedFiring.objects.filter(task_id=other.pk).exists()
        fire([Firing(task.pk, NOON + 3 * MINUTE)])
        self.look(clock, NOON + 7 * MINUTE + SECOND)
        assert MissedFiring.objects.exclude(resolved_at=None).get().first_time == NOON + 3 * MINUTE

    def test_after_an_outage_what_is_made_up_for_has_its_time_to_come(self, clock):
        people.online_client()
        task = people.task(misfire_policy="fire_once")
        find_missing()
        assert self.look(clock, NOON + 60 * MINUTE) == []
        fire([Firing(task.pk, NOON + n * MINUTE) for n in range(59, 62)])
        (event,) = self.look(clock, NOON + 61 * MINUTE)
        assert (event.first_time, event.last_time, event.count) == (NOON + MINUTE, NOON + 58 * MINUTE, 58)

    def test_what_is_not_due_is_not_missed(self, clock):
        task = people.task()
        held = people.task("held", schedule_type="fixed_delay", cron_expr="", interval_seconds=60)
        find_missing()
        actions.do_set_enabled(people.admin(), [task], False)
        clock.move_to(NOON + MINUTE)
        actions.do_set_enabled(people.admin(), [task], True)
        for n in range(1, 4):
            found = self.look(clock, NOON + n * MINUTE + SECOND)
        assert found == [] and held.next_fire_at is None

    def test_a_fixed_delay_that_does_not_go_on_is_seen(self, clock):
        people.task("stuck", schedule_type="fixed_delay", cron_expr="", interval_seconds=60)
        find_missing()
        Task.objects.update(next_fire_at=NOON + SECOND)
        found = [event for n in range(1, 4) for event in self.look(clock, NOON + n * MINUTE)]
        assert [event.first_time for event in found] == [NOON + SECOND]

    @pytest.mark.parametrize("by", ["scheduler", "user", "user early"])
    def test_a_single_time_that_was_given_up_is_seen_though_the_task_is_disabled(self, clock, by):
        once = {"schedule_type": "once", "cron_expr": "", "run_at": NOON + MINUTE}
        task, fired = people.task("given up", **once), people.task("fired", **once)
        find_missing()
        clock.move_to(NOON + (SECOND if by == "user early" else 2 * MINUTE))
        fire([Firing(fired.pk, NOON + MINUTE)])
        if by == "scheduler":
            actions.expire_once([task.pk, fired.pk])
        else:
            actions.do_set_enabled(people.admin(), [task, fired], False)
        found = [event for n in range(2, 6) for event in self.look(clock, NOON + n * MINUTE + SECOND)]
        assert [(e.task_id, e.first_time, e.count) for e in found] == (
            [(task.pk, NOON + MINUTE, 1)] if by == "scheduler" else []
        )

    def test_the_api_shows_those_of_visible_tasks(self, clock):
        task = people.task()
        MissedFiring.objects.create(task_id=task.pk, first_time=NOON, last_time=NOON, count=1)
        call = APIClient()
        call.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(people.admin())[1]}")
        assert call.get("/api/v1/missed", {"resolved": "false"}).json()["data"]["total"] == 1
        assert call.get("/api/v1/missed", {"resolved": "true"}).json()["data"]["total"] == 0
        call.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(people.stranger())[1]}")
        assert call.get("/api/v1/missed").json()["data"]["total"] == 0


class TestRetention:
    def kept(self):
        return set(MissedFiring.objects.values_list("task_name", flat=True)), set(
            Replay.objects.values_list("created_by", flat=True)
        )

    def make(self, days):
        """An event and a replay that ended so many days ago, and one that is under way since then."""
        ago = NOON - timedelta(days=days)
        event = MissedFiring.objects.create(
            task_id=days, task_name=f"{days} days", first_time=ago, last_time=ago, count=1
        )
        MissedFiring.objects.filter(pk=event.pk).update(detected_at=ago)
        task = people.task(f"job-{days}")
        common = {"task": task, "begin": ago, "end": ago, "cursor": ago, "parallel": 1, "total": 1}
        over = Replay.Status.DONE
        Replay.objects.create(created_by=f"{days} days", status=over, ended_at=ago, **common)
        Replay.objects.create(created_by="under way", **common)

    def test_what_is_over_goes_after_a_year(self, clock):
        for days in (364, 366):
            self.make(days)
        forget_old()
        assert self.kept() == ({"364 days"}, {"364 days", "under way"})

    def test_the_setting_says_when_and_0_is_never(self, clock):
        for days in (5, 4000):
            self.make(days)
        system_settings.do_change_settings(people.admin(), {SCHEDULER_DAYS.name: 0})
        forget_old()
        assert self.kept() == ({"5 days", "4000 days"}, {"5 days", "4000 days", "under way"})
        system_settings.do_change_settings(people.admin(), {SCHEDULER_DAYS.name: 4})
        forget_old()
        assert self.kept() == (set(), {"under way"})
