"""Calendars against a clock that is watched minute by minute; schedules that keep to them."""

import json
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quartzflow_agent.calendars import Calendar
from quartzflow_agent.cron import ScheduleError
from quartzflow_agent.schedule import Schedule

MINUTE = timedelta(minutes=1)
HORIZON = timedelta(days=3)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def calendar(**rules) -> str:
    return json.dumps(rules)


def plainly_covers(rules: dict, moment: datetime) -> bool:
    """The same, as directly as it can be said; cron as "HH:MM daily"."""
    tz = ZoneInfo(rules["timezone"])
    local = moment.astimezone(tz)
    day = local.date()
    minute = local.hour * 60 + local.minute
    for item in rules["dates"]:
        first, _, last = item.partition("/")
        if date.fromisoformat(first) <= day <= date.fromisoformat(last or first):
            return True
    works = day.weekday() < 5 and day.isoformat() not in rules["off_days"]
    if rules["working_days"] and (works or day.isoformat() in rules["work_days"]):
        return True
    for window in rules["weekly"]:
        start, end = (int(text[:2]) * 60 + int(text[3:]) for text in (window["start"], window["end"]))
        today, yesterday = (
            day.isoweekday() in window["days"],
            (day.isoweekday() + 5) % 7 + 1 in window["days"],
        )
        if start < end:
            if today and start <= minute < end:
                return True
        elif (today and minute >= start) or (yesterday and minute < end):
            return True
    for period in rules["cron"]:
        minute_field, hour_field = period["start"].split()[:2]
        back = moment
        while back > moment - timedelta(minutes=period["minutes"]):
            shown = back.astimezone(tz)
            if (shown.hour, shown.minute) == (int(hour_field), int(minute_field)):
                return True
            back -= MINUTE
    return False


days = st.dates(date(2025, 3, 26), date(2025, 4, 4)).map(date.isoformat)
clock = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
window = st.fixed_dictionaries(
    {
        "days": st.lists(st.integers(1, 7), min_size=1, max_size=3),
        "start": clock,
        "end": clock | st.just("24:00"),
    }
)
# Away from the hours that a switch of the clock skips or repeats, where cron has rules of its own.
period = st.fixed_dictionaries(
    {
        "start": st.builds("{} {} * * *".format, st.integers(0, 59), st.integers(5, 22)),
        "minutes": st.integers(1, 90),
    }
)
rules_of = st.fixed_dictionaries(
    {
        "timezone": st.sampled_from(["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York"]),
        "dates": st.lists(days, max_size=3),
        "weekly": st.lists(window, max_size=2),
        "cron": st.lists(period, max_size=1),
        "working_days": st.booleans(),
        "off_days": st.lists(days, max_size=3),
        "work_days": st.lists(days, max_size=2),
    }
)


@settings(max_examples=60, deadline=None)
@given(rules_of, st.integers(0, 6 * 24 * 60))
def test_coverage_and_its_changes_are_what_a_watched_clock_shows(rules, offset):
    found = Calendar.parse(json.dumps(rules))
    start = at(2025, 3, 27) + offset * MINUTE  # across Europe's switch to summer time
    covered = plainly_covers(rules, start)
    assert found.covers(start) == covered
    step, moment = 0, start
    while moment - start < HORIZON and plainly_covers(rules, moment) == covered:
        moment += MINUTE
        step += 1
    change = (found.next_uncovered if covered else found.next_covered)(start)
    if moment - start < HORIZON:
        assert change == moment
    else:
        assert change is None or change >= moment


def test_a_range_of_dates_covers_whole_days_of_its_zone():
    october = Calendar.parse(calendar(timezone="Asia/Shanghai", dates=["2026-10-01/2026-10-07"]))
    assert not october.covers(at(2026, 9, 30, 15, 59, 59)) and october.covers(at(2026, 9, 30, 16))
    assert october.next_uncovered(at(2026, 10, 1)) == at(2026, 10, 7, 16)
    assert october.next_covered(at(2027, 1, 1)) is None


def test_what_is_covered_for_ever_has_no_end():
    always = Calendar.parse(calendar(weekly=[{"days": [1, 2, 3, 4, 5, 6, 7]}]))
    assert always.next_uncovered(at(2026, 1, 1)) is None


@pytest.mark.parametrize(
    "text",
    [
        "no", "[]", '{"holidays": []}', '{"dates": "2026-01-01"}', '{"dates": ["2026-02-30"]}', '{"dates": [7]}',
        '{"dates": ["2026-02-02/2026-02-01"]}', '{"weekly": [7]}', '{"weekly": [{"days": []}]}',
        '{"weekly": [{"days": [8]}]}', '{"weekly": [{"days": [1], "start": "25:00"}]}', '{"cron": [{"start": "x"}]}',
        '{"weekly": [{"days": [1], "from": "1"}]}', '{"cron": [{"start": "61 * * * *", "minutes": 1}]}',
        '{"cron": [{"start": "* * * * *", "minutes": 0}]}', '{"cron": [{"start": "0 0 30 2 *", "minutes": 5}]}',
        '{"working_days": 1}', '{"timezone": "Mars"}', '{"cron": [7]}', '{"weekly": [{"days": [1], "end": 5}]}',
        json.dumps({"dates": ["2026-01-01"] * 1001}),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_calendar_is_said(text):
    with pytest.raises(ScheduleError) as error:
        Calendar.parse(text)
    assert error.value.field in ("calendar", "timezone") and error.value.render()


# --- schedules -------------------------------------------------------------------------------------------

HOLIDAY = calendar(timezone="UTC", dates=["2026-10-01/2026-10-07"])


def hourly(**fields) -> Schedule:
    return Schedule(cron_expr="0 * * * *", calendar=HOLIDAY, **fields)


def test_times_that_the_calendar_forbids_are_left_out():
    plan = hourly()
    assert plan.upcoming(at(2026, 9, 30, 22), 2) == [at(2026, 9, 30, 23), at(2026, 10, 8, 0)]
    assert plan.next_nominal_after(at(2026, 9, 30, 23)) == at(2026, 10, 1)
    assert plan.fires_at(at(2026, 10, 8)) and not plan.fires_at(at(2026, 10, 2))
    only = hourly(calendar_mode="only_on")
    assert only.upcoming(at(2026, 10, 7, 22), 5) == [at(2026, 10, 7, 23)]
    assert only.next_after(at(2026, 1, 1)) == at(2026, 10, 1)


def test_a_fixed_delay_is_put_off_until_it_may_fire():
    plan = Schedule(schedule_type="fixed_delay", interval_seconds=3600, calendar=HOLIDAY)
    assert plan.next_after(at(2026, 9, 30, 23, 30)) == at(2026, 10, 8)
    assert plan.next_after(at(2026, 9, 30, 20)) == at(2026, 9, 30, 21)
    ending = Schedule(
        schedule_type="fixed_delay", interval_seconds=3600, calendar=HOLIDAY, end_at=at(2026, 10, 2)
    )
    assert ending.next_after(at(2026, 9, 30, 23, 30)) is None


def test_missed_times_are_only_those_that_were_allowed():
    assert hourly(misfire_grace=86400).missed(at(2026, 9, 30, 21), at(2026, 10, 1, 5), 10) == [
        at(2026, 9, 30, 23)
    ]


def test_a_schedule_of_every_second_crosses_a_long_holiday_at_once():
    plan = Schedule(cron_expr="* * * * * *", calendar=HOLIDAY)
    assert plan.next_after(at(2026, 10, 1)) == at(2026, 10, 8)


def test_a_schedule_that_never_meets_its_calendar_ends_the_search():
    plan = Schedule(
        cron_expr="0 12 * * *",
        calendar=calendar(weekly=[{"days": [1], "end": "06:00"}]),
        calendar_mode="only_on",
    )
    assert plan.next_after(at(2026, 1, 1)) is None


def test_both_are_checked_and_survive_json():
    plan = hourly()
    plan.validate()
    assert Schedule.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    for fields in ({"calendar": "no"}, {"calendar_mode": "sometimes"}):
        with pytest.raises(ScheduleError):
            Schedule(cron_expr="0 * * * *", **fields).validate()
