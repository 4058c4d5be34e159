"""Fixtures of the scheduler's tests."""

from collections.abc import Iterator

import pytest
import time_machine

from tests.tasks_app.scheduler_world import NOON, World


@pytest.fixture
def world() -> Iterator[World]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield World(traveller)
