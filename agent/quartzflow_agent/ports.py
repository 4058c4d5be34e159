"""Whom the engine talks to."""

from __future__ import annotations

from typing import Protocol

from quartzflow_agent.protocol import task_pb2


class Reports(Protocol):
    """Where the engine's news go."""

    def progress(self, progress: task_pb2.TaskProgress) -> None:
        """It runs, or has written something."""
        ...

    def result(self, result: task_pb2.TaskResult) -> bool:
        """It is over, and stored. Returns whether the result is on its way."""
        ...

    def resend(self) -> None:
        """The server asked for something it should have had."""
        ...

    @property
    def ready(self) -> bool:
        """Whether there is a server to tell."""
        ...


class Listener(Protocol):
    """Who else wants to know what happens here."""

    def started(self, day: str) -> None:
        """A record of this day has changed."""
        ...

    def ended(self, result: task_pb2.TaskResult, day: str) -> None:
        """An attempt is over."""
        ...
