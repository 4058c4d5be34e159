"""Runs: all executions of one firing, how they stand together, and the runs before and after (one chain)."""

from datetime import datetime
from typing import Any, TypedDict

from django.db.models import Count, Max, Min, Q

from quartzflow.errors import NotFound
from quartzflow.execution_status import ExecutionStatus
from quartzflow.permissions import User

from .endings import outcome, outcomes
from .models import DependencyEvent
from .selectors import executions_for

LONGEST_CHAIN = 200  # runs that are shown


class RunNode(TypedDict):
    """One run in a chain."""

    run_id: str
    task_id: int
    task_name: str
    status: int
    status_name: str


class RunEdge(TypedDict):
    """`child` ran because `parent` had ended."""

    parent: str
    child: str


class RunView(TypedDict):
    """A run as pages and API show it. Times are aware; counts are by the name of a status."""

    run_id: str
    task_id: int
    task_name: str
    execution_type: int
    triggered_by: str
    scheduled_time: datetime
    params: dict[str, str]
    status: int
    status_name: str
    counts: dict[str, int]
    total: int
    held: int  # not sent to their hosts yet
    shard_total: int | None
    start_time: datetime | None
    end_time: datetime | None
    chain: list[RunNode]
    edges: list[RunEdge]


def run_view(user: User, run_id: str) -> RunView:
    """Raises NotFound when there is no such run, or none that the user may see."""
    rows = executions_for(user).filter(run_id=run_id)
    first = rows.order_by("id").first()
    if first is None:
        raise NotFound
    counts = dict(rows.order_by().values_list("status").annotate(count=Count("id")))
    facts: dict[str, Any] = rows.order_by().aggregate(
        held=Count("id", filter=~Q(hold="") & Q(status=ExecutionStatus.PENDING)),
        started=Min("start_time"),
        ended=Max("end_time"),
    )
    status = outcome(set(counts))
    chain, edges = _chain(user, run_id)
    return RunView(
        run_id=run_id,
        task_id=first.task_id,
        task_name=first.task_name,
        execution_type=first.execution_type,
        triggered_by=first.triggered_by,
        scheduled_time=first.scheduled_time,
        params=first.params,
        status=status,
        status_name=status.name,
        counts={ExecutionStatus(code).name: count for code, count in sorted(counts.items())},
        total=sum(counts.values()),
        held=facts["held"],
        shard_total=first.shard_total,
        start_time=facts["started"],
        end_time=None if status == ExecutionStatus.RUNNING else facts["ended"],
        chain=chain,
        edges=edges,
    )


def _chain(user: User, run_id: str) -> tuple[list[RunNode], list[RunEdge]]:
    """The runs that led to this one and that it led to, as far as the user may see them."""
    found, fresh = {run_id}, {run_id}
    edges: set[tuple[str, str]] = set()
    while fresh and len(found) < LONGEST_CHAIN:
        links = DependencyEvent.objects.filter(Q(run_id__in=fresh) | Q(child_run__in=fresh)).exclude(
            child_run=""
        )
        pairs = set(links.values_list("run_id", "child_run")[:LONGEST_CHAIN])
        edges |= pairs
        fresh = {run for pair in pairs for run in pair} - found
        found |= fresh
    tasks = {
        run: (task_id, name)
        for run, task_id, name in executions_for(user)
        .filter(run_id__in=found)
        .order_by()
        .values_list("run_id", "task_id", "task_name")
        .distinct()
    }
    ends = outcomes(tasks)
    nodes = [
        RunNode(run_id=run, task_id=pk, task_name=name, status=ends[run], status_name=ends[run].name)
        for run, (pk, name) in sorted(tasks.items())
    ]
    return nodes, [RunEdge(parent=p, child=c) for p, c in sorted(edges) if p in tasks and c in tasks]
