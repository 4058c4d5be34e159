"""Everything of aioquic that is not its public interface, and how the bridge bends it.

The stock asyncio server collapses under bursts: late acknowledgements make probe timeouts fire, whose
retransmissions make everything later still, a state that it does not leave with 10,000 connections. So probes wait
longer, acknowledgements ride on answers, and whatever costs time in proportion to all connections is avoided.
"""

import gc
import math
import sys

import aioquic
from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicNetworkPath
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.stream import QuicStream

from .steering import Steering

AIOQUIC = "1.7"  # the minor version whose internals this module knows
# Seconds; ours. Answers that leave sooner carry the ACK along (`acknowledge_now`): that of a result comes with its
# commit, 50 ms later. An agent waits longer still before it probes; of others we know that they expect 25 ms.
ACK_DELAY = 0.1
ACK_DELAY_OTHERS = 0.02
MAX_ACK_DELAY = 0.3  # seconds; granted to the agent before a probe is sent

SWITCH_INTERVAL = 0.0005  # seconds

FREEZE_AFTER = 50  # new connections
FREEZE_IDLE = 10.0  # seconds


# A member of an enumeration is hashed by its name, in Python, some forty times for each message; nothing but tables of
# single connections is keyed by these, so that none of them exists yet.
tls.Epoch.__hash__ = object.__hash__  # type: ignore[method-assign]


class WrongVersionError(RuntimeError):
    """The installed aioquic is not the one whose internals this module knows."""


def check_version() -> None:
    """Raises WrongVersionError."""
    if not aioquic.__version__.startswith(AIOQUIC + "."):
        raise WrongVersionError(f"aioquic {AIOQUIC}.x is needed, {aioquic.__version__} is installed")


def share_interpreter() -> None:
    """Let the writer's thread keep the interpreter for a moment only.

    The loop gives it away with system calls and gets it back after this time, by default 5 ms. Beside a busy thread
    it then moves 2.4 times as many datagrams, and the thread does a sixth less.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)


def tune(quic: QuicConnection, *, agent: bool = True) -> None:
    """Set the delays; again after the handshake, when the peer's transport parameters have overwritten them.

    agent: the peer is tuned alike; False: a quic-flow client.
    """
    quic._ack_delay = ACK_DELAY if agent else ACK_DELAY_OTHERS
    quic._loss.max_ack_delay = MAX_ACK_DELAY


def acknowledge_now(quic: QuicConnection, now: float) -> None:
    """Let a delayed acknowledgement go out with what is sent next, instead of in a datagram of its own."""
    space = quic._spaces.get(tls.Epoch.ONE_RTT)
    if space is not None and space.ack_at is not None and space.ack_at > now:
        space.ack_at = now


def can_wait(quic: QuicConnection, now: float) -> bool:
    """Whether a connection that has just received something may keep silent until its timer rings.

    What it then sends later, by the delay of an acknowledgement at most, is what QUIC says by itself: new connection
    ids, limits, a path's answer. Nobody may be waiting for room or for what was lost, and so nothing may be unsent.
    """
    if not quic._handshake_confirmed or quic._close_event is not None or len(quic._streams) != 1:
        return False
    space = quic._spaces[tls.Epoch.ONE_RTT]
    if space.ack_at is not None and space.ack_at <= now:
        return False
    (control,) = quic._streams.values()
    return control.sender.buffer_is_empty


def timer(quic: QuicConnection) -> float:
    """When the connection wants to be looked at again; inf: never."""
    due: float | None = quic.get_timer()
    return math.inf if due is None else due


def timer_after_receipt(quic: QuicConnection) -> float:
    """What `timer` says, or inf where a datagram that has just been received cannot have moved it ahead."""
    space = quic._spaces[tls.Epoch.ONE_RTT]
    if space.ack_eliciting_in_flight or space.loss_time is not None:
        return timer(quic)
    return math.inf if space.ack_at is None else space.ack_at


def close_of(quic: QuicConnection) -> ConnectionTerminated | None:
    """How the connection ends, as soon as either side has closed it; the event comes three probe timeouts later."""
    event: ConnectionTerminated | None = quic._close_event
    return event


class LeanConnection(QuicConnection):
    """A connection that looks for what is rarely to be said once, not at every datagram in two rounds.

    Nearly all that a bridge sends is one packet with a piece of the control stream, an acknowledgement or both.
    """

    def _write_application(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        stream = self._lone_stream(network_path)
        if stream is None:
            super()._write_application(builder, network_path, now)
            return
        space, crypto = self._spaces[tls.Epoch.ONE_RTT], self._cryptos[tls.Epoch.ONE_RTT]
        acknowledges = space.ack_at is not None and space.ack_at <= now
        if not acknowledges:
            self._pacing_at = self._loss._pacer.next_send_time(now=now)
            if self._pacing_at is not None or stream.sender.buffer_is_empty:
                return
        builder.start_packet(QuicPacketType.ONE_RTT, crypto)
        if acknowledges:
            self._write_ack_frame(builder=builder, space=space, now=now)
        if not (stream.is_blocked or stream.sender.buffer_is_empty):
            room = self._remote_max_data - self._remote_max_data_used
            self._remote_max_data_used += self._write_stream_frame(
                builder=builder,
                space=space,
                stream=stream,
                max_offset=min(stream.sender.highest_offset + room, stream.max_stream_data_remote),
            )
        if not builder.packet_is_empty:
            self._loss._pacer.update_after_send(now=now)
        if len(stream.sender._pending) or stream.sender._pending_eof:  # further packets
            super()._write_application(builder, network_path, now)
        else:
            stream.sender.buffer_is_empty = True

    def _lone_stream(self, path: QuicNetworkPath) -> QuicStream | None:
        """The control stream, when nothing but its data and acknowledgements can be there to be sent; else None."""
        if len(self._streams) != 1 or not self._handshake_confirmed or not path.is_validated:
            return None
        if (
            self._probe_pending
            or self._ping_pending
            or self._datagrams_pending
            or self._retire_connection_ids
            or self._handshake_done_pending
            or self._streams_blocked_pending
            or path.remote_challenges
            or not self._crypto_streams[tls.Epoch.ONE_RTT].sender.buffer_is_empty
        ):
            return None
        data = self._local_max_data
        if data.used * 2 > data.value:
            return None
        for limit in (data, self._local_max_streams_bidi, self._local_max_streams_uni):
            if limit.value != limit.sent:
                return None
        for issued in self._host_cids:
            if not issued.was_sent:
                return None
        (stream,) = self._streams.values()
        if (
            stream.is_finished
            or stream.receiver.stop_pending
            or stream.sender.reset_pending
            or stream.receiver.highest_offset * 2 > stream.max_stream_data_local
            or stream.max_stream_data_local_sent != stream.max_stream_data_local
        ):
            return None
        return stream


class SteeredConnection(LeanConnection):
    """A server's connection whose ids all lead to one of the workers that share a port: `steering` says which."""

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        original_destination_connection_id: bytes,
        steering: Steering,
    ) -> None:
        self._steering = steering
        super().__init__(
            configuration=configuration, original_destination_connection_id=original_destination_connection_id
        )
        first = self._host_cids[0]
        first.cid = steering.steer(first.cid)
        self.host_cid = self._local_initial_source_connection_id = first.cid

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        for issued in self._host_cids:
            if not issued.was_sent:
                issued.cid = self._steering.steer(issued.cid)


def host_ids(quic: QuicConnection) -> list[bytes]:
    """The ids by which the peer may address this end now."""
    return [issued.cid for issued in quic._host_cids]


def unacknowledged(quic: QuicConnection, stream_id: int) -> int:
    """Bytes written to a stream that the peer has not acknowledged."""
    stream = quic._streams.get(stream_id)
    return len(stream.sender._buffer) if stream is not None else 0


def dismantle(quic: QuicConnection) -> None:
    """Free a terminated connection at once.

    It refers to itself through its tables of handlers and through packets that are not acknowledged, and once
    frozen (below) no collector looks at it any more.
    """
    for space in quic._spaces.values():
        space.sent_packets.clear()
    quic.__dict__.clear()


class Freezer:
    """Takes long-lived connections out of the garbage collector's sight.

    A full collection over 10,000 connections stops the loop for more than a second. What is frozen is freed by its
    reference count alone, which `dismantle` makes possible.
    """

    def __init__(self) -> None:
        self._new = 0
        self._last = 0.0

    def connected(self, now: float) -> None:
        """Another connection is there to stay. `now` is the loop's time.

        Nothing is collected while many come: hundreds of handshakes under way would be looked through each time,
        0.3 ms of work for each, to find nothing.
        """
        self._new += 1
        self._last = now
        if self._new >= FREEZE_AFTER:
            self._new = 1  # for `settle`
            gc.freeze()

    def settle(self, now: float) -> None:
        """Collect and freeze when some are new and no more have come for a while."""
        if self._new and now - self._last >= FREEZE_IDLE:
            self._new = 0
            gc.collect()  # looks only at what has come since the last time
            gc.freeze()
