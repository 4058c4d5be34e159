"""Fixtures for tests of the agent."""

import pytest
from quartzflow_agent.paths import Home
from quartzflow_agent.store.thread import StoreThread

from tests.agent.fake_server import FakeServer, make_certificates, running


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
