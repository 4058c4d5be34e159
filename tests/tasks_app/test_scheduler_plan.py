"""The plan of the scheduler, under a clock that the tests move."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quartzflow_agent.cron import ScheduleError
from quartzflow_agent.schedule import Schedule

from tasks_app.scheduler.plan import Plan, PlannedTask

NOON = 1_748_779_200  # 2025-06-01 12:00:00 UTC


def moment(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)


def cron(text: str = "* * * * *", **values) -> Schedule:
    return Schedule(schedule_type="cron", cron_expr=text, **values)


def planned(schedule: Schedule, task_id: int = 1, **values) -> PlannedTask:
    return PlannedTask(task_id=task_id, schedule=schedule, **{"since": NOON, **values})


def plan_of(*tasks: PlannedTask, **values) -> Plan:
    plan = Plan(**values)
    for task in tasks:
        plan.put(task)
    return plan


# --- on time ---------------------------------------------------------------------------------------------


def test_a_firing_is_taken_once_and_not_before_the_lookahead():
    plan = plan_of(planned(cron()), lookahead=2)
    assert plan.next_time() == NOON + 60
    assert plan.take(NOON + 57.9).firings == []
    assert plan.take(NOON + 58).firings == [(1, NOON + 60)]
    assert plan.take(NOON + 59).firings == []
    assert plan.next_time() == NOON + 120


def test_all_that_is_due_comes_in_one_batch_in_order_of_time():
    tasks = [
        planned(cron("*/5 * * * * *"), 7),
        planned(cron("*/2 * * * * *"), 3),
        planned(cron("0 0 1 1 *"), 5),
    ]
    assert plan_of(*tasks).take(NOON + 3).firings == [(3, NOON + 2), (3, NOON + 4), (7, NOON + 5)]


def test_the_limit_leaves_the_rest_for_the_next_call():
    plan = plan_of(*(planned(cron(), task_id) for task_id in range(10)))
    first, second = plan.take(NOON + 59, limit=6).firings, plan.take(NOON + 59, limit=6).firings
    assert (len(first), len(second)) == (6, 4)
    assert {task_id for task_id, _ in first + second} == set(range(10))


def test_a_task_goes_on_from_its_last_firing():
    assert plan_of(planned(cron(), last=NOON + 60)).take(NOON + 60).firings == []


# --- edits -----------------------------------------------------------------------------------------------


def test_an_edit_replaces_what_was_planned():
    plan = plan_of(planned(cron()))
    plan.put(planned(cron("30 * * * * *")))
    assert plan.take(NOON + 60).firings == [(1, NOON + 30)]


def test_a_removed_task_fires_no_more():
    plan = plan_of(planned(cron()), planned(cron(), 2))
    plan.remove(1)
    plan.remove(99)
    assert plan.take(NOON + 60).firings == [(2, NOON + 60)]
    assert (len(plan), plan.get(1)) == (1, None)


def test_a_schedule_that_cannot_be_computed_leaves_nothing_planned():
    plan = plan_of(planned(cron()))
    with pytest.raises(ScheduleError):
        plan.put(planned(cron("61 * * * *")))
    assert (len(plan), plan.take(NOON + 600).firings) == (0, [])


def test_edits_do_not_grow_the_heap_for_ever():
    plan = plan_of(planned(cron()))
    for _ in range(5000):
        plan.put(planned(cron()))
    assert len(plan._heap) < 1100
    assert plan.take(NOON + 60).firings == [(1, NOON + 60)]


# --- missed ----------------------------------------------------------------------------------------------


def test_up_to_the_threshold_a_firing_is_late_but_not_missed():
    plan = plan_of(planned(cron("*/5 * * * * *", misfire_policy="skip")), lookahead=0, misfire_threshold=10)
    batch = plan.take(NOON + 10.9)
    assert batch.firings == [(1, NOON + 5), (1, NOON + 10)]
    assert (batch.late, batch.given_up) == (0, [])


def test_the_threshold_is_exact_to_the_second():
    assert plan_of(planned(cron(misfire_policy="skip"))).take(NOON + 70.9).firings == [(1, NOON + 60)]
    assert plan_of(planned(cron(misfire_policy="skip"))).take(NOON + 71).firings == []


@pytest.mark.parametrize(
    ("policy", "missed", "given_up"),
    [
        ("skip", [], [(1, NOON + 60)]),
        ("fire_once", [180], []),
        ("fire_all", [60, 120, 180], []),
    ],
)
def test_missed_firings_follow_the_policy_and_the_future_goes_on(policy, missed, given_up):
    plan = plan_of(planned(cron(misfire_policy=policy)))
    batch = plan.take(NOON + 200)
    assert batch.firings == [(1, NOON + offset) for offset in missed]
    assert (batch.late, batch.given_up) == (len(missed), given_up)
    assert plan.take(NOON + 239).firings == [(1, NOON + 240)]


def test_fire_all_is_bounded():
    plan = plan_of(planned(cron("* * * * * *", misfire_policy="fire_all")), fire_all_limit=3, lookahead=0)
    batch = plan.take(NOON + 1000)
    assert [time - NOON for _, time in batch.firings] == [987, 988, 989, *range(990, 1001)]
    assert batch.late == 3


def test_missed_beyond_the_grace_time_is_given_up():
    batch = plan_of(planned(cron("0 * * * *", misfire_grace=300))).take(NOON + 3600 + 301)
    assert (batch.firings, batch.given_up) == ([], [(1, NOON + 3600)])


def test_what_could_not_be_sent_is_due_again_and_may_be_missed_by_then():
    plan = plan_of(planned(cron()), planned(cron(misfire_policy="skip"), 2))
    batch = plan.take(NOON + 59)
    plan.put_back([*batch.firings, (99, NOON)])
    assert sorted(plan.take(NOON + 60).firings) == [(1, NOON + 60), (2, NOON + 60)]
    plan.put_back(batch.firings)
    assert sorted(plan.take(NOON + 100).firings) == [(1, NOON + 60)]
    assert sorted(plan.take(NOON + 118).firings) == [(1, NOON + 120), (2, NOON + 120)]


# --- the other kinds -------------------------------------------------------------------------------------


def test_once_is_over_after_its_firing_or_after_it_was_given_up():
    once = Schedule("once", run_at=moment(NOON + 10))
    plan = plan_of(
        planned(once), planned(Schedule("once", run_at=moment(NOON + 10), misfire_policy="skip"), 2)
    )
    early = plan.take(NOON)
    assert (early.firings, early.over) == ([], [])
    batch = plan.take(NOON + 10)
    assert (sorted(batch.firings), sorted(batch.over)) == ([(1, NOON + 10), (2, NOON + 10)], [1, 2])
    plan.put_back(batch.firings)
    late = plan.take(NOON + 60)
    assert (late.firings, sorted(late.over), late.given_up) == ([(1, NOON + 10)], [1, 2], [(2, NOON + 10)])
    assert plan.next_time() is None


def test_fixed_delay_starts_at_once_and_then_waits_for_the_end_of_each_run():
    delay = Schedule("fixed_delay", interval_seconds=30)
    plan = plan_of(planned(delay))
    assert plan.take(NOON).firings == [(1, NOON)]
    assert plan.take(NOON + 1000).firings == []
    plan.put(planned(delay, last=NOON))
    assert plan.take(NOON + 1000).firings == []
    plan.put(planned(delay, last=NOON, due=NOON + 45))
    assert plan.take(NOON + 42).firings == []
    assert plan.take(NOON + 43).firings == [(1, NOON + 45)]
    plan.put(planned(delay, last=NOON + 45, due=NOON + 45))
    assert plan.take(NOON + 1000).firings == []


def test_fixed_delay_is_never_missed_whatever_its_policy():
    delay = Schedule("fixed_delay", interval_seconds=30, misfire_policy="skip", misfire_grace=1)
    assert plan_of(planned(delay, last=NOON, due=NOON + 30)).take(NOON + 5000).firings == [(1, NOON + 30)]


def test_fixed_delay_keeps_to_its_validity_window():
    window = {"start_at": moment(NOON + 0.5), "end_at": moment(NOON + 100)}
    delay = Schedule("fixed_delay", interval_seconds=30, **window)
    plan = plan_of(planned(delay, since=NOON - 50))
    assert plan.next_time() == NOON + 1
    plan.put(planned(delay, last=NOON + 1, due=NOON + 101))
    assert plan.take(NOON + 5000).firings == []


def test_a_reenabled_fixed_delay_does_not_make_up_for_the_time_it_was_off():
    delay = Schedule("fixed_delay", interval_seconds=30)
    assert plan_of(planned(delay, since=NOON, due=NOON - 900)).take(NOON).firings == [(1, NOON)]


# --- any story -------------------------------------------------------------------------------------------

SCHEDULES = [
    cron("* * * * * *"),
    cron("*/7 * * * * *"),
    cron("30 * * * *"),
    cron("*/20 3 12 * * *"),
    Schedule("fixed_rate", interval_seconds=13),
    Schedule("once", run_at=moment(NOON + 77)),
    cron("*/3 * * * * *", start_at=moment(NOON + 20), end_at=moment(NOON + 90)),
]


def nominal_times(schedule: Schedule, after: int, until: float) -> list[int]:
    """Second by second, without asking for more than one step at a time."""
    return [
        second
        for second in range(after + 1, int(until) + 1)
        if schedule.next_after(moment(second - 1)) == moment(second)
    ]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(SCHEDULES), min_size=1, max_size=4),
    st.lists(st.floats(0.05, 9.9), min_size=10, max_size=25),
    st.integers(1, 7),
)
def test_while_ticks_come_in_time_every_firing_comes_exactly_once(schedules, gaps, limit):
    plan = plan_of(*(planned(schedule, task_id) for task_id, schedule in enumerate(schedules)))
    now, taken = float(NOON), []
    for gap in gaps:
        now += gap
        while plan.next_time() is not None and plan.next_time() <= now + plan.lookahead:
            taken += plan.take(now, limit).firings
    expected = [
        (task_id, time)
        for task_id, schedule in enumerate(schedules)
        for time in nominal_times(schedule, NOON, now + plan.lookahead)
    ]
    assert sorted(taken) == sorted(expected)


@settings(deadline=None, max_examples=60)
@given(
    schedule=st.sampled_from(SCHEDULES),
    policy=st.sampled_from(["skip", "fire_once", "fire_all"]),
    down=st.integers(0, 2000).map(lambda tenths: tenths / 10),
    grace=st.integers(0, 250),
)
def test_after_an_outage_each_policy_does_what_it_says(schedule, policy, down, grace):
    schedule = Schedule.from_dict({**schedule.to_dict(), "misfire_policy": policy, "misfire_grace": grace})
    plan = plan_of(planned(schedule), fire_all_limit=5)
    now = NOON + down
    threshold = int(now - plan.misfire_threshold)
    times = nominal_times(schedule, NOON, now + plan.lookahead)
    missed = [time for time in times if time < threshold and time >= now - grace]
    made_up = {"skip": [], "fire_once": missed[-1:], "fire_all": missed[-5:]}[policy]
    batch = plan.take(now)
    assert [time for _, time in batch.firings] == made_up + [time for time in times if time >= threshold]
    assert batch.late == len(made_up)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(["tick", "fail", "edit", "remove"]), st.floats(0.1, 4)), max_size=40)
)
def test_nothing_is_lost_or_double_when_sending_fails_and_tasks_change(story):
    schedule, now, sent, since = cron("*/2 * * * * *"), float(NOON), [], NOON
    plan = plan_of(planned(schedule), misfire_threshold=1000)
    expected: set[int] = set()
    for step, gap in story:
        now += gap
        batch = plan.take(now)
        if step == "fail":
            plan.put_back(batch.firings)
            continue
        sent += [time for _, time in batch.firings]
        expected.update(nominal_times(schedule, since, now + plan.lookahead))
        if step == "edit":
            plan.put(planned(schedule, last=sent[-1] if sent else None))
        if step == "remove":
            plan.remove(1)
            since = max(int(now), since, *sent) if sent else max(int(now), since)
            plan.put(planned(schedule, since=since))
    assert sent == sorted(expected)


def test_a_hundred_thousand_tasks_are_planned_and_taken_quickly():
    schedules = [cron(f"{n % 60} {n % 24} * * *") for n in range(1440)]
    plan = plan_of(*(planned(schedules[n % 1440], n) for n in range(100_000)))
    first = plan.next_time()
    assert first is not None
    assert len(plan.take(first - 2, limit=10**6).firings) >= 100_000 // 1440


def test_time_is_whole_seconds_even_for_a_clock_between_them():
    assert plan_of(planned(cron("* * * * * *")), lookahead=0.5).take(NOON + 1.5).firings == [
        (1, NOON + 1),
        (1, NOON + 2),
    ]
