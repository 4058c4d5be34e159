"""Several bridge processes on one port."""

import asyncio
import errno
import os
import signal
import socket
import sys
import time

import pytest

from groups_app.actions import do_create_enrollment_token
from groups_app.models import Bridge, Client
from quic_bridge import steering, udp, workers
from quic_bridge.simulation.fleet import Fleet
from quic_bridge.simulation.options import Options
from quic_bridge.steering import Steering, bind_shared
from quic_bridge.workers import Workers, WorkersFailedError, open_sockets
from tests import people, services

from .agents import eventually
from .test_command import data_dir, process  # noqa: F401


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64])
def test_ids_lead_to_their_worker(count):
    for worker in range(count):
        firsts = set()
        for byte in range(256):
            cid = Steering(worker, count).steer(bytes([byte]) + b"1234567")
            assert cid[0] % count == worker
            assert cid[1:] == b"1234567"
            firsts.add(cid[0])
        assert len(firsts) == len(range(worker, 256, count))


def test_the_kernel_picks_the_socket_by_the_connection_id():
    sockets = bind_shared("127.0.0.1", 0, 3)
    port = sockets[0].getsockname()[1]
    try:
        for sender in range(4):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for first in (0, 1, 2, 3, 100, 254, 255):
                    short = bytes([0x40, first]) + b"rest of it"
                    long = bytes([0xC0, 0, 0, 0, 1, 8, first]) + b"rest of it"
                    for packet in (short, long):
                        sock.sendto(packet, ("127.0.0.1", port))
                        assert sockets[first % 3].recv(100) == packet, (sender, first)
        for one in sockets:
            with pytest.raises(BlockingIOError):
                one.recv(100)
    finally:
        for one in sockets:
            one.close()


def test_a_packet_that_is_too_short_harms_nobody():
    sockets = bind_shared("127.0.0.1", 0, 2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"\xc0", sockets[0].getsockname())
        sock.sendto(b"", sockets[0].getsockname())
        assert sockets[0].recv(100) == b"\xc0"
    for one in sockets:
        one.close()


def test_a_port_that_another_bridge_shares_is_in_use():
    sockets = bind_shared("127.0.0.1", 0, 2)
    with pytest.raises(OSError, match="the port is in use") as caught:
        open_sockets("127.0.0.1", sockets[0].getsockname()[1], 2)
    assert caught.value.errno == errno.EADDRINUSE
    for one in sockets:
        one.close()


def test_where_the_kernel_refuses_each_worker_has_a_port(monkeypatch, caplog):
    def refuse(sock, count):
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(steering, "attach", refuse)
    with udp.bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    sockets = open_sockets("127.0.0.1", port, 2)
    assert [one.getsockname()[1] for one in sockets] == [port, port + 1]
    assert "each worker has its own" in caplog.text
    for one in sockets:
        one.close()
    with udp.bind("127.0.0.1", port + 1), pytest.raises(OSError, match="in use"):
        open_sockets("127.0.0.1", port, 2)


def test_workers_that_die_again_and_again_end_it_all(monkeypatch, caplog):
    monkeypatch.setattr(workers, "LOOK", 0.01)
    sockets = bind_shared("127.0.0.1", 0, 2)
    parent = Workers(sockets, lambda worker, descriptor: [sys.executable, "-c", f"exit({worker} == 0)"])
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(WorkersFailedError, match="died 6 times"):
            parent.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert caplog.text.count("starting it again") == 6
    assert all(one.fileno() < 0 for one in sockets)


def test_a_worker_that_does_not_stop_is_killed(monkeypatch, caplog):
    monkeypatch.setattr(workers, "STOP", 0.3)
    sockets = bind_shared("127.0.0.1", 0, 1)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    parent = Workers(sockets, lambda worker, descriptor: [sys.executable, "-c", code])
    parent._processes = [parent._start(0)]
    time.sleep(0.5)
    parent._end()
    assert parent._processes[0].returncode == -signal.SIGKILL
    assert "did not stop" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_agents_survive_a_nat_rebind_and_the_death_of_one_worker(pki, data_dir, redis_url, monkeypatch):  # noqa: F811
    """Eight agents on two workers; all change their port; one worker is killed."""
    monkeypatch.setattr("quic_bridge.simulation.agent.Backoff.next", lambda self: 0.2)
    monkeypatch.setattr("quartzflow_agent.session.PONG_TIMEOUT", 1.0)
    _, token = do_create_enrollment_token(None, people.group(), max_uses=8)
    with process(data_dir, redis_url, "--bridge-id", "b", "--workers", "2") as (running, log):
        services.wait_until(lambda: Bridge.objects.count() == 2, 20, log.read_text)
        assert set(Bridge.objects.values_list("bridge_id", flat=True)) == {"b/w0", "b/w1"}
        assert len(set(Bridge.objects.values_list("endpoint", flat=True))) == 1
        port = int(Bridge.objects.first().endpoint.rpartition(":")[2])
        options = Options((("127.0.0.1", port),), pki.ca, token, prefix="nat", count=8, seed=3)
        with asyncio.Runner() as loop:
            fleet = loop.run(_start(options))
            on = dict(Client.objects.values_list("client_id", "bridge_id"))
            assert set(on.values()) == {"b/w0", "b/w1"}

            # Another port for everybody: who reached another worker would not be answered.
            loop.run(_rebind(fleet))
            assert fleet.stats.lost == {}

            # The kill of one worker costs its own agents their session, and nobody else's.
            victim = next(pid for pid, worker in _workers_of(running.pid) if worker == 0)
            os.kill(victim, signal.SIGKILL)
            lost = sum(bridge == "b/w0" for bridge in on.values())
            loop.run(_ping_all(fleet, until=lambda: sum(fleet.stats.lost.values()) >= lost))
            loop.run(_ping_all(fleet, until=lambda: fleet.stats.online == 8))
            assert "worker ended unexpectedly" in log.read_text()
            restarted = "event='bridge started' bridge='b/w0'"
            services.wait_until(lambda: log.read_text().count(restarted) == 2, 20, log.read_text)
            kept = [agent.client_id for agent in fleet.agents if on[agent.client_id] == "b/w1"]
            assert Client.objects.filter(client_id__in=kept, bridge_id="b/w1", status=1).count() == len(kept)
            loop.run(fleet.stop())
        running.terminate()
        assert running.wait(20) == 0
        services.wait_until(lambda: not Bridge.objects.exists(), 5, log.read_text)


@pytest.mark.django_db(transaction=True)
def test_workers_end_with_their_parent(pki, data_dir, redis_url):  # noqa: F811
    with process(data_dir, redis_url, "--workers", "2") as (running, log):
        services.wait_until(lambda: Bridge.objects.count() == 2, 20, log.read_text)
        running.kill()
        running.wait()
        services.wait_until(lambda: not Bridge.objects.exists(), 20, log.read_text)


async def _start(options):
    fleet = Fleet(options)
    await fleet.ramp_up()
    await eventually(lambda: fleet.stats.online == options.count and fleet.stats.configs >= options.count, 10)
    return fleet


async def _rebind(fleet):
    for agent in fleet.agents:
        agent.move_to(fleet.new_socket())
    pongs = fleet.stats.pongs
    for agent in fleet.agents:
        agent._session.ping(fleet.loop.time())
        agent.wake()
    await eventually(lambda: fleet.stats.pongs >= pongs + len(fleet.agents))


async def _ping_all(fleet, until):
    async with asyncio.timeout(30):
        while not until():
            for agent in fleet.agents:
                if agent.registered:
                    agent._session.ping(fleet.loop.time())
                    agent.wake()
            await asyncio.sleep(0.2)


def _workers_of(parent):
    """(process id, worker) of a bridge's workers."""
    import psutil

    for child in psutil.Process(parent).children():
        yield child.pid, int(next(a for a in child.cmdline() if a.startswith("--worker=")).partition("=")[2])
