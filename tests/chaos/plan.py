"""What goes wrong, and when: drawn from a seed, so that a run can be repeated."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

SHORTEST_CUT = 2.0  # seconds
BRIDGE_REST = 15.0  # seconds between two kills of the bridge: its supervisor gives up on what keeps dying
LONGEST_DEATH = 10.0  # seconds that a killed agent is not started again


@dataclass(frozen=True, order=True)
class Blow:
    """One thing that happens."""

    at: float  # seconds after the beginning
    what: Literal["cut", "mend", "kill", "start", "bridge", "disable", "enable"]
    host: int = -1


def blows(seed: int, hosts: int, seconds: float, longest_cut: float) -> list[Blow]:
    """In order. A cut or a death may begin at any time; all are over when the seconds are."""
    dice = random.Random(seed)
    found: list[Blow] = []
    for host in range(hosts):
        found += _cuts(dice, host, seconds, longest_cut)
        found += _deaths(dice, host, seconds)
    at = dice.uniform(0.2, 0.5) * min(seconds, 60)
    while at < seconds - 5:
        found.append(Blow(at, "bridge"))
        at += BRIDGE_REST + dice.expovariate(1 / 60)
    for part in (0.3, 0.7):  # in the midst of it, the first task is taken off schedule for a moment
        found += [Blow(seconds * part, "disable"), Blow(seconds * part + 1, "enable")]
    return sorted(found)


def _cuts(dice: random.Random, host: int, seconds: float, longest: float) -> Iterator[Blow]:
    at = dice.uniform(0, seconds / 2)
    while at < seconds - SHORTEST_CUT:
        # As many of two to four seconds as of two to four minutes.
        lasts = SHORTEST_CUT * (longest / SHORTEST_CUT) ** dice.random()
        yield Blow(at, "cut", host)
        yield Blow(min(at + lasts, seconds), "mend", host)
        at += lasts + dice.expovariate(4 / seconds)


def _deaths(dice: random.Random, host: int, seconds: float) -> Iterator[Blow]:
    at = dice.expovariate(2 / seconds)
    while at < seconds - 1:
        dead = dice.uniform(0, min(LONGEST_DEATH, seconds / 5))
        yield Blow(at, "kill", host)
        yield Blow(min(at + dead, seconds), "start", host)
        at += dead + 2 + dice.expovariate(2 / seconds)
