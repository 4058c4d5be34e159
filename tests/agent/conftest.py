"""Fixtures for tests of the agent."""

import sys

import pytest
from quartzflow_agent import cli
from quartzflow_agent.paths import Home
from quartzflow_agent.store.database import open_database
from quartzflow_agent.store.thread import StoreThread

from tests.agent.bench import Bench
from tests.agent.engine_rig import Rig
from tests.agent.fake_server import FakeServer, make_certificates, running
from tests.agent.records import fill
from tests.agent.running_agent import agent_in, joined
from tests.agent.support import until


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home, which commands find, too."""
    found = Home(tmp_path / "quicflow")
    found.create()
    monkeypatch.setenv("QUICFLOW_HOME", str(found.root))
    return found


@pytest.fixture
async def store(home):
    thread = StoreThread(home.store)
    yield thread
    await thread.close()


@pytest.fixture
async def server(certificates):
    async with running(FakeServer(certificates)) as started:
        yield started


@pytest.fixture
async def rig(home, store):
    made = Rig(home, store)
    yield made
    await made.close()


@pytest.fixture
async def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    for job in made.jobs:
        job.output.close()


@pytest.fixture
async def agent(home, server, certificates):
    async with agent_in(home, joined(home, server, certificates)) as started:
        await until(lambda: server.peers)
        yield started


@pytest.fixture
def quicflow(monkeypatch, capsys):
    """Run a command; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["quicflow", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def filled(home):
    """A home with records."""
    return fill(home)


@pytest.fixture
def db(tmp_path):
    connection = open_database(tmp_path / "store.sqlite3")
    yield connection
    connection.close()
