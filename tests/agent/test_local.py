"""Firing by the agent itself."""

import asyncio

import pytest
from quartzflow_agent.local import SERVED_UNTIL, LocalScheduler
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import executions, tasks
from quartzflow_agent.store.database import StoreError, set_meta
from quartzflow_agent.store.records import SUCCESS, Ending

from tests.agent.support import START, FakeClock, instruction, settle, task_config, until


class RecordedEngine:
    """Takes instructions; `busy` are the tasks that run or wait."""

    def __init__(self):
        self.taken = []
        self.busy = set()

    async def accept(self, orders, *, local):
        assert local
        self.taken += orders
        return [""] * len(orders)

    def holds_task(self, task_id):
        return task_id in self.busy

    @property
    def times(self):
        """Seconds after START."""
        return [(order.scheduled_time - START) // 1000 for order in self.taken]


class Rig:
    def __init__(self, store):
        self.store = store
        self.clock = FakeClock()
        self.engine = RecordedEngine()
        self.local = LocalScheduler(store=store, clock=self.clock, engine=self.engine, client_id="c1")
        self.work = asyncio.ensure_future(self.local.run())

    async def configure(self, *configs, at=0, served=None):
        """Give it these tasks, `at` seconds after START; the server was last seen at `served`."""
        message = task_pb2.TaskConfigPush(tasks=configs, version=1, action=task_pb2.FULL_SYNC)
        await self.store.call(lambda db: tasks.apply(db, message, START + at * 1000))
        if served is not None:
            await self.store.call(lambda db: set_meta(db, SERVED_UNTIL, str(START + served * 1000)))
        self.local.tasks_changed()
        await settle()

    async def alone(self):
        self.local.set_active(True, "test")
        await settle()


@pytest.fixture
async def rig(store):
    made = Rig(store)
    yield made
    made.work.cancel()
    await asyncio.wait([made.work])


async def test_does_nothing_while_the_server_fires(rig):
    await rig.configure(task_config())
    await rig.clock.advance(120, step=10)
    assert rig.engine.taken == []


async def test_fires_as_the_server_would_have(rig):
    await rig.configure(task_config("7", name="备份", retry_count=2, config={"command": "x"}), served=0)
    await rig.alone()
    await rig.clock.advance(130, step=10)
    assert rig.engine.times == [60, 120]
    order = rig.engine.taken[0]
    assert order.execution_id == "exec_20250109_020100_7_c1"
    assert order.run_id == "run_20250109_020100_7"
    assert (order.task_id, order.task_name, order.timeout, order.task_version) == ("7", "备份", 60, 5)
    assert (order.trigger, order.attempt, dict(order.executor_config)) == ("schedule", 0, {"command": "x"})
    assert order.expires_at == START + 60_000 + 3_600_000


async def test_ends_when_the_server_is_back(rig):
    await rig.configure(task_config(), served=0)
    await rig.alone()
    await rig.clock.advance(60, step=10)
    rig.local.set_active(False, "test")
    await rig.clock.advance(120, step=10)
    assert rig.engine.times == [60]


async def test_fires_what_the_server_gave_out_just_before_it_was_back(rig):
    """What is due within the server's lookahead was not meant for a host that had no connection then."""
    await rig.configure(task_config(cron_expr="* * * * * *"), at=-1000, served=0)
    await rig.alone()
    await rig.clock.advance(4, step=1)
    rig.local.set_active(False, "test")
    rig.local.tasks_changed()  # as a pulled configuration does
    await settle()
    await rig.clock.advance(10, step=1)
    assert rig.engine.times[-5:] == [3, 4, 5, 6, 7]
    rig.engine.taken.clear()
    await rig.alone()
    await rig.clock.advance(2, step=1)
    assert rig.engine.times[-2:] == [15, 16]


async def test_leaves_out_what_it_may_not_fire(rig):
    await rig.configure(
        task_config("1", enabled=False),
        task_config("2", local_firing=False),
        task_config("3", schedule_type="none"),
        task_config("4", end_at=START + 30_000),
        task_config("5", cron_expr="this is no cron expression"),
        task_config("6", start_at=START + 90_000),
    )
    await rig.alone()
    await rig.clock.advance(130, step=10)
    assert [order.task_id for order in rig.engine.taken] == ["6"]


async def test_catches_up_with_what_nobody_fired_while_it_had_not_noticed(rig):
    await rig.configure(task_config(cron_expr="*/5 * * * * *"), at=-1000, served=0)
    rig.clock.seconds += 18
    await rig.alone()
    # From a lease before the server's last word on; what it did fire has the same name and runs once.
    assert rig.engine.times == [-5, 0, 5, 10, 15]


@pytest.mark.parametrize(
    ("policy", "times"), [("fire_once", [580]), ("skip", []), ("fire_all", list(range(-10, 590, 10)))]
)
async def test_makes_up_for_what_was_missed_as_the_task_wants(rig, policy, times):
    every_ten = task_config(cron_expr="*/10 * * * * *", misfire_policy=policy)
    await rig.configure(every_ten, at=-1000, served=0)
    rig.clock.seconds += 605
    await rig.alone()
    assert rig.engine.times == [*times, 590, 600]


@pytest.mark.parametrize(
    ("policy", "times"), [("fire_once", [600]), ("skip", []), ("fire_all", list(range(30, 610, 10)))]
)
async def test_what_passed_while_the_machine_was_suspended_was_missed(rig, policy, times):
    every_ten = task_config(cron_expr="*/10 * * * * *", misfire_policy=policy)
    await rig.configure(every_ten, at=-1000, served=0)
    await rig.alone()
    await rig.clock.advance(20, step=5)
    assert rig.engine.times[-2:] == [10, 20]
    await rig.store.call(lambda db: tasks.set_fired(db, "1", START + 20_000))
    rig.engine.taken.clear()
    await rig.clock.advance(601, step=601)
    await settle()
    assert rig.engine.times == [*times, 610, 620]
    await rig.clock.advance(10, step=1)
    assert rig.engine.times[-1] == 630


async def test_a_clock_that_was_set_back_does_not_silence_it(rig):
    await rig.configure(task_config(cron_expr="*/10 * * * * *"), at=-1000, served=0)
    await rig.alone()
    await rig.clock.advance(20, step=5)
    rig.engine.taken.clear()
    rig.clock.correction = -3_600_000
    await rig.clock.advance(60, step=5)
    await settle()
    assert rig.engine.times[-3:] == [-3540, -3530, -3520]


async def test_a_store_that_cannot_be_read_for_a_while_does_not_silence_it(rig, monkeypatch):
    await rig.configure(task_config(), served=0)

    async def broken(operation):
        raise StoreError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "call", broken)
        await rig.alone()
    await rig.clock.advance(130, step=10)
    assert rig.engine.times == [60, 120]


async def test_what_was_missed_by_more_than_its_grace_is_given_up(rig):
    await rig.configure(task_config(cron_expr="0 * * * *", misfire_grace=600), at=-90000, served=-80000)
    rig.clock.seconds += 1800
    await rig.alone()
    assert rig.engine.taken == []


async def test_does_not_fire_what_was_before_its_time_here(rig):
    """Neither before the task was given to this host, nor before the server counted this host in."""
    await rig.configure(task_config(cron_expr="*/5 * * * * *"), at=7, served=0)
    rig.clock.seconds += 16
    await rig.alone()
    assert rig.engine.times == [10, 15]
    rig.local.set_active(False, "test")
    await settle()
    rig.engine.taken.clear()
    rig.clock.seconds += 10
    rig.local.registered()
    rig.clock.seconds += 8
    await rig.alone()
    assert rig.engine.times == [30]


@pytest.mark.parametrize("policy", ["fire_once", "fire_all"])
async def test_what_was_before_the_schedule_began_is_not_made_up_for(rig, policy):
    """Enabled or edited while the server's scheduler was dead, and known here for long."""
    config = task_config(
        cron_expr="*/10 * * * * *", misfire_policy=policy, schedule_since=START + 571_000, calendar_mode=""
    )
    await rig.configure(config, at=-1000, served=0)
    rig.clock.seconds += 605
    await rig.alone()
    assert rig.engine.times == [580, 590, 600]


async def test_an_edit_at_the_moment_of_a_firing_does_not_lose_it(rig):
    await rig.configure(task_config(schedule_since=START - 60_000), at=-1000, served=20)
    await rig.alone()
    await rig.clock.advance(59.5, step=59.5)
    rig.clock.seconds += 0.7  # the minute has come, nobody has looked yet
    await rig.configure(task_config(schedule_since=START - 60_000, name="renamed", version=6), at=60)
    await rig.clock.advance(0.1)
    assert rig.engine.times == [60]
    assert rig.engine.taken[0].task_name == "renamed"


async def test_does_not_fire_again_what_it_knows(rig):
    await rig.configure(task_config(cron_expr="*/5 * * * * *"), at=-1000, served=0)
    await rig.store.call(lambda db: tasks.set_fired(db, "1", START + 5000))
    rig.clock.seconds += 11
    await rig.alone()
    assert rig.engine.times == [10]


async def test_fires_at_a_fixed_rate_and_once(rig):
    await rig.configure(
        task_config("1", schedule_type="fixed_rate", interval_seconds=7, anchor_at=START),
        task_config("2", schedule_type="once", run_at=START + 20_000),
        served=0,
    )
    await rig.alone()
    await rig.clock.advance(30)
    assert rig.engine.times == [7, 14, 20, 21, 28]


async def test_a_fixed_delay_counts_from_the_end_of_the_last_run(rig):
    await rig.configure(task_config(schedule_type="fixed_delay", interval_seconds=10), served=0)
    await rig.alone()
    await rig.clock.advance(10)
    assert rig.engine.times == [10]
    rig.engine.busy = {"1"}
    await rig.clock.advance(33)
    rig.local.ended("1", rig.clock.server_ms())  # another execution of it still runs
    rig.engine.busy = set()
    rig.local.ended("1", rig.clock.server_ms())
    await rig.clock.advance(9)
    assert rig.engine.times == [10]
    await rig.clock.advance(1)
    assert rig.engine.times == [10, 53]


async def test_a_fixed_delay_waits_for_what_runs_when_the_server_goes(rig):
    await rig.configure(task_config(schedule_type="fixed_delay", interval_seconds=10), served=0)
    rig.engine.busy = {"1"}
    await rig.alone()
    await rig.clock.advance(20)
    assert rig.engine.taken == []
    rig.engine.busy = set()
    rig.local.ended("1", rig.clock.server_ms())
    await rig.clock.advance(10)
    assert rig.engine.times == [30]


async def test_a_fixed_delay_goes_on_where_the_server_left_it(rig):
    await rig.configure(task_config(schedule_type="fixed_delay", interval_seconds=30), at=-1000, served=0)

    def ran(db):
        executions.add(db, instruction())
        executions.start(db, "exec_1", START, "")
        executions.finish(db, "exec_1", Ending(SUCCESS, START + 5000))

    await rig.store.call(ran)
    rig.clock.seconds += 10
    await rig.alone()
    await rig.clock.advance(25)
    assert rig.engine.times == [35]


async def test_a_spread_is_the_same_each_time_and_within_its_bounds(rig):
    await rig.configure(task_config(spread_seconds=300, misfire_grace=60), served=0)
    await rig.alone()
    await rig.clock.advance(120, step=10)
    delays = {order.delay_ms for order in rig.engine.taken}
    assert len(delays) == 1
    (delay,) = delays
    assert 0 < delay < 300_000
    # It has its whole grace from the moment at which it is to begin here.
    assert [o.expires_at - o.scheduled_time - delay for o in rig.engine.taken] == [60_000, 60_000]


async def test_what_is_made_up_for_has_its_grace_from_now_on(rig):
    await rig.configure(task_config(cron_expr="0 * * * *", misfire_grace=3600), at=-90000, served=-5000)
    rig.clock.seconds += 3500
    await rig.alone()
    assert [(o.scheduled_time - START, o.expires_at - START) for o in rig.engine.taken] == [(0, 7_100_000)]


async def test_an_overdue_delay_begins_now(rig):
    await rig.configure(task_config(schedule_type="fixed_delay", interval_seconds=30), at=-9000, served=-9000)
    rig.clock.seconds += 7200
    await rig.alone()
    await rig.clock.advance(1)
    assert rig.engine.times == [7200]
    assert rig.engine.taken[0].expires_at > rig.clock.server_ms()


async def test_a_new_configuration_counts_at_once(rig):
    await rig.configure(task_config(), served=0)
    await rig.alone()
    message = task_pb2.TaskConfigPush(
        tasks=[task_config("2", cron_expr="*/10 * * * * *")], version=2, deleted_task_ids=["1"]
    )
    await rig.store.call(lambda db: tasks.apply(db, message, rig.clock.server_ms()))
    rig.local.tasks_changed()
    await settle()
    await rig.clock.advance(60, step=10)
    await until(lambda: len(rig.engine.taken) == 6)
    assert {order.task_id for order in rig.engine.taken} == {"2"}
