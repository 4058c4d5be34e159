"""What became of firings that passed while the agent was not running."""

import pytest
from quartzflow_agent.held import ALIVE_UNTIL
from quartzflow_agent.store.database import set_meta

from tests.agent.engine_rig import Rig
from tests.agent.support import START, instruction, task_config, until


@pytest.mark.parametrize(
    ("policy", "runs", "dropped"),
    [("skip", [], [1, 2, 3]), ("fire_once", [3], [1, 2]), ("fire_all", [1, 2, 3], []), ("", [3], [1, 2])],
)
async def test_a_firing_that_passed_while_the_agent_was_away_follows_its_policy(
    home, store, policy, runs, dropped
):
    former = Rig(home, store)
    if policy:
        await former.configure(task_config(misfire_policy=policy, concurrency=9))
    await former.accept(
        *(
            instruction(n, scheduled_time=START + n * 60_000, expires_at=START + 3_600_000, concurrency=9)
            for n in (1, 2, 3)
        ),
        instruction(4, scheduled_time=START + 60_000, trigger="manual", task_id="4"),
        instruction(5, scheduled_time=START + 590_000, task_id="5"),  # only late
    )
    await store.call(lambda db: set_meta(db, ALIVE_UNTIL, str(START + 1000)))
    await former.close()

    rig = Rig(home, store)
    rig.clock.seconds += 600
    await rig.engine.recover()
    await rig.running(*[f"exec_{n}" for n in [*runs, 4, 5]])
    await rig.ended(len(dropped))
    assert sorted(rig.reports.ends()) == [(f"exec_{n}", "FAILURE", "expired") for n in dropped]
    assert all("was not running then" in result.error for result in rig.reports.results)
    for name in rig.executor.running:
        rig.executor.end(name)
    await rig.ended(5)
    await rig.close()


async def test_what_waited_for_the_one_before_is_not_missed(home, store):
    former = Rig(home, store)
    await former.configure(task_config(misfire_policy="skip"))
    await former.accept(instruction(1), instruction(2))
    await former.running("exec_1")
    former.executor.end("exec_1")
    await store.call(lambda db: set_meta(db, ALIVE_UNTIL, str(START + 300_000)))
    former.engine.stopping = True  # what waits then waits for the next life
    await former.ended(1)
    await former.close()

    rig = Rig(home, store)
    rig.clock.seconds += 600
    await rig.engine.recover()
    await rig.running("exec_2")
    await rig.close()


async def test_what_was_missed_by_more_than_its_grace_is_not_run(home, store):
    former = Rig(home, store)
    await former.configure(task_config(misfire_policy="fire_all"))
    await former.accept(instruction(1, scheduled_time=START + 60_000, expires_at=START + 120_000))
    await former.close()
    rig = Rig(home, store)
    rig.clock.seconds += 600
    await rig.engine.recover()
    await until(lambda: rig.reports.results)
    assert rig.reports.ends() == [("exec_1", "FAILURE", "expired")]
    await rig.close()
