"""Schedules: each kind's times, misfires, JSON, the wire, and the names of executions."""

import json
import re
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quartzflow_agent.cron import CronError, ScheduleError
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.schedule import (
    MISFIRE_POLICIES,
    Schedule,
    execution_id,
    run_id,
    spread_delay_ms,
    uuid7,
    zone,
)

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def moment(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def cron(text: str = "* * * * *", **values) -> Schedule:
    return Schedule(schedule_type="cron", cron_expr=text, **values)


# --- next times ------------------------------------------------------------------------------------------


def test_cron_is_read_on_the_wall_clock_of_its_zone():
    assert cron("0 2 * * *", timezone="Asia/Shanghai").next_after(NOON) == datetime(
        2025, 6, 1, 18, tzinfo=UTC
    )


def test_fixed_rate_counts_from_its_anchor_and_starts_with_it():
    schedule = Schedule("fixed_rate", interval_seconds=90, anchor_at=NOON + timedelta(microseconds=700_000))
    assert schedule.upcoming(NOON - MINUTE, 3) == [NOON, NOON + 90 * SECOND, NOON + 180 * SECOND]
    assert schedule.next_after(NOON) == NOON + 90 * SECOND


def test_fixed_rate_without_an_anchor_keeps_one_phase_for_ever():
    schedule = Schedule("fixed_rate", interval_seconds=7)
    for offset in range(20):
        assert schedule.next_after(NOON + offset * SECOND).timestamp() % 7 == 0


@given(st.integers(1, 90_000), st.integers(-(10**6), 10**6), st.floats(0, 10**6))
def test_fixed_rate_is_the_first_multiple_after_the_moment(interval, anchor, moment):
    schedule = Schedule("fixed_rate", interval_seconds=interval, anchor_at=NOON + anchor * SECOND)
    after = NOON + timedelta(seconds=moment)
    found = schedule.next_after(after)
    assert found > after
    assert (found - NOON).total_seconds() % interval == anchor % interval
    assert found - after <= timedelta(seconds=interval) or found == NOON + anchor * SECOND


def test_fixed_delay_counts_from_the_end_of_the_run_and_is_never_short():
    schedule = Schedule("fixed_delay", interval_seconds=10)
    assert schedule.next_after(NOON) == NOON + 10 * SECOND
    assert schedule.next_after(NOON + timedelta(microseconds=1)) == NOON + 11 * SECOND
    assert schedule.upcoming(NOON, 5) == [NOON + 10 * SECOND]


def test_once_fires_at_its_whole_second_and_never_again():
    schedule = Schedule("once", run_at=NOON + timedelta(microseconds=900_000))
    assert schedule.next_after(NOON - SECOND) == NOON
    assert schedule.next_after(NOON) is None
    assert schedule.upcoming(NOON - MINUTE, 5) == [NOON]


def test_a_task_without_schedule_never_fires_by_itself():
    assert Schedule("none").upcoming(NOON, 3) == []


def test_both_ends_of_the_validity_window_still_fire():
    schedule = cron(start_at=NOON, end_at=NOON + 2 * MINUTE)
    assert schedule.upcoming(NOON - timedelta(days=3), 9) == [NOON, NOON + MINUTE, NOON + 2 * MINUTE]
    assert cron(start_at=NOON + timedelta(microseconds=1)).next_after(NOON - MINUTE) == NOON + MINUTE
    assert Schedule("once", run_at=NOON, end_at=NOON - SECOND).next_after(NOON - MINUTE) is None


# --- misfires --------------------------------------------------------------------------------------------


def test_skip_gives_up_what_was_missed():
    assert cron(misfire_policy="skip").missed(NOON - 10 * MINUTE, NOON, 100) == []


def test_fire_once_keeps_the_latest_missed():
    assert cron().missed(NOON - 10 * MINUTE, NOON + 30 * SECOND, 100) == [NOON]
    assert cron().missed(NOON, NOON + 30 * SECOND, 100) == []


def test_fire_all_keeps_the_latest_up_to_the_limit_oldest_first():
    schedule = cron(misfire_policy="fire_all")
    assert schedule.missed(NOON - 3 * MINUTE, NOON, 100) == [NOON - 2 * MINUTE, NOON - MINUTE, NOON]
    assert schedule.missed(NOON - 300 * MINUTE, NOON, 2) == [NOON - MINUTE, NOON]
    assert schedule.missed(NOON - 3 * MINUTE, NOON, 0) == []


@pytest.mark.parametrize("policy", ["fire_once", "fire_all"])
def test_what_is_older_than_the_grace_time_is_given_up(policy):
    schedule = cron("0 * * * *", misfire_policy=policy, misfire_grace=600)
    assert schedule.missed(NOON - MINUTE, NOON + 10 * MINUTE, 9) == [NOON]
    assert schedule.missed(NOON - MINUTE, NOON + 10 * MINUTE + SECOND, 9) == []


def test_until_leaves_out_what_is_late_but_not_missed():
    schedule = cron("* * * * * *", misfire_policy="fire_all", misfire_grace=5)
    now = NOON + 4 * SECOND
    assert schedule.missed(NOON - MINUTE, now, 9, until=NOON) == [NOON - SECOND, NOON]


def test_a_run_whose_end_is_unknown_misses_nothing():
    assert Schedule("fixed_delay", interval_seconds=1).missed(NOON - MINUTE, NOON, 9) == []


@given(
    schedule=st.sampled_from(
        [
            cron("* * * * *"),
            cron("*/7 * 3 * * *"),
            cron("0 5 * * *"),
            Schedule("fixed_rate", interval_seconds=61),
            Schedule("once", run_at=NOON - 90 * MINUTE),
        ]
    ),
    policy=st.sampled_from(MISFIRE_POLICIES),
    down=st.integers(0, 40_000),
    grace=st.integers(0, 40_000),
    limit=st.integers(1, 30),
)
def test_misfires_are_those_of_a_plain_walk_from_the_last_firing(schedule, policy, down, grace, limit):
    schedule = Schedule.from_dict({**schedule.to_dict(), "misfire_policy": policy, "misfire_grace": grace})
    walked, moment = [], NOON - down * SECOND
    while (moment := schedule.next_after(moment)) is not None and moment <= NOON:
        if moment >= NOON - grace * SECOND:
            walked.append(moment)
    expected = {"skip": [], "fire_once": walked[-1:], "fire_all": walked[-limit:]}[policy]
    assert schedule.missed(NOON - down * SECOND, NOON, limit) == expected


def test_a_long_outage_of_a_dense_task_is_cheap_to_settle(monkeypatch):
    schedule, calls = cron("* * * * * *", misfire_grace=10**9), []
    next_after = Schedule.next_after
    monkeypatch.setattr(Schedule, "next_after", lambda self, at: calls.append(at) or next_after(self, at))
    assert schedule.missed(NOON - timedelta(days=30), NOON, 1) == [NOON]
    assert len(calls) < 100


# --- validation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        (Schedule("weekly"), "schedule_type"),
        (cron(misfire_policy="pray"), "misfire_policy"),
        (cron(misfire_grace=-1), "misfire_grace"),
        (cron(timezone="Mars/Olympus"), "timezone"),
        (cron(timezone="../etc/passwd"), "timezone"),
        (cron(timezone=""), "timezone"),
        (cron("0 0 30 2 *"), "day"),
        (cron("x"), "expression"),
        (Schedule("fixed_rate"), "interval_seconds"),
        (Schedule("fixed_delay", interval_seconds=0), "interval_seconds"),
        (Schedule("once"), "run_at"),
        (cron(start_at=NOON, end_at=NOON - SECOND), "end_at"),
    ],
)
def test_validation_names_what_is_wrong(schedule, field):
    with pytest.raises(ScheduleError) as caught:
        schedule.validate()
    assert caught.value.field == field
    assert str(caught.value)


def test_good_schedules_are_valid():
    for schedule in (
        cron("@daily", timezone="Asia/Shanghai", start_at=NOON, end_at=NOON),
        Schedule("fixed_rate", interval_seconds=1),
        Schedule("fixed_delay", interval_seconds=1),
        Schedule("once", run_at=NOON),
        Schedule("none"),
    ):
        schedule.validate()


def test_a_bad_expression_is_a_cron_error_when_a_time_is_asked_for():
    with pytest.raises(CronError):
        cron("61 * * * *").next_after(NOON)


def test_zones_are_looked_up_once():
    assert zone("Asia/Shanghai") is zone("Asia/Shanghai")
    assert zone("UTC") is UTC


# --- JSON and wire ---------------------------------------------------------------------------------------

moments = st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(st.builds(Schedule, run_at=moments, anchor_at=moments, start_at=moments, end_at=moments))
def test_json_round_trip(schedule):
    assert Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


def test_json_with_unknown_keys_or_times_is_refused():
    with pytest.raises(TypeError):
        Schedule.from_dict({"phase": "moon"})
    with pytest.raises(ValueError, match="isoformat"):
        Schedule.from_dict({"run_at": "tomorrow"})


def test_the_wire_configuration_gives_the_same_schedule():
    milliseconds = int(NOON.timestamp() * 1000)
    config = task_pb2.TaskConfig(
        schedule_type="fixed_rate",
        cron_expr="",
        timezone="Asia/Shanghai",
        interval_seconds=30,
        run_at=0,
        anchor_at=milliseconds,
        start_at=milliseconds + 1,
        end_at=0,
        misfire_policy="skip",
        misfire_grace=60,
        calendar='{"dates": []}',
        calendar_mode="only_on",
    )
    assert Schedule.from_task_config(config) == Schedule(
        schedule_type="fixed_rate",
        timezone="Asia/Shanghai",
        interval_seconds=30,
        anchor_at=NOON,
        start_at=NOON + timedelta(milliseconds=1),
        misfire_policy="skip",
        misfire_grace=60,
        calendar='{"dates": []}',
        calendar_mode="only_on",
    )


# --- names -----------------------------------------------------------------------------------------------


def test_a_scheduled_firing_is_named_by_its_utc_time():
    shanghai = NOON.astimezone(zone("Asia/Shanghai"))
    assert execution_id(7, shanghai, "web-1") == "exec_20250601_120000_7_web-1"
    assert execution_id("7", NOON, "web-1", shard=0) == "exec_20250601_120000_7_web-1_s0"
    assert run_id(7, shanghai) == "run_20250601_120000_7"


def test_a_manual_firing_is_named_by_its_unique_id():
    assert execution_id(7, NOON, "web-1", shard=3, unique="u") == "exec_u_7_web-1_s3"
    assert run_id(7, None, unique="u") == "run_u_7"


def test_a_firing_needs_a_time_or_a_unique_id():
    with pytest.raises(ValueError, match="nominal time"):
        run_id(7, None)


def test_uuid7_is_well_formed_and_sorts_by_time(monkeypatch):
    made = []
    for nanoseconds in (1_748_779_200_000_000_000, 1_748_779_200_000_000_500, 1_748_779_200_001_000_000):
        monkeypatch.setattr("quartzflow_agent.schedule.time.time_ns", lambda now=nanoseconds: now)
        made.append(uuid7())
    assert made == sorted(made)
    assert len({uuid7() for _ in range(50)}) == 50
    for text in made:
        assert uuid.UUID(text).version == 7
        assert uuid.UUID(text).variant == uuid.RFC_4122
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)


@given(st.integers(1, 10**9), st.text(min_size=1, max_size=20), st.integers(0, 3600))
def test_the_spread_is_within_its_bounds_and_always_the_same(task_id: int, client_id: str, seconds: int):
    delay = spread_delay_ms(task_id, client_id, seconds)
    assert 0 <= delay < max(seconds * 1000, 1)
    assert delay == spread_delay_ms(str(task_id), client_id, seconds)


def test_the_spread_is_even():
    counts = Counter(spread_delay_ms(7, f"web-{n}", 10) // 1000 for n in range(10_000))
    assert set(counts) == set(range(10)) and min(counts.values()) > 800


@pytest.mark.parametrize(
    ("fields", "yes", "no"),
    [
        (
            {"cron_expr": "0 9 * * *", "timezone": "Asia/Shanghai"},
            moment(2025, 6, 1, 1),
            moment(2025, 6, 1, 9),
        ),
        (
            {"schedule_type": "fixed_rate", "interval_seconds": 7, "anchor_at": moment(2025, 1, 1)},
            moment(2025, 1, 1, 0, 0, 14),
            moment(2025, 1, 1, 0, 0, 15),
        ),
        ({"schedule_type": "once", "run_at": moment(2025, 1, 1)}, moment(2025, 1, 1), moment(2025, 1, 2)),
        (
            {"schedule_type": "fixed_delay", "interval_seconds": 7, "end_at": moment(2025, 1, 1)},
            moment(2025, 1, 1),
            moment(2025, 1, 2),
        ),
        (
            {"schedule_type": "fixed_delay", "interval_seconds": 7, "start_at": moment(2025, 1, 1)},
            moment(2025, 1, 1),
            moment(2024, 1, 2),
        ),
        (
            {"cron_expr": "* * * * *", "end_at": moment(2025, 1, 1)},
            moment(2025, 1, 1),
            moment(2025, 1, 1, 0, 1),
        ),
    ],
)
def test_whether_it_fires_at_a_moment(fields, yes, no):
    plan = Schedule(**fields)
    assert plan.fires_at(yes) and not plan.fires_at(no)
