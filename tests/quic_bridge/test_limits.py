"""What agents may cost the bridge, and what the bridge tells of itself."""

import asyncio
import socket

import httpx
import pytest
from quartzflow_agent.protocol import constants

from quic_bridge import admission, metrics
from quic_bridge.admission import Admission
from quic_bridge.limits import Bucket, Limits, changed
from tests import services

from .agents import agent, eventually
from .conftest import running


def limited(limit):
    return metrics.REGISTRY.get_sample_value("quartzflow_bridge_limited_total", {"limit": limit}) or 0


def test_limits_are_set_by_name():
    limits = changed([("rate", 5000.0), ("frame", 1024.0)])
    assert (limits.rate, limits.frame, limits.silence) == (5000.0, 1024, Limits().silence)
    assert isinstance(limits.frame, int)
    with pytest.raises(ValueError, match="there is no 'speed'; there are: unregistered, lag"):
        changed([("speed", 1.0)])


def test_a_bucket_grants_its_burst_and_then_its_rate():
    bucket = Bucket(2, now=0)
    assert [bucket.take(1, 2, now) for now in (0, 0, 0, 1, 1, 100, 100, 100)] == [
        True, True, False, True, False, True, True, False,
    ]  # fmt: skip


def test_an_address_that_floods_takes_nothing_from_the_others(caplog):
    gate = Admission(Limits(address_handshakes=1, address_handshakes_burst=2, handshakes_burst=3), now=0)
    before = limited("address_handshakes")
    assert [gate.admit("192.0.2.1", 0) for _ in range(5)] == [True, True, False, False, False]
    assert gate.admit("192.0.2.2", 0)
    assert gate.unregistered == 3
    assert limited("address_handshakes") - before == 3
    assert caplog.text.count("connections not answered") == 1


def test_all_addresses_together_have_a_limit():
    gate = Admission(Limits(handshakes=1, handshakes_burst=2), now=0)
    before = limited("handshakes")
    assert [gate.admit(f"192.0.2.{number}", 0) for number in range(3)] == [True, True, False]
    assert gate.admit("192.0.2.9", 1)
    assert limited("handshakes") - before == 1


def test_a_bridge_that_does_not_keep_up_lets_nobody_new_in():
    late = 0.0
    gate = Admission(Limits(lag=0.2), now=0, lag=lambda now: late)
    assert gate.admit("192.0.2.1", 0)
    before, late = limited("lag"), 0.3
    assert not gate.admit("192.0.2.1", 0)
    assert limited("lag") == before + 1


async def test_lateness_is_known_within_the_turn_that_causes_it():
    gauge = metrics.LagGauge()
    loop = asyncio.get_running_loop()
    assert gauge.now(loop.time()) == 0
    watching = asyncio.create_task(gauge.watch())
    await asyncio.sleep(0)
    assert gauge.now(loop.time() + 1) > 0.9
    watching.cancel()


def test_addresses_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(admission, "ADDRESSES", 10)
    gate = Admission(Limits(address_handshakes=0.001, address_handshakes_burst=1), now=0)
    gate.admit("192.0.2.1", 0)
    assert not gate.admit("192.0.2.1", 1)
    for number in range(1000):
        gate._bucket(f"10.0.{number // 250}.{number % 250}", number)
    assert len(gate._addresses) <= 10
    assert not gate.admit("192.0.2.1", 1) or limited("address_handshakes")


async def test_who_does_not_register_in_time_is_closed_and_counted(pki, domain, redis_url):
    before = limited("register_timeout")
    limits = Limits(register_timeout=0.1)
    async with running(pki, domain, limits=limits) as bridge, agent(bridge.port, pki.ca) as a:
        assert (await a.closed())[0] == constants.CLOSE_REGISTER_TIMEOUT
    assert limited("register_timeout") == before + 1


@pytest.mark.parametrize(
    ("limit", "value", "code"),
    [("rate", 1, constants.CLOSE_FLOOD), ("buffered", 1000, constants.CLOSE_FLOOD)],
)
async def test_the_offender_alone_is_closed_and_counted(pki, domain, redis_url, limit, value, code):
    limits = Limits(**{limit: value}, **({"burst": 5} if limit == "rate" else {}))
    before = limited(limit)
    async with (
        running(pki, domain, limits=limits) as bridge,
        agent(bridge.port, pki.ca) as good,
        agent(bridge.port, pki.ca) as bad,
    ):
        await good.register("good")
        await bad.register("bad")
        if limit == "rate":
            from quartzflow_agent.protocol import messages

            for _ in range(10):
                bad.send(messages.ping("bad"))
        else:
            for number in (1, 2):
                bad.write((9000).to_bytes(4, "big") + b"x" * 600, stream_id=4 * number)
        assert (await bad.closed())[0] == code
        await good.ping()
        await eventually(lambda: len(bridge.registry) == 1)
    assert limited(limit) == before + 1


async def test_a_stalled_loop_is_measured_and_logged(caplog):
    gauge = metrics.LagGauge()
    watching = asyncio.create_task(gauge.watch())
    await asyncio.sleep(0.1)
    import time

    time.sleep(0.4)  # noqa: ASYNC251  that is the point
    await asyncio.sleep(0.1)
    watching.cancel()
    assert metrics.LOOP_LAG._value.get() > 0.25
    assert "event loop stalled" in caplog.text


def test_the_lag_shown_is_the_longest_of_the_window():
    gauge = metrics.LagGauge()
    for now, lag, shown in ((0, 0.1, 0.1), (1, 0.05, 0.1), (2, 0.2, 0.2), (16, 0.01, 0.2), (18, 0.02, 0.02)):
        gauge.add(now, lag)
        assert metrics.LOOP_LAG._value.get() == shown


def test_metrics_are_served_on_the_loopback_address():
    port = services.free_port()
    with metrics.served(port):
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert "quartzflow_bridge_agents" in text
        assert "process_cpu_seconds_total" in text
        with pytest.raises(OSError, match=f"cannot serve metrics on TCP port {port}"), metrics.served(port):
            pass
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) != 0


def test_without_a_port_no_metrics_are_served():
    with metrics.served(0):
        pass
