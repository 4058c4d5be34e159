"""How long to wait before trying again."""

from __future__ import annotations

import random
from typing import Callable


class Backoff:
    """Exponential, with full jitter: a random part of 1 s, 2 s, 4 s … 60 s."""

    def __init__(
        self,
        first: float = 1.0,
        longest: float = 60.0,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first = first
        self._longest = longest
        self._draw = draw
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        ceiling = min(self._longest, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return self._draw(0.0, ceiling)

    def longest(self) -> float:
        """Seconds to wait when only a person can help: between half of the longest and the longest."""
        return self._draw(self._longest / 2, self._longest)

    def reset(self) -> None:
        """It worked."""
        self._failures = 0
