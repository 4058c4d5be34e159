"""Fixtures that every test may use: real services, one of each for a test process."""

from collections.abc import Iterator
from pathlib import Path

import environ
import pytest
import redis
from channels.layers import channel_layers
from django.core.management import call_command
from django.db import connections

from executions_app.alerts import sources
from quartzflow import system_settings
from tests import services, settings


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = getattr(item, "fixturenames", ())
        # Tests that share the running product, or the PostgreSQL cluster, go to one worker: each is started once.
        # Those that name a group themselves are many enough for one of their own.
        shared = {"stack": "stack", "postgres_url": "postgres", "each_database": "postgres"}
        group = next((shared[name] for name in shared if name in names), None)
        if group and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(group))
        # pytest-django decides by marks and names alone what `each_database` only knows by its parameter.
        if "each_database" in names and item.callspec.params["each_database"] == "sqlite":  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.django_db(transaction=True))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A redis-server of this test process, where the settings expect it."""
    with services.redis_server(settings.DIRECTORY) as path:
        yield f"unix://{path}"


@pytest.fixture(scope="session")
def _redis_client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(autouse=True)
def _empty_redis(_redis_client: redis.Redis) -> Iterator[None]:
    """Cache, channel layer and queues begin empty in every test; a layer that a cancelled reader has left may hold a
    lock of that test's event loop."""
    yield
    channel_layers.backends.clear()
    _redis_client.flushall()


@pytest.fixture(autouse=True)
def _default_system_settings() -> Iterator[None]:
    """Every test begins with the defaults, unread: what one costs in queries does not depend on the one before.
    But nothing is too old to be kept: tests are of days that lie long ago."""
    system_settings.assume({"executions_days": 0})
    sources.assume({})  # no alert rules, likewise
    yield
    system_settings.assume({})
    sources.assume({})


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL database, without tables."""
    with services.postgres_cluster() as url:
        yield url


@pytest.fixture(scope="session")
def _postgres_settings(postgres_url: str, django_db_blocker) -> dict:
    """PostgreSQL's settings in the place of SQLite's, with all tables made."""
    # Django's test runner has filled in what the given settings left open; keep the result's shape.
    template = connections.databases["default"]
    database = {**template, "OPTIONS": {}, "TEST": {}, **environ.Env.db_url_config(postgres_url)}
    with _swapped_database(database), django_db_blocker.unblock():
        call_command("migrate", verbosity=0)
    return database


class _swapped_database:  # noqa: N801 - used as a context manager
    """Make `default` another database, in this thread and in those started within."""

    def __init__(self, database: dict) -> None:
        self.database = database

    def __enter__(self) -> None:
        self.before = connections.databases["default"]
        self.connection = connections["default"]
        connections.databases["default"] = self.database
        del connections["default"]

    def __exit__(self, *exc: object) -> None:
        connections["default"].close()
        connections.databases["default"] = self.before
        connections["default"] = self.connection


@pytest.fixture
def postgres_db(_postgres_settings: dict, django_db_blocker) -> Iterator[None]:
    """Use PostgreSQL in this test, without a transaction around it; its rows are deleted afterwards."""
    with _swapped_database(_postgres_settings), django_db_blocker.unblock():
        yield
        call_command("flush", interactive=False, verbosity=0)


@pytest.fixture(params=["sqlite", "postgresql"])
def each_database(request: pytest.FixtureRequest) -> str:
    """Run the test once on each database, with real transactions; returns the database's name."""
    if request.param == "postgresql":
        request.getfixturevalue("postgres_db")
    return request.param


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser."""
    return services.chromium_path()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Stack]:
    """The whole product, running (`manage.py run`), with a local agent `local` in the group `default`."""
    directory: Path = tmp_path_factory.mktemp("stack")
    with services.running_stack(directory) as running:
        yield running


_internal_errors: list[str] = []


def pytest_internalerror(excrepr: object) -> None:
    _internal_errors.append(str(excrepr))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Say last what comes first: a worker's own error is the cause, what pytest makes of its absence is not."""
    if _internal_errors and not hasattr(config, "workerinput"):
        first = _internal_errors[0].replace("\\n", "\n").splitlines()[-15:]
        print("\nThe first internal error ended with:", *first, sep="\n")  # noqa: T201
