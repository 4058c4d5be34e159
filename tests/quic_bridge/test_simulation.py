"""Simulated agents against a real bridge."""

import asyncio
import json
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from quartzflow_agent.protocol import task_pb2

from groups_app.models import Bridge, Client
from quic_bridge.domain import RegisterOutcome
from quic_bridge.limits import Limits
from quic_bridge.simulation.fleet import Fleet
from quic_bridge.simulation.options import Options, Stats
from quic_bridge.simulation.processes import Simulation
from tests import people

from .agents import eventually
from .conftest import running
from .fakes import FakeDomain
from .test_command import data_dir, process  # noqa: F401


class EnrollingDomain(FakeDomain):
    """Takes the token "token" as well, and answers it with a credential."""

    def register(self, info):
        if info.enrollment_token == "token":
            self.registered.append(info)
            return RegisterOutcome(True, client_id=info.client_id, credential=f"good:{info.client_id}")
        return super().register(info)


@pytest.fixture
def domain():
    return EnrollingDomain()


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch):
    monkeypatch.setattr("quic_bridge.simulation.agent.Backoff.next", lambda self: random.uniform(0, 0.1))


@asynccontextmanager
async def fleet(pki, port, count=3, **options):
    """Simulated agents that have all registered."""
    ports = port if isinstance(port, list) else [port]
    given = Options(
        endpoints=tuple(("127.0.0.1", number) for number in ports),
        ca=pki.ca,
        token="token",
        prefix="sim",
        count=count,
        seed=1,
        **options,
    )
    agents = Fleet(given)
    try:
        await agents.ramp_up()
        await eventually(lambda: agents.stats.online == count)
        yield agents
    finally:
        await agents.stop()


def instruction(name, **fields):
    return task_pb2.TaskExecution(execution_id=name, task_id="1", **fields)


async def test_they_join_by_token_pull_and_come_back_by_credential(pki, bridge, domain):
    async with fleet(pki, bridge.port) as agents:
        await eventually(lambda: agents.stats.configs == 3 and len(domain.registered) == 3)
        assert {info.client_id for info in domain.registered} == {"sim-00001", "sim-00002", "sim-00003"}
        agents.drop_all()
        await eventually(lambda: agents.stats.registrations == 6)
        assert [info.credential for info in domain.registered[3:]].count("") == 0
        assert agents.stats.lost == {"dropped": 3}
    await eventually(lambda: len(bridge.registry) == 0)
    assert agents.stats.online == 0


async def test_they_execute_report_and_know_a_copy(pki, bridge, domain):
    async with fleet(pki, bridge.port) as agents:
        for _ in range(2):
            await bridge.commands.dispatch(
                [("sim-00001", instruction("e1")), ("sim-00002", instruction("e2"))]
            )
        await eventually(lambda: agents.stats.acknowledged == 2 and agents.stats.duplicates == 2)
        assert (agents.stats.instructions, agents.stats.executed, agents.stats.unacknowledged) == (4, 2, 0)
        assert len(agents.stats.ack_ms) == 2


async def test_they_fail_and_take_their_time_as_told(pki, bridge, domain):
    async with fleet(pki, bridge.port, exec_ms=100, fail_rate=1.0) as agents:
        await bridge.commands.dispatch([("sim-00001", instruction("e1"))])
        await eventually(lambda: agents.stats.failed == 1 and agents.stats.acknowledged == 1)
        result = domain.reports[-1].message
        assert result.status == task_pb2.FAILURE
        assert result.finished_at - result.started_at >= 99


async def test_a_cancelled_execution_ends_at_once(pki, bridge, domain):
    async with fleet(pki, bridge.port, exec_ms=60_000) as agents:
        await bridge.commands.dispatch([("sim-00001", instruction("e1"))])
        await eventually(lambda: agents.stats.instructions == 1)
        await bridge.commands.cancel([("sim-00001", "e1", "by hand")])
        await eventually(lambda: agents.stats.acknowledged == 1)
        assert domain.reports[-1].message.status == task_pb2.CANCELLED


async def test_a_result_outlives_the_connection(pki, bridge, domain):
    async with fleet(pki, bridge.port, exec_ms=200) as agents:
        await bridge.commands.dispatch([("sim-00001", instruction("e1"))])
        await eventually(lambda: agents.stats.instructions == 1)
        domain.broken.set()
        await eventually(lambda: agents.stats.unacknowledged == 1)
        agents.drop_all()
        domain.broken.clear()
        await eventually(lambda: agents.stats.acknowledged == 1)
        assert agents.stats.unacknowledged == 0


async def test_who_flaps_comes_back(pki, bridge, domain):
    async with fleet(pki, bridge.port, flap=60.0) as agents:  # once a second each
        await eventually(lambda: agents.stats.lost["dropped"] >= 2 and agents.stats.online == 3)


async def test_a_dead_bridge_is_left_for_the_next_one(pki, domain, redis_url, monkeypatch):
    monkeypatch.setattr("quic_bridge.simulation.agent.HANDSHAKE_TIMEOUT", 0.2)
    async with running(pki, domain) as bridge, fleet(pki, [1, bridge.port]) as agents:
        assert agents.stats.lost["handshake timeout"] >= 1


async def test_a_refusal_is_counted(pki, bridge, domain):
    agents = Fleet(
        replace(Options((("127.0.0.1", bridge.port),), pki.ca, token="wrong", prefix="sim"), count=1)
    )
    await agents.ramp_up()
    await eventually(lambda: agents.stats.refused >= 2)
    assert set(agents.stats.lost) == {"refused (bad_credential)"}
    await agents.stop()


async def test_a_limit_of_the_bridge_keeps_an_address_out_for_a_while(pki, domain, redis_url):
    limits = Limits(address_handshakes=5, address_handshakes_burst=1)
    async with running(pki, domain, limits=limits) as bridge, fleet(pki, bridge.port, count=4):
        assert len(bridge.registry) == 4


async def test_processes_share_the_agents(pki, bridge, domain):
    options = Options(
        endpoints=(("127.0.0.1", bridge.port),), ca=pki.ca, token="token", prefix="sim", count=5, rate=100
    )
    simulation = await asyncio.to_thread(Simulation, options, 2)
    try:

        async def online(count):
            async with asyncio.timeout(20):
                while (await asyncio.to_thread(simulation.stats)).online != count:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

        await online(5)
        assert len({info.client_id for info in domain.registered}) == 5
        async with asyncio.timeout(5):
            while len(await asyncio.to_thread(simulation.applied_at, domain.version)) != 5:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.to_thread(simulation.drop_all)
        await online(5)
        assert (await asyncio.to_thread(simulation.stats)).lost["dropped"] == 5
    finally:
        await asyncio.to_thread(simulation.close)
        simulation.close()


def test_totals_add_up():
    total = Stats(online=1, last_instruction=5.0, ack_ms=[1.0])
    total += Stats(online=2, last_instruction=3.0, ack_ms=[9.0])
    assert (total.online, total.last_instruction) == (3, 5.0)
    summary = total.summary()
    assert (summary["ack_ms_p50"], summary["ack_ms_p99"]) == (9.0, 9.0)
    assert Stats().summary()["ack_ms_p50"] is None


@pytest.mark.django_db(transaction=True)
def test_the_command_brings_its_own_token_and_prints_totals(pki, data_dir, redis_url, monkeypatch):  # noqa: F811
    people.group()
    monkeypatch.setattr(settings, "QF_DATA_DIR", data_dir)
    (data_dir / "pki" / "ca.pem").write_bytes(pki.ca)
    with process(data_dir, redis_url):
        endpoint = Bridge.objects.get().endpoint
        out = StringIO()
        call_command(
            "simulate_agents", "--count=3", f"--server={endpoint}", "--duration=2.5", "--json", stdout=out
        )
        totals = json.loads(out.getvalue())
        assert (totals["online"], totals["registrations"], totals["lost"]) == (3, 3, {})
        assert Client.objects.filter(client_id__startswith="sim-", group__name="default").count() == 3


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group=none"], "there is no group 'none'; there are: default"),
        (["--count=200000"], "max_uses: "),
        (["--ca=/nowhere", "--token=t"], "cannot read the authority"),
        (["--server=localhost"], "must be HOST:PORT"),
        (["--fail-rate=2"], "must be from 0 to 1"),
        (["--count=0"], "must be 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    people.group()
    with pytest.raises(CommandError, match=message):
        call_command("simulate_agents", *arguments)
