import asyncio
import datetime
import ipaddress
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from channels.layers import get_channel_layer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from quic_bridge import server, udp
from quic_bridge.bridge import Bridge

from .agents import agent
from .fakes import FakeDomain
from .legacy_client import legacy_client


@dataclass(frozen=True)
class Pki:
    ca: bytes  # PEM
    certificate: Path
    key: Path


def _certificate(subject, issuer, public_key, signing_key, *, ca):
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signing_key, hashes.SHA256())
    )


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """A private CA and a server's certificate for localhost."""
    directory = tmp_path_factory.mktemp("pki")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("test CA", "test CA", ca_key.public_key(), ca_key, ca=True)
    certificate = _certificate("localhost", "test CA", key.public_key(), ca_key, ca=False)
    pem = serialization.Encoding.PEM
    (directory / "server.pem").write_bytes(certificate.public_bytes(pem))
    (directory / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Pki(ca.public_bytes(pem), directory / "server.pem", directory / "server.key")


@pytest.fixture(autouse=True)
def _no_lost_errors(caplog):
    """What asyncio can only log (an exception in a callback, a task nobody waits for) fails the test."""
    yield
    lost = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name == "asyncio" and record.levelno >= 40
    ]
    assert lost == []


@pytest.fixture
def domain():
    return FakeDomain()


@asynccontextmanager
async def running(pki, domain, **options):
    """A bridge that serves until the block ends."""
    sock = udp.bind("127.0.0.1", 0)
    options = {
        "bridge_id": "test-bridge",
        "layer": get_channel_layer(),
        "config": server.configuration(pki.certificate, pki.key),
        **options,
    }
    bridge = Bridge(
        endpoint=f"127.0.0.1:{sock.getsockname()[1]}",
        sock=sock,
        domain=domain,
        **options,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(bridge.run(stop))
    try:
        async with asyncio.timeout(5):
            while not bridge.server.accepting and not task.done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        yield bridge
    finally:
        stop.set()
        await task


@pytest.fixture
async def bridge(pki, domain, redis_url):
    async with running(pki, domain) as bridge:
        yield bridge


@pytest.fixture
async def legacy_bridge(pki, domain, redis_url):
    """A bridge that serves quic-flow clients too."""
    config = server.configuration(pki.certificate, pki.key, legacy=True)
    async with running(pki, domain, config=config) as bridge:
        yield bridge


@pytest.fixture
async def client(legacy_bridge, pki):
    """A connected quic-flow client."""
    async with legacy_client(legacy_bridge.port, pki.ca) as connected:
        yield connected


@pytest.fixture
async def connect(bridge, pki):
    """`await connect()` is a connected agent, `await connect("id")` a registered one."""
    async with AsyncExitStack() as stack:

        async def connect(client_id=None, **fields):
            connected = await stack.enter_async_context(agent(bridge.port, pki.ca))
            if client_id is not None:
                response = await connected.register(client_id, **fields)
                assert response.accepted, response
            return connected

        yield connect
