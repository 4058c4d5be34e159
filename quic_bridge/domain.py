"""The other apps' functions that the bridge needs, in one place, so that everything else here runs without a database.

All methods are synchronous and are called by the writer's thread alone. Any of them raises Unavailable when the
database cannot be reached or is too busy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Min
from quartzflow_agent.protocol import task_pb2

from executions_app import legacy, placement
from executions_app.daily import ingest_daily_stats
from executions_app.events import publisher
from executions_app.ingest import Accepted, IngestOutcome, Progress, Rejected, Report, Result, ingest
from executions_app.locks import PLACEMENT, lock
from executions_app.sweeps import pending_for_bridge
from groups_app import presence
from groups_app.legacy import register_legacy
from groups_app.models import Client
from groups_app.presence import Heartbeat, RegisterInfo, RegisterOutcome
from groups_app.selectors import live_bridges
from quartzflow.lease import scheduler_alive
from tasks_app import configs
from tasks_app.models import ConfigChange

__all__ = [
    "Accepted", "Domain", "Heartbeat", "IngestOutcome", "Progress", "Pulse", "PushPlan", "RegisterInfo",
    "RegisterOutcome", "Rejected", "Report", "Result", "Unavailable",
]  # fmt: skip


class Unavailable(Exception):
    """The database cannot be reached or is too busy; the same call may succeed later."""


@dataclass(frozen=True)
class Pulse:
    """What a bridge asks for every few seconds."""

    config_version: int
    scheduler_alive: bool
    endpoints: Sequence[str]  # HOST:PORT of the other live bridges


@dataclass(frozen=True)
class PushPlan:
    """Who must get what to hold the configuration `version`; whoever is not named holds it already."""

    version: int
    pushes: Sequence[tuple[task_pb2.TaskConfigPush, Sequence[str]]]  # with the client ids that it is for


class Domain:
    """Calls the real thing."""

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn the database's passing troubles into Unavailable, and drop the connection that has them."""
        try:
            yield
        except (OperationalError, InterfaceError) as error:
            connection.close()
            raise Unavailable(str(error)) from error

    def close(self) -> None:
        """End the calling thread's database connection."""
        connection.close()

    # --- Presence ---

    def bridge_started(self, bridge_id: str, endpoint: str) -> None:
        presence.bridge_started(bridge_id, endpoint)

    def bridge_stopped(self, bridge_id: str) -> None:
        presence.bridge_stopped(bridge_id)

    def pulse(self, bridge_id: str, endpoint: str) -> Pulse:
        """Renew the bridge's lease; look at what sessions tell their agents."""
        presence.bridge_alive(bridge_id)
        bridges = live_bridges()
        if all(bridge.bridge_id != bridge_id for bridge in bridges):
            # We could not renew for so long that others counted us as dead. Heartbeats bring our clients back.
            presence.bridge_started(bridge_id, endpoint)
        return Pulse(
            config_version=configs.current_version(),
            scheduler_alive=scheduler_alive(),
            # The workers of one port have one endpoint; the one that agents have reached us by they know.
            endpoints=sorted({bridge.endpoint for bridge in bridges} - {"", endpoint}),
        )

    def register(self, info: RegisterInfo) -> RegisterOutcome:
        """A host that joins anew may come into another group: what it ran in the one before ends with that."""
        with transaction.atomic():
            if info.enrollment_token and Client.objects.filter(client_id=info.client_id).exists():
                lock(PLACEMENT)  # before the host's row, as a move takes them
            outcome = presence.register(info)
            if outcome.moved:
                placement.settle([info.client_id])
        if outcome.accepted:
            publisher.hosts()
        return outcome

    def register_legacy(self, info: RegisterInfo) -> RegisterOutcome:
        outcome = register_legacy(info)
        publisher.hosts()  # one that is refused may be new, and wait for an approval
        return outcome

    def save_heartbeats(self, beats: list[Heartbeat]) -> None:
        presence.save_heartbeats(beats)

    def mark_offline(self, sessions: Iterable[tuple[str, str]], reason: str) -> None:
        if presence.mark_offline(sessions, reason):
            publisher.hosts()

    # --- Configuration ---

    def current_version(self) -> int:
        return configs.current_version()

    def config_delta(self, client_id: str, since: int) -> task_pb2.TaskConfigResponse:
        return configs.config_delta(client_id, since)

    def plan_pushes(self, held: Mapping[str, int]) -> PushPlan:
        """What clients need to come to the current version; `held`: client id → the version it is in step with.

        Clients of one group that hold the same version share a push.
        """
        version = configs.current_version()
        kept_from = ConfigChange.objects.aggregate(oldest=Min("version"))["oldest"] or 0
        changes = list(
            ConfigChange.objects.filter(version__gt=min(held.values(), default=version), version__lte=version)
            .order_by("version")
            .values_list("version", "task_id", "client_id", "group_ids")
        )
        moved = {client_id: at for at, task_id, client_id, _ in changes if task_id is None}
        pushes: list[tuple[task_pb2.TaskConfigPush, Sequence[str]]] = []
        groups: dict[tuple[int | None, int], list[str]] = {}
        clients = Client.objects.filter(client_id__in=held).values_list("client_id", "group_id")
        for client_id, of_group in clients:
            since = held[client_id]
            if moved.get(client_id, 0) > since:
                pushes.append((_as_push(configs.config_delta(client_id, since)), [client_id]))
            else:
                groups.setdefault((of_group, since), []).append(client_id)
        for (group_id, since), client_ids in groups.items():
            # Where the log of changes does not reach back, or is not of our time, everything is sent anew.
            if not kept_from - 1 <= since <= version or any(
                at > since and task_id is not None and (group_ids is None or group_id in group_ids)
                for at, task_id, _, group_ids in changes
            ):
                pushes.append((_as_push(configs.group_delta(group_id, since)), client_ids))
        return PushPlan(version, pushes)

    def push_failed(self, client_ids: Sequence[str], version: int, reason: str) -> None:
        presence.push_failed(client_ids, version, reason)

    def push_applied(self, applied: Sequence[tuple[str, int]]) -> None:
        presence.push_applied(applied)

    # --- Executions ---

    def pending(self, bridge_id: str, created_before: datetime) -> list[tuple[str, task_pb2.TaskExecution]]:
        return pending_for_bridge(bridge_id, created_before)

    def begin_legacy(self, starts: Sequence[tuple[str, str, int]], now: datetime) -> set[str]:
        return legacy.begin(starts, now)

    def ingest(self, reports: Sequence[Report]) -> IngestOutcome:
        return ingest(reports)

    def ingest_daily_stats(self, client_id: str, report: task_pb2.DailyStatsReport) -> list[str]:
        """The ids of tasks whose records are wanted again. Raises ValueError when the report cannot be read."""
        return ingest_daily_stats(client_id, report)


def _as_push(response: task_pb2.TaskConfigResponse) -> task_pb2.TaskConfigPush:
    return task_pb2.TaskConfigPush(
        tasks=response.tasks,
        version=response.version,
        action=response.action,
        deleted_task_ids=response.deleted_task_ids,
    )
