"""The draining socket."""

import asyncio
import socket

import pytest

from quic_bridge import udp

from .agents import eventually


class Recorder:
    def __init__(self):
        self.turns = [[]]

    def received(self, data, address):
        self.turns[-1].append(data)

    def drained(self):
        self.turns.append([])


@pytest.fixture
async def pair():
    """A draining socket with its recorder, and a plain one that is connected to it."""
    recorder = Recorder()
    sock = udp.bind("127.0.0.1", 0)
    draining = udp.UdpSocket(sock, recorder.received, recorder.drained)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", draining.port))
        peer.setblocking(False)
        yield draining, recorder, peer
    draining.close()
    draining.close()


async def test_all_that_has_arrived_is_read_in_one_turn(pair):
    _, recorder, peer = pair
    for number in range(20):
        peer.send(b"%d" % number)
    await eventually(lambda: len(recorder.turns) > 1)
    assert recorder.turns[0] == [b"%d" % number for number in range(20)]


async def test_one_turn_has_an_end(pair, monkeypatch):
    monkeypatch.setattr(udp, "READ_AT_ONCE", 5)
    _, recorder, peer = pair
    for _ in range(12):
        peer.send(b"x")
    await eventually(lambda: sum(map(len, recorder.turns)) == 12)
    assert [len(turn) for turn in recorder.turns if turn] == [5, 5, 2]


async def test_handshakes_wait_for_what_belongs_to_connections_but_not_for_ever(pair, monkeypatch):
    monkeypatch.setattr(udp, "TURN", 0)
    _, recorder, peer = pair
    for number in range(6):
        peer.send(b"\xc0%d" % number)
    for number in range(10):
        peer.send(b"\x40%d" % number)
    await eventually(lambda: sum(map(len, recorder.turns)) == 16)
    kinds = [b"".join(data[:1] for data in turn) for turn in recorder.turns if turn]
    assert kinds == [b"@@@@\xc0\xc0\xc0\xc0", b"@@@@\xc0\xc0", b"@@"]


async def test_who_waits_is_counted_and_what_does_not_fit_stays_in_the_kernel(pair, monkeypatch):
    monkeypatch.setattr(udp, "TURN", 0)
    monkeypatch.setattr(udp, "WAITING", 6)
    draining, recorder, peer = pair
    for _ in range(12):
        peer.send(b"x")
    assert draining.delay(now=1) == 0
    waited = []
    draining._drained = lambda: waited.append(draining.delay(draining._loop.time() + 1))
    await eventually(lambda: len(recorder.turns[0]) == 12)
    assert waited[0] > 1 and waited[-1] == 0


async def test_who_writes_a_burst_waits_for_what_has_arrived(pair, monkeypatch):
    monkeypatch.setattr(udp, "TURN", 0)
    monkeypatch.setattr(udp, "BEHIND", 3)
    draining, recorder, peer = pair
    await asyncio.wait_for(draining.turn(), 1)
    for _ in range(20):
        peer.send(b"x")
    await eventually(lambda: len(recorder.turns) > 1)
    await draining.turn()
    assert 20 - sum(map(len, recorder.turns)) < 3


class Kernel:
    """Stands for a socket whose buffer is full until told otherwise."""

    def __init__(self, sock):
        self.sock = sock
        self.full = True
        self.error = None

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def sendto(self, data, address):
        if self.full:
            raise BlockingIOError
        if self.error is not None:
            raise self.error
        return self.sock.sendto(data, address)


async def test_what_the_kernel_does_not_take_waits_in_order(pair, monkeypatch):
    draining, _, peer = pair
    monkeypatch.setattr(udp, "QUEUE", 3)
    kernel = draining._sock = Kernel(draining._sock)
    for number in range(5):
        draining.send(b"%d" % number, peer.getsockname())
    assert draining.dropped == 2
    kernel.full = False
    received = []
    async with asyncio.timeout(5):
        while len(received) < 3:
            received.append(await asyncio.get_running_loop().sock_recv(peer, 100))
    assert received == [b"0", b"1", b"2"]
    draining.send(b"later", peer.getsockname())
    assert await asyncio.get_running_loop().sock_recv(peer, 100) == b"later"


async def test_an_unreachable_peer_is_no_error(pair):
    draining, _, peer = pair
    kernel = draining._sock = Kernel(draining._sock)
    draining.send(b"queued", peer.getsockname())
    kernel.full, kernel.error = False, OSError(101, "Network is unreachable")
    await eventually(lambda: not draining._queue)
    draining.send(b"direct", peer.getsockname())
    kernel.error = None
    draining.send(b"fine", peer.getsockname())
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 100), 5) == b"fine"


async def test_an_icmp_error_does_not_stop_the_reading(pair):
    draining, recorder, peer = pair
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    draining._sock.connect(address)
    draining._sock.send(b"x")  # answered by "port unreachable"
    await asyncio.sleep(0.05)
    draining._sock.connect(peer.getsockname())
    peer.send(b"still here")
    await eventually(lambda: [b"still here"] in recorder.turns)


def unknown(*arguments, **options):
    raise socket.gaierror(socket.EAI_NONAME, "unknown")


def test_an_address_that_cannot_be_bound_is_named(monkeypatch):
    with udp.bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"cannot listen on 127\.0\.0\.1 UDP port {port}: the port is in use"
        ):
            udp.bind("127.0.0.1", port)
    with pytest.raises(OSError, match=r"cannot listen on 192.0.2.1 UDP port 0: "):
        udp.bind("192.0.2.1", 0)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match="cannot listen on no-such-host: unknown"):
        udp.bind("no-such-host", 0)


async def test_the_ipv6_wildcard_serves_ipv4_too():
    recorder = Recorder()
    with udp.bind("::", 0) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        draining = udp.UdpSocket(sock, recorder.received, recorder.drained)
        peer.sendto(b"four", ("127.0.0.1", draining.port))
        await eventually(lambda: [b"four"] in recorder.turns)
        draining.close()
