"""The long chaos run: 20 agents, 3,000 executions, cut links, killed agents and bridges.

BENCH_CHAOS_HOSTS (20), BENCH_CHAOS_EXECUTIONS (3000) and BENCH_CHAOS_SEED scale and repeat it: about nine minutes.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import services
from tests.chaos.run import Chaos, run

from .registry import Measurement, benchmark

HOSTS = int(os.environ.get("BENCH_CHAOS_HOSTS", "20"))
EXECUTIONS = int(os.environ.get("BENCH_CHAOS_EXECUTIONS", "3000"))
SEED = int(os.environ.get("BENCH_CHAOS_SEED", "20250109"))
EVERY = 6  # seconds
LONGEST_CUT = 300.0  # seconds


@benchmark
def chaos() -> Iterator[Measurement]:
    """Links are cut for 2 s to 5 minutes, agents and bridges killed; every firing must end once, the same on both."""
    planned = Chaos(HOSTS, EXECUTIONS, SEED, LONGEST_CUT, EVERY)
    with tempfile.TemporaryDirectory(prefix="quartzflow-chaos-") as name:
        directory = Path(name)
        with services.running_stack(directory, QF_LOCAL_AGENT="0") as stack:
            outcome = run(planned, stack, directory)
    sys.stdout.write(f"{outcome.text()}\n")
    total = outcome.verdict.counts["executions on the server"]
    equal = total - len(outcome.verdict.wrong)
    against = f"every one has one final record, its agent's own ({HOSTS} agents)"
    yield Measurement("chaos_equal", equal, "executions", "higher", total, against)
    yield Measurement(
        "chaos_settled", round(outcome.settled, 1), "s", "lower", 120, "2 minutes after the last blow"
    )
