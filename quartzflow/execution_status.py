"""The one place for an execution's status: values, labels, colours, wire codes, sets and allowed moves (FR-4.1)."""

from typing import Self

from django.db import models
from django.utils.translation import gettext_lazy as _
from quartzflow_agent.protocol import task_pb2


class ExecutionStatus(models.IntegerChoices):
    """Database and API codes 1..6 (PRD §5.2); the wire's are 0..5 (PRD §9)."""

    PENDING = 1, _("Pending")
    RUNNING = 2, _("Running")
    SUCCESS = 3, _("Success")
    FAILURE = 4, _("Failed")
    TIMEOUT = 5, _("Timed out")
    CANCELLED = 6, _("Cancelled")

    @property
    def wire(self) -> int:
        return task_pb2.ExecutionStatus.Value(self.name)

    @classmethod
    def from_wire(cls, code: int) -> Self:
        """Raises ValueError for a code the protocol does not have."""
        return cls[task_pb2.ExecutionStatus.Name(code)]

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL

    @property
    def color(self) -> str:
        """The pill's modifier in the style sheet."""
        return COLORS[self]


TERMINAL = frozenset(
    {ExecutionStatus.SUCCESS, ExecutionStatus.FAILURE, ExecutionStatus.TIMEOUT, ExecutionStatus.CANCELLED}
)
LIVE = frozenset({ExecutionStatus.PENDING, ExecutionStatus.RUNNING})
# To a status from these: a status only moves forward.
FROM = {
    ExecutionStatus.RUNNING: frozenset({ExecutionStatus.PENDING}),
    **dict.fromkeys(TERMINAL, LIVE),
}
COLORS = {
    ExecutionStatus.PENDING: "pending",
    ExecutionStatus.RUNNING: "running",
    ExecutionStatus.SUCCESS: "success",
    ExecutionStatus.FAILURE: "failure",
    ExecutionStatus.TIMEOUT: "timeout",
    ExecutionStatus.CANCELLED: "cancelled",
}
