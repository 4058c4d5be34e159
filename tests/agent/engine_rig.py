"""An engine with a scripted executor, on a clock that the test moves."""

import asyncio

from quartzflow_agent.engine import Engine
from quartzflow_agent.executors import ProcessRunner, executors
from quartzflow_agent.protocol import task_pb2
from quartzflow_agent.store import executions, tasks

from tests.agent.support import (
    FakeClock,
    RecordedChanges,
    RecordedReports,
    ScriptedExecutor,
    settle,
    until,
)

PENDING, CANCELLED = "PENDING", "CANCELLED"


class Rig:
    """An engine with a scripted executor for Shell tasks."""

    def __init__(self, home, store, real=False, most=0):
        self.clock = FakeClock()
        self.reports = RecordedReports()
        self.changes = RecordedChanges()
        self.executor = ScriptedExecutor()
        self.store = store
        processes = ProcessRunner(home.root)
        self.engine = Engine(
            store=store,
            clock=self.clock,
            reports=self.reports,
            listener=self.changes,
            executors=executors(processes) if real else {task_pb2.SHELL: self.executor},
            processes=processes,
            home=home,
            log_limit=100_000,
            most=most,
        )
        self.timeline = asyncio.ensure_future(self.engine.timeline.run())

    async def accept(self, *orders, **options):
        found = await self.engine.accept(list(orders), **options)
        await settle()
        return found

    async def record(self, name="exec_1"):
        return await self.store.call(lambda db: executions.get(db, name))

    async def configure(self, *configs, deleted=(), version=9):
        message = task_pb2.TaskConfigPush(
            tasks=configs, version=version, action=task_pb2.UPDATE, deleted_task_ids=deleted
        )
        changes = await self.store.call(lambda db: tasks.apply(db, message, self.clock.server_ms()))
        await self.engine.config_changed(changes)
        await settle()

    async def ended(self, count):
        await until(lambda: len(self.reports.results) >= count, f"for {count} results")
        return self.reports.ends()

    async def running(self, *names):
        await until(lambda: self.executor.running == sorted(names), f"for {names}")

    async def close(self):
        await self.engine.stop(0)
        self.timeline.cancel()
