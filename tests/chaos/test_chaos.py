"""A short run; `make bench ONLY=chaos` is the long one."""

from pathlib import Path

import pytest

from tests import services

from . import run
from .plan import blows
from .run import Chaos


@pytest.mark.timeout(180)
def test_every_firing_has_one_final_record_that_is_its_agents_own(tmp_path: Path) -> None:
    chaos = Chaos(hosts=4, executions=100, seed=20250109, longest_cut=6.0, every=1, settle=90)
    with services.running_stack(tmp_path, QF_LOCAL_AGENT="0") as stack:
        outcome = run.run(chaos, stack, tmp_path)
    assert outcome.verdict.wrong == [], outcome.text()
    counts = outcome.verdict.counts
    assert counts["equal on both sides"] > 60, outcome.text()
    assert outcome.lost_datagrams > 0
    assert min(outcome.blows[what] for what in ("cut", "kill", "bridge")) > 0, outcome.blows


def test_blows_are_those_of_their_seed_and_end_in_time() -> None:
    planned = blows(7, 20, 600, 300)
    assert planned == blows(7, 20, 600, 300) != blows(8, 20, 600, 300)
    for begin, end in (("cut", "mend"), ("kill", "start")):
        for host in range(20):
            mine = [blow.what for blow in planned if blow.host == host and blow.what in (begin, end)]
            assert mine == [begin, end] * (len(mine) // 2)
    assert max(blow.at for blow in planned) <= 600
    cuts = [blow for blow in planned if blow.what == "cut"]
    assert len(cuts) > 40
