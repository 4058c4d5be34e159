"""Things that tests of the agent use again and again."""

import asyncio
import time
from collections.abc import Callable

from quartzflow_agent.executors import Outcome
from quartzflow_agent.protocol import task_pb2

START = 1_736_388_000_000  # ms; 2025-01-09T02:00:00Z
PATIENCE = 30.0  # seconds that a test waits for anything


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for the condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain {what}"
        await asyncio.sleep(0.005)


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0.002)


class FakeClock:
    """Stands still until it is told to go on."""

    def __init__(self, start: int = START) -> None:
        self.seconds = start / 1000
        self.correction = 0  # ms; of the server's time, as it is known
        self._moved = asyncio.Event()

    def server_ms(self) -> int:
        return round(self.seconds * 1000) + self.correction

    def monotonic(self) -> float:
        return self.seconds

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        deadline = None if seconds is None else self.seconds + seconds
        while not event.is_set() and (deadline is None or self.seconds < deadline - 1e-6):
            moved = asyncio.ensure_future(self._moved.wait())
            wanted = asyncio.ensure_future(event.wait())
            await asyncio.wait([moved, wanted], return_when=asyncio.FIRST_COMPLETED)
            for future in (moved, wanted):
                future.cancel()
        return event.is_set()

    async def advance(self, seconds: float, step: float = 1.0) -> None:
        """Go on, a step at a time, letting everybody see each."""
        left = seconds
        while left > 1e-9:
            self.seconds += min(step, left)
            left -= step
            self._moved.set()
            self._moved = asyncio.Event()
            await settle()


def instruction(number: int = 1, **fields: object) -> task_pb2.TaskExecution:
    """Run task 1 now."""
    values: dict = {
        "task_id": "1",
        "task_name": "日志清理",
        "execution_id": f"exec_{number}",
        "executor_type": task_pb2.SHELL,
        "timeout": 60,
        "scheduled_time": START,
        "concurrency": 1,
        "concurrency_policy": "queue",
        "task_version": 5,
        "trigger": "schedule",
    }
    config = fields.pop("config", {"command": "true"})
    message = task_pb2.TaskExecution(**{**values, **fields})  # type: ignore[arg-type]
    message.executor_config.update(config)  # type: ignore[arg-type]
    return message


def task_config(task_id: str = "1", **fields: object) -> task_pb2.TaskConfig:
    """A task that fires each minute."""
    values: dict = {
        "id": task_id,
        "name": f"task {task_id}",
        "cron_expr": "* * * * *",
        "schedule_type": "cron",
        "timezone": "UTC",
        "timeout": 60,
        "enabled": True,
        "version": 5,
        "misfire_policy": "fire_once",
        "misfire_grace": 3600,
        "concurrency": 1,
        "concurrency_policy": "queue",
        "local_firing": True,
    }
    config = fields.pop("config", {"command": "true"})
    message = task_pb2.TaskConfig(**{**values, **fields})  # type: ignore[arg-type]
    message.executor_config.update(config)  # type: ignore[arg-type]
    return message


class ScriptedExecutor:
    """Runs until the test says how it ended, or until it is told to stop."""

    def __init__(self) -> None:
        self.jobs: dict = {}
        self.ends: dict = {}

    async def run(self, job) -> Outcome:
        name = job.instruction.execution_id
        self.jobs[name] = job
        end = self.ends[name] = asyncio.get_running_loop().create_future()
        if await job.stop.or_done(end):
            end.cancel()
            return Outcome(exit_code=143, stopped=True)
        return end.result()

    def end(self, name: str, exit_code: int = 0) -> None:
        self.ends.pop(name).set_result(Outcome(exit_code=exit_code))

    @property
    def running(self) -> list[str]:
        return sorted(name for name, end in self.ends.items() if not end.done())


class RecordedReports:
    """A server that hears everything, or nothing (`ready`)."""

    def __init__(self) -> None:
        self.ready = True
        self.progresses: list[task_pb2.TaskProgress] = []
        self.results: list[task_pb2.TaskResult] = []
        self.resent = 0

    def progress(self, progress: task_pb2.TaskProgress) -> None:
        self.progresses.append(progress)

    def result(self, result: task_pb2.TaskResult) -> bool:
        self.results.append(result)
        return self.ready

    def resend(self) -> None:
        self.resent += 1

    def ends(self) -> list[tuple[str, str, str]]:
        """(execution, status, reason) in the order of the ends."""
        return [
            (r.execution_id, task_pb2.ExecutionStatus.Name(r.status), r.failure_reason) for r in self.results
        ]


class RecordedChanges:
    """What the engine tells its listener."""

    def __init__(self) -> None:
        self.days: list[str] = []
        self.ended_tasks: list[str] = []

    def started(self, day: str) -> None:
        self.days.append(day)

    def ended(self, result: task_pb2.TaskResult, day: str) -> None:
        self.ended_tasks.append(result.task_id)
