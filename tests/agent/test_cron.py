"""Cron expressions: forms, errors, and times against two references that share no code with ours."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st
from quartzflow_agent.cron import CronError, CronExpression

SHANGHAI = ZoneInfo("Asia/Shanghai")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def times(text: str, after: datetime, count: int, tz=UTC) -> list[datetime]:
    expression, found = CronExpression.parse(text), []
    for _ in range(count):
        after = expression.next_after(after, tz)
        found.append(after)
    return found


# --- forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", utc(2025, 6, 1, 12, 1)),
        ("*/5 * * * * *", utc(2025, 6, 1, 12, 0, 5)),
        ("0 2 * * *", utc(2025, 6, 2, 2)),
        ("0 0 2 * * *", utc(2025, 6, 2, 2)),
        ("0 0 * * 1", utc(2025, 6, 2)),
        ("0 0 ? * MON", utc(2025, 6, 2)),
        ("0 0 * * 7", utc(2025, 6, 8)),
        ("0 0 * * sun", utc(2025, 6, 8)),
        ("0 0 1 jan *", utc(2026, 1, 1)),
        ("15,45 8-10/2 * * *", utc(2025, 6, 2, 8, 15)),
        ("10/20 * * * *", utc(2025, 6, 1, 12, 10)),
        ("5-5/3 12 * * *", utc(2025, 6, 1, 12, 5)),
        ("0 0 L * *", utc(2025, 6, 30)),
        ("0 0 LW 8 *", utc(2025, 8, 29)),
        ("0 0 * * 5L", utc(2025, 6, 27)),
        ("0 0 * * 1#2", utc(2025, 6, 9)),
        ("0 0 13 * 5", utc(2025, 6, 6)),  # either, neither starting with a star
        ("0 0 */2 * 5", utc(2025, 6, 13)),  # both, because one starts with a star
        ("0 0 29 2 *", utc(2028, 2, 29)),
        ("  @hourly ", utc(2025, 6, 1, 13)),
        ("@daily", utc(2025, 6, 2)),
        ("@midnight", utc(2025, 6, 2)),
        ("@WEEKLY", utc(2025, 6, 8)),
        ("@monthly", utc(2025, 7, 1)),
        ("@yearly", utc(2026, 1, 1)),
        ("@annually", utc(2026, 1, 1)),
    ],
)
def test_every_form_fires_when_it_says(text, expected):
    assert CronExpression.parse(text).next_after(utc(2025, 6, 1, 12), UTC) == expected


def test_the_number_of_fields_decides_what_comes_first():
    assert times("0 */5 * * *", utc(2025, 1, 1), 2) == [utc(2025, 1, 1, 5), utc(2025, 1, 1, 10)]
    assert times("0 */5 * * * *", utc(2025, 1, 1), 2) == [utc(2025, 1, 1, 0, 5), utc(2025, 1, 1, 0, 10)]


def test_the_result_is_strictly_later_in_utc_and_whole_seconds():
    expression = CronExpression.parse("* * * * * *")
    assert expression.next_after(utc(2025, 1, 1), UTC) == utc(2025, 1, 1, 0, 0, 1)
    found = expression.next_after(utc(2025, 1, 1).replace(microsecond=999999).astimezone(SHANGHAI), SHANGHAI)
    assert found == utc(2025, 1, 1, 0, 0, 1)
    assert found.tzinfo is UTC


def test_equal_text_after_case_spaces_and_macros_is_the_same_expression():
    assert CronExpression.parse(" 0  0 * * mon") == CronExpression.parse("0 0 ? * MON")
    assert len({CronExpression.parse("@hourly"), CronExpression.parse("0 * * * *")}) == 1
    assert CronExpression.parse("@hourly") != "0 * * * *"
    assert repr(CronExpression.parse("@hourly")) == "CronExpression('0 * * * *')"


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "part"),
    [
        ("", "expression", "this one has 0"),
        ("* * * *", "expression", "this one has 4"),
        ("* * * * * * *", "expression", "this one has 7"),
        ("* " * 200, "expression", "longer than 255"),
        ("@reboot", "expression", "@reboot is not supported"),
        ("@every 5m", "expression", 'Unknown macro "@every 5m"'),
        ("60 * * * * *", "second", '"60" in the second field is outside 0 to 59'),
        ("60 * * * *", "minute", '"60" in the minute field is outside 0 to 59'),
        ("* 24 * * *", "hour", "outside 0 to 23"),
        ("* * 0 * *", "day", "outside 1 to 31"),
        ("* * 1-32 * *", "day", '"1-32" in the day field is outside'),
        ("* * * 13 *", "month", "outside 1 to 12"),
        ("* * * MAI *", "month", '"MAI" is not valid'),
        ("* * * * 8", "weekday", "outside 0 to 7"),
        ("* * * * L", "weekday", '"L" is not valid'),
        ("* * * * 1#6", "weekday", '"1#6" is not valid'),
        ("5-2/2 * * * *", "minute", 'range "5-2/2" in the minute field runs backwards'),
        ("* 5-2 * * *", "hour", 'range "5-2" in the hour field runs backwards'),
        ("* * * * FRI-MON", "weekday", "runs backwards"),
        ("*/0 * * * *", "minute", "must be a number from 1 to 60"),
        ("*/61 * * * *", "minute", "must be a number from 1 to 60"),
        ("*/x * * * *", "minute", "must be a number from 1 to 60"),
        ("* */ * * *", "hour", "must be a number from 1 to 24"),
        ("1,,2 * * * *", "minute", "has an empty item"),
        ("1, * * * *", "minute", "has an empty item"),
        ("-1 * * * *", "minute", '"-1" is not valid'),
        ("١ * * * *", "minute", "is not valid"),
        ("* 5L * * *", "hour", '"5L" is not valid'),
        ("0 0 30 2 *", "day", "never fires"),
        ("0 0 31 2,4,6,9,11 *", "day", "never fires"),
        ("0 0 */10 2 1#5", "day", "never fires"),
    ],
)
def test_an_error_names_the_field_and_the_reason(text, field, part):
    with pytest.raises(CronError) as caught:
        CronExpression.parse(text).check_fires()
    assert caught.value.field == field
    assert part in str(caught.value)


def test_an_error_can_be_rendered_in_another_language():
    with pytest.raises(CronError) as caught:
        CronExpression.parse("* 24 * * *")
    chinese = {
        "hour": "时",
        caught.value.message: "%(field)s：%(value)s 超出 %(low)d-%(high)d",
    }
    assert caught.value.render(chinese.__getitem__) == "时：24 超出 0-23"


@pytest.mark.parametrize("text", ["*/60 * * * *", "0 */24 * * *", "0 0 */31 * *", "0 0 1 */12 *"])
def test_a_step_of_the_whole_field_is_accepted(text):
    CronExpression.parse(text).check_fires()


def test_what_never_fires_ends_the_search():
    assert CronExpression.parse("0 0 30 2 *").next_after(utc(2025, 1, 1), SHANGHAI) is None
    assert CronExpression.parse("* * 30 2 *").next_after(utc(2025, 1, 1), SHANGHAI) is None


def test_the_rarest_date_is_found():
    # Monday, 29 February; 2100 has none
    assert CronExpression.parse("0 0 * 2 MON#5").next_after(utc(2072, 3, 1), UTC) == utc(2112, 2, 29)


@given(st.text(alphabet="0123456789*/,-?L#W @abcdefJANMO\u0661\t\n%", max_size=40))
def test_any_text_is_either_an_expression_or_a_clear_error(text):
    try:
        expression = CronExpression.parse(text)
    except CronError:
        return
    found = expression.next_after(utc(2025, 1, 1), SHANGHAI)
    assert found is None or found > utc(2025, 1, 1)


# --- references ------------------------------------------------------------------------------------------


@st.composite
def field(draw, low: int, high: int) -> tuple[str, set[int]]:
    """The text of a field and the numbers it means."""
    terms, numbers = [], set()
    for _ in range(draw(st.integers(1, 2))):
        first = draw(st.integers(low, high))
        last = draw(st.integers(first, high))
        step = draw(st.integers(1, high - low + 1))
        text, values = draw(
            st.sampled_from(
                [
                    ("*", range(low, high + 1)),
                    (f"*/{step}", range(low, high + 1, step)),
                    (f"{first}", range(first, first + 1)),
                    (f"{first}-{last}", range(first, last + 1)),
                    (f"{first}-{last}/{step}", range(first, last + 1, step)),
                ]
            )
        )
        terms.append(text)
        numbers.update(values)
    return ",".join(terms), numbers


def january_and(months: st.SearchStrategy) -> st.SearchStrategy:
    """Months in which every day of the month exists some day."""
    return months.map(lambda month: (f"{month[0]},1", month[1] | {1}))


def skipped_and_shown(clock: list[datetime], tz: ZoneInfo):
    """For each moment of `clock` (UTC, evenly spaced): itself, the wall, the wall times first passed."""
    step = clock[1] - clock[0]
    reached = clock[0].astimezone(tz).replace(tzinfo=None, fold=0) - step
    for moment in clock:
        wall = moment.astimezone(tz).replace(tzinfo=None, fold=0)
        new = []
        while reached < wall:
            reached += step
            new.append(reached)
        yield moment, wall, new


def reference(clock, tz, matches, fixed) -> list[datetime]:
    """Debian's rule, tick by tick: fixed times fire when the wall first passes them, others when shown."""
    return [
        moment
        for moment, wall, new in skipped_and_shown(clock, tz)
        if (any(map(matches, new)) if fixed else matches(wall))
    ]


def assert_fires_exactly(
    text: str, tz: ZoneInfo, expected: list[datetime], start: datetime, end: datetime
) -> None:
    """From any moment of [start, end) the next time is the reference's, and none is left out."""
    expression = CronExpression.parse(text)
    found, moment = [], start - timedelta(seconds=1)
    while (moment := expression.next_after(moment, tz)) is not None and moment < end:
        found.append(moment)
    assert found == expected
    for offset in range(0, int((end - start).total_seconds()), 1777):
        moment = start + timedelta(seconds=offset)
        following = [time for time in expected if time > moment]
        if following:
            assert expression.next_after(moment, tz) == following[0]


# (zone, a moment near the jump): forth and back, by an hour, half an hour, at midnight, over a whole day.
JUMPS = [
    ("America/New_York", utc(2026, 3, 8, 7)),
    ("America/New_York", utc(2026, 11, 1, 6)),
    ("Europe/Berlin", utc(2026, 3, 29, 1)),
    ("Europe/Berlin", utc(2026, 10, 25, 1)),
    ("Australia/Lord_Howe", utc(2026, 4, 4, 15)),
    ("Australia/Lord_Howe", utc(2026, 10, 3, 15, 30)),
    ("America/Havana", utc(2026, 3, 8, 5)),
    ("America/Havana", utc(2026, 11, 1, 5)),
    ("Africa/Casablanca", utc(2026, 2, 15, 2)),
    ("Africa/Casablanca", utc(2026, 3, 22, 2)),
    ("America/St_Johns", utc(2010, 3, 14, 3, 31)),
    ("Pacific/Apia", utc(2011, 12, 30, 10)),
    ("Asia/Shanghai", utc(2026, 12, 31, 16)),  # a year's end, no jump
    ("UTC", utc(2024, 2, 29)),
]


@settings(deadline=None, max_examples=60)
@given(jump=st.sampled_from(JUMPS), minute=field(0, 59), hour=field(0, 23), day=field(1, 31))
def test_minutes_around_a_jump_are_those_of_a_clock_watched_tick_by_tick(jump, minute, hour, day):
    tz, middle = ZoneInfo(jump[0]), jump[1]
    text = f"{minute[0]} {hour[0]} {day[0]} * *"
    fixed = not minute[0].startswith("*") and not hour[0].startswith("*")
    start, ticks = middle - timedelta(hours=20), 40 * 60
    clock = [start + timedelta(minutes=n) for n in range(-26 * 60, ticks)]

    def matches(wall: datetime) -> bool:
        return wall.minute in minute[1] and wall.hour in hour[1] and wall.day in day[1]

    expected = [time for time in reference(clock, tz, matches, fixed) if time >= start]
    assert_fires_exactly(text, tz, expected, start, start + timedelta(minutes=ticks))


@settings(deadline=None, max_examples=30)
@given(jump=st.sampled_from(JUMPS), second=field(0, 59), minute=field(0, 59), hour=field(0, 23))
def test_seconds_around_a_jump_are_those_of_a_clock_watched_tick_by_tick(jump, second, minute, hour):
    tz, middle = ZoneInfo(jump[0]), jump[1]
    text = f"{second[0]} {minute[0]} {hour[0]} * * *"
    fixed = not minute[0].startswith("*") and not hour[0].startswith("*")
    start, ticks = middle - timedelta(minutes=40), 80 * 60
    clock = [start + timedelta(seconds=n) for n in range(ticks)]

    def matches(wall: datetime) -> bool:
        return wall.second in second[1] and wall.minute in minute[1] and wall.hour in hour[1]

    assert_fires_exactly(
        text, tz, reference(clock, tz, matches, fixed), start, clock[-1] + timedelta(seconds=1)
    )


def day_matcher(day: str, weekday: str):
    """Whether a date matches, written from the words of the rule and counting days only."""

    def by_day(today: date) -> bool:
        tomorrow = today + timedelta(days=1)
        if day == "L":
            return tomorrow.month != today.month
        if day == "LW":
            later = [today + timedelta(days=n) for n in (1, 2, 3)]
            return today.weekday() < 5 and not any(d.month == today.month and d.weekday() < 5 for d in later)
        return day == "*" or today.day in map(int, day.split(","))

    def by_weekday(today: date) -> bool:
        if weekday == "*":
            return True
        number, mark, nth = weekday.partition("#")
        last = number.endswith("L")
        if today.isoweekday() % 7 != int(number.rstrip("L")) % 7:
            return False
        if last:
            return (today + timedelta(days=7)).month != today.month
        return not mark or sum((today - timedelta(days=7 * n)).month == today.month for n in range(5)) == int(
            nth
        )

    both = day == "*" or weekday == "*"
    return lambda today: by_day(today) and by_weekday(today) if both else by_day(today) or by_weekday(today)


@settings(deadline=None, max_examples=80)
@given(
    day=st.sampled_from(["*", "L", "LW", "29", "30,31", "1,15", "28"]),
    weekday=st.sampled_from(["*", "0", "7", "3", "5L", "0L", "1#1", "2#5", "6#2"]),
    month=field(1, 12),
    year=st.sampled_from([1999, 2023, 2024, 2025, 2096, 2099]),
)
def test_days_are_those_of_a_calendar_counted_day_by_day(day, weekday, month, year):
    matches, start, end = day_matcher(day, weekday), date(year, 1, 1), date(year + 3, 1, 1)
    days = [start + timedelta(days=n) for n in range((end - start).days)]
    expected = [utc(d.year, d.month, d.day, 23, 59, 59) for d in days if d.month in month[1] and matches(d)]
    expression, found = CronExpression.parse(f"59 59 23 {day} {month[0]} {weekday}"), []
    moment = utc(year, 1, 1) - timedelta(seconds=1)
    while (moment := expression.next_after(moment, UTC)) is not None and moment.date() < end:
        found.append(moment)
    assert found == expected


@settings(deadline=None, max_examples=150)
@given(
    fields=st.tuples(field(0, 59), field(0, 23), field(1, 31), january_and(field(1, 12)), field(0, 6)),
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1)),
)
def test_we_agree_with_cronsim_where_no_clock_jumps(fields, moment):
    moment = moment.replace(tzinfo=UTC)
    text = " ".join(text for text, _ in fields)
    # cronsim takes 5-5/3 for 5/3, so it gets the numbers; a leading star decides about day and weekday.
    spelled = " ".join(
        ",".join([text.split(",")[0]] * text.startswith("*") + [*map(str, numbers)])
        for text, numbers in fields
    )
    assert CronExpression.parse(text).next_after(moment, UTC) == next(CronSim(spelled, moment))
