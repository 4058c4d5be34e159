"""What a benchmark is, and the list of them."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Measurement:
    """One figure. The yardstick is the figure to compare it with, in the same unit; `against` says what that is."""

    name: str
    value: float
    unit: str
    better: Literal["lower", "higher"]
    yardstick: float
    against: str

    @property
    def ratio(self) -> float:
        """How many times the yardstick."""
        return self.value / self.yardstick


Benchmark = Callable[[], Iterable[Measurement]]
BENCHMARKS: dict[str, Benchmark] = {}
ENDING = ExitStack()  # what several benchmarks share is ended after the last of them


def benchmark(function: Benchmark) -> Benchmark:
    """Register a function under its name; its docstring's first line is what `make bench` shows of it."""
    if function.__name__ in BENCHMARKS:
        raise ValueError(f"there are two benchmarks {function.__name__}")
    BENCHMARKS[function.__name__] = function
    return function


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed. Raises ValueError without values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(int(rank) - 1, 0)]
