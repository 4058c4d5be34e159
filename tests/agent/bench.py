"""A bench on which shell commands run, by the real executor."""

from quartzflow_agent.executors import Job, Output, ProcessRunner
from quartzflow_agent.executors.shell import ShellExecutor

from tests.agent.support import instruction


class Bench:
    """Runs commands."""

    def __init__(self, path):
        self.path = path
        self.runner = ProcessRunner(path)
        self.pids = []
        self.jobs = []

    @property
    def job(self):
        return self.jobs[-1]

    async def _on_process(self, pid):
        self.pids.append(pid)

    def prepare(self, command, *, params=None, number=1, **config):
        order = instruction(number, config={"command": command, **config}, params=params or {})
        scripts = self.path / "run"
        scripts.mkdir(exist_ok=True)
        self.jobs.append(Job(order, Output(self.path / f"{number}.log", 100_000), scripts, self._on_process))
        return self.job

    async def run(self, command, **config):
        job = self.prepare(command, **config)
        try:
            return await ShellExecutor(self.runner).run(job)
        finally:
            job.output.close()

    @property
    def output(self):
        return self.job.output.head
