"""A bridge of one page: real QUIC on loopback, lets agents in, records what they say, says what a test wants."""

import asyncio
import datetime
import ipaddress
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aioquic.asyncio import serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from quartzflow_agent.protocol import agent_pb2, messages, task_pb2
from quartzflow_agent.protocol import backbone_pb2 as pb
from quartzflow_agent.protocol.constants import ALPN_AGENT, CLOSE_REFUSED, RECORDS_WANTED
from quartzflow_agent.protocol.framing import FrameDecoder, encode


class Peer(QuicConnectionProtocol):
    """One agent's connection."""

    server: "FakeServer"

    def __init__(self, *args, server, **kwargs):
        super().__init__(*args, **kwargs)
        self.server = server
        self.client_id = ""
        self._decoders = {}
        self._number = 0

    def quic_event_received(self, event):
        if isinstance(event, events.StreamDataReceived):
            decoder = self._decoders.setdefault(event.stream_id, FrameDecoder())
            for frame in decoder.feed(event.data):
                self.server.on_frame(self, frame)
            self._transmit_soon()
        elif isinstance(event, events.ConnectionTerminated):
            self.server.closed.append((self.client_id, event.reason_phrase))
            if self in self.server.peers:
                self.server.peers.remove(self)

    def send(self, frame):
        self._quic.send_stream_data(0, encode(frame))
        self._transmit_soon()

    def say(self, kind, message, msg_id=None, wait_ack=True):
        self._number += 1
        msg_id = f"s{self._number}" if msg_id is None else msg_id
        self.send(messages.data(kind, message, msg_id, wait_ack=wait_ack))
        return msg_id

    def execute(self, *instructions):
        return [self.say(pb.MESSAGE_TYPE_TASK_EXECUTION, item) for item in instructions]

    def cancel(self, *execution_ids, reason="cancelled_by_user"):
        message = agent_pb2.TaskCancel(execution_ids=execution_ids, reason=reason)
        return self.say(pb.MESSAGE_TYPE_TASK_CANCEL, message)

    def watch(self, execution_id, watching=True):
        message = agent_pb2.LogWatch(execution_id=execution_id, watching=watching)
        self.say(pb.MESSAGE_TYPE_LOG_WATCH, message, wait_ack=False)

    def push(self, *tasks, version, action=task_pb2.UPDATE, deleted=()):
        self.server.config_version = version
        message = task_pb2.TaskConfigPush(
            tasks=tasks, version=version, action=action, deleted_task_ids=deleted
        )
        return self.say(pb.MESSAGE_TYPE_TASK_CONFIG_PUSH, message)


class FakeServer:
    """What it does is set by its attributes; what it heard is in its lists."""

    def __init__(self, certificates):
        self.certificates = certificates
        self.port = 0
        self.peers = []  # connected and registered
        self.closed = []  # (client id, reason)
        # What it does
        self.refusal = None  # (code, message)
        self.refuses_in_words = True  # False: the answer is lost, and the connection just closes
        self.answers_pings = True
        self.answers_pulls = True
        self.deaf = False  # to progress
        self.wants = []  # task ids, for each of the next reports of statistics: records of them are wanted
        self.refuses = set()  # execution ids of which it takes no record
        self.acknowledges = True  # results, batches, statistics
        self.scheduler_alive = True
        self.clock_ahead = 0  # ms
        self.heartbeat = 15
        self.tasks = []
        self.config_version = 0
        # What it heard
        self.registrations = []
        self.pings = []
        self.progresses = []
        self.unheard = []  # pieces of output that came while it was deaf
        self.results = []
        self.syncs = []
        self.stats = []
        self.acks = {}  # msg_id → AckMessage
        self.chunks = []

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def ended(self):
        """execution id → status, of everything that was reported in any way."""
        found = [*self.results, *(record for sync in self.syncs for record in sync.records)]
        return {r.execution_id: task_pb2.ExecutionStatus.Name(r.status) for r in found}

    def vanish(self):
        """As after kill -9: no goodbye, and the port is closed."""
        for peer in set(self.listener._protocols.values()):
            for timer in (peer._timer, peer._transmit_task):
                if timer is not None:
                    timer.cancel()
        self.listener._transport.abort()
        self.peers.clear()

    def now(self):
        return round(time.time() * 1000) + self.clock_ahead

    def on_frame(self, peer, frame):
        if frame.type == pb.FRAME_TYPE_PING:
            self._on_ping(peer, messages.decode_ping(frame))
        elif frame.type == pb.FRAME_TYPE_ACK:
            ack = messages.decode_ack(frame)
            self.acks.update(dict.fromkeys([ack.msg_id, *ack.more_msg_ids], ack))
        else:
            envelope, message = messages.decode_data(frame)
            getattr(self, f"_on_{type(message).__name__}")(peer, envelope.msg_id, message)

    def _on_ping(self, peer, ping):
        self.pings.append(ping)
        if self.answers_pings:
            peer.send(
                messages.pong(
                    server_time=self.now(),
                    config_version=self.config_version,
                    scheduler_alive=self.scheduler_alive,
                    sent_at=ping.sent_at,
                )
            )

    def _on_RegisterRequest(self, peer, msg_id, request):
        self.registrations.append(request)
        response = agent_pb2.RegisterResponse(
            accepted=self.refusal is None,
            client_id=request.client_id,
            group="default",
            credential=f"credential of {request.client_id}" if request.enrollment_token else "",
            server_time=self.now(),
            heartbeat_interval=self.heartbeat,
            scheduler_alive=self.scheduler_alive,
            config_version=self.config_version,
            bridge_id="fake",
        )
        if self.refusal is not None:
            response.code, response.message = self.refusal
        peer.say(pb.MESSAGE_TYPE_REGISTER_RESPONSE, response, msg_id, wait_ack=False)
        if self.refusal is None:
            peer.client_id = request.client_id
            self.peers.append(peer)
        else:
            if self.refuses_in_words:
                peer.transmit()
            peer.close(CLOSE_REFUSED, f"{response.code}: {response.message}")

    def _on_TaskConfigPull(self, peer, msg_id, pull):
        if not self.answers_pulls:
            return
        response = task_pb2.TaskConfigResponse(
            tasks=self.tasks, version=self.config_version, action=task_pb2.FULL_SYNC
        )
        peer.say(pb.MESSAGE_TYPE_TASK_CONFIG_RESPONSE, response)

    def _on_TaskProgress(self, peer, msg_id, progress):
        if self.deaf:
            if progress.output:
                self.unheard.append(progress)
        else:
            self.progresses.append(progress)

    def _on_TaskResult(self, peer, msg_id, result):
        self.results.append(result)
        if self.acknowledges:
            peer.send(messages.ack(msg_id))

    def _on_OfflineSyncRequest(self, peer, msg_id, request):
        self.syncs.append(request)
        if self.acknowledges:
            names = [record.execution_id for record in request.records]
            response = task_pb2.OfflineSyncResponse(
                success=True,
                synced_count=len(request.records),
                server_time=self.now(),
                execution_ids=[name for name in names if name not in self.refuses],
                refused_ids=[name for name in names if name in self.refuses],
            )
            peer.say(pb.MESSAGE_TYPE_OFFLINE_SYNC_RESPONSE, response, msg_id, wait_ack=False)

    def _on_DailyStatsReport(self, peer, msg_id, report):
        self.stats.append(report)
        if self.wants:
            wanted = self.wants.pop(0).encode()
            peer.send(messages.ack(msg_id, pb.ACK_STATUS_FAILURE, result=wanted, error=RECORDS_WANTED))
        elif self.acknowledges:
            peer.send(messages.ack(msg_id))

    def _on_LogChunk(self, peer, msg_id, chunk):
        self.chunks.append(chunk)


@asynccontextmanager
async def running(server, port=0):
    """Let the server listen on loopback."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[ALPN_AGENT])
    configuration.load_cert_chain(server.certificates.server, server.certificates.key)
    listener = await serve(
        "127.0.0.1",
        port,
        configuration=configuration,
        create_protocol=lambda *args, **kwargs: Peer(*args, server=server, **kwargs),
    )
    server.port = listener._transport.get_extra_info("sockname")[1]
    server.listener = listener
    try:
        yield server
    finally:
        if not listener._transport.is_closing():
            for peer in [*server.peers]:
                peer.close()
            await asyncio.sleep(0.01)
            server.vanish()


@dataclass
class Certificates:
    """An authority, and a server's certificate for 127.0.0.1."""

    authority: Path
    server: Path
    key: Path
    sha256: str  # of the server's certificate
    authority_sha256: str


def make_certificates(directory, sends_authority=False):
    """sends_authority: the server presents its authority's certificate, too."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name, key, issuer, issuer_key, authority):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    authority_key, server_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    authority = certificate("test authority", authority_key, "test authority", authority_key, True)
    server = certificate("test server", server_key, "test authority", authority_key, False)
    pem = serialization.Encoding.PEM
    made = Certificates(
        directory / "ca.pem",
        directory / "server.pem",
        directory / "server.key",
        server.fingerprint(hashes.SHA256()).hex(),
        authority.fingerprint(hashes.SHA256()).hex(),
    )
    made.authority.write_bytes(authority.public_bytes(pem))
    chain = server.public_bytes(pem) + (authority.public_bytes(pem) if sends_authority else b"")
    made.server.write_bytes(chain)
    made.key.write_bytes(
        server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made
