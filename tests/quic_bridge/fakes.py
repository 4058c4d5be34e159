"""An in-memory domain, complete for what the bridge calls."""

import threading
from contextlib import contextmanager

from quartzflow_agent.protocol import task_pb2

from quic_bridge.domain import IngestOutcome, Pulse, PushPlan, RegisterOutcome, Result, Unavailable


class FakeDomain:
    """Lets in everybody whose credential is "good:<client id>"; remembers all it is told.

    `broken` makes every call raise Unavailable while it is set.
    """

    def __init__(self):
        self.broken = threading.Event()
        self.refused = 0  # calls made while it was broken
        self.version = 1
        self.tasks = []
        self.concerned = None  # client ids that a change concerns; None: all
        self.registered = []
        self.beats = []
        self.offline = []
        self.failed_pushes = []
        self.applied = []
        self.batches = []
        self.known = set()  # execution ids that `ingest` accepts; empty: all
        self.poison = None  # an execution id that makes `ingest` raise
        self.waiting = []
        self.stats = []
        self.wanted = []  # task ids of which records are wanted, for each of the next reports of statistics
        self.life = []
        self.others = ["other.example:8474"]
        self.unapproved = set()  # ids of quic-flow clients that await approval
        self.begun = []
        self.cancelled = set()  # execution ids that may not be started any more
        self.closed = False

    @contextmanager
    def guard(self):
        if self.broken.is_set():
            self.refused += 1
            raise Unavailable("broken")
        yield

    def close(self):
        self.closed = True

    def bridge_started(self, bridge_id, endpoint):
        self.life.append(("started", bridge_id, endpoint))

    def bridge_stopped(self, bridge_id):
        self.life.append(("stopped", bridge_id))

    def pulse(self, bridge_id, endpoint):
        return Pulse(self.version, scheduler_alive=True, endpoints=self.others)

    def register(self, info):
        self.registered.append(info)
        if info.credential != f"good:{info.client_id}":
            return RegisterOutcome(False, code="bad_credential", message="wrong credential")
        return RegisterOutcome(True, client_id=info.client_id, group="default")

    def register_legacy(self, info):
        self.registered.append(info)
        if info.client_id.startswith("bad"):
            return RegisterOutcome(False, code="in_use", message="connected from another address")
        approved = info.client_id not in self.unapproved
        return RegisterOutcome(True, client_id=info.client_id, approved=approved)

    def begin_legacy(self, starts, now):
        self.begun += starts
        return {name for _, name, _ in starts if name not in self.cancelled}

    def save_heartbeats(self, beats):
        self.beats += beats

    def mark_offline(self, sessions, reason):
        self.offline += [(client_id, session_id, reason) for client_id, session_id in sessions]

    def current_version(self):
        return self.version

    def config_delta(self, client_id, since):
        action = task_pb2.UPDATE if since else task_pb2.FULL_SYNC
        return task_pb2.TaskConfigResponse(version=self.version, action=action, tasks=self.tasks)

    def plan_pushes(self, held):
        push = task_pb2.TaskConfigPush(version=self.version, action=task_pb2.UPDATE, tasks=self.tasks)
        concerned = [name for name in held if self.concerned is None or name in self.concerned]
        return PushPlan(self.version, [(push, concerned)] if concerned else [])

    def push_failed(self, client_ids, version, reason):
        self.failed_pushes.append((list(client_ids), version, reason))

    def push_applied(self, applied):
        self.applied += applied

    def pending(self, bridge_id, created_before):
        return list(self.waiting)

    def ingest(self, reports):
        if any(report.execution_id == self.poison for report in reports):
            raise ValueError("poison")
        self.batches.append(list(reports))
        outcome = IngestOutcome()
        for report in reports:
            if self.known and report.execution_id not in self.known:
                outcome.refused[report.execution_id] = "unknown execution"
            elif isinstance(report, Result):
                outcome.committed.add(report.execution_id)
        return outcome

    def ingest_daily_stats(self, client_id, report):
        if not report.date:
            raise ValueError("no date")
        self.stats.append((client_id, report))
        return self.wanted.pop(0) if self.wanted else []

    @property
    def reports(self):
        return [report for batch in self.batches for report in batch]
